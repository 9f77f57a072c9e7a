"""Matryoshka attribution: its sizes, its constant step, and the two published settings."""

from __future__ import annotations

import math

import pytest
import torch

from edge_pruning.discovery import PRESETS
from edge_pruning.discovery.mattr import Mattr, MattrMasks

CPU = torch.device("cpu")
N = 200


def sizes(size: str, draws: int = 200) -> torch.Tensor:
    masks, generator, found = MattrMasks(Mattr(size=size), N, CPU), torch.Generator().manual_seed(0), []
    for step in range(draws):
        draw = masks.draw(step, generator)
        assert float(draw.mask.detach().sum()) == pytest.approx(float(draw.record["target_edges"]), rel=1e-3)
        found.append(float(draw.record["target_edges"]))
    return torch.tensor(found)


def test_sizes_are_uniform_from_one_edge_to_all() -> None:
    k = sizes("uniform")
    assert 1 <= k.min() < k.max() <= N
    assert float(k.mean()) == pytest.approx(N / 2, rel=0.15)
    assert float((k < N / 10).float().mean()) == pytest.approx(0.1, abs=0.07)


def test_sizes_are_uniform_in_their_logarithm_from_one_edge_to_all() -> None:
    k = sizes("log-uniform")
    assert 1 <= k.min() < k.max() <= N
    assert float(k.log().mean()) == pytest.approx(math.log(N) / 2, rel=0.15)
    assert float((k < 10).float().mean()) == pytest.approx(math.log(10) / math.log(N), abs=0.1)


def test_the_step_size_is_constant() -> None:
    masks = MattrMasks(Mattr(), N, CPU)
    assert [masks.schedule(step) for step in (0, 2500, 4999)] == [1, 1, 1]
    assert masks.optimizer().param_groups[0]["lr"] == 0.05


def test_both_published_settings_are_presets() -> None:
    assert PRESETS["mattr"].method == Mattr(size="uniform", learning_rate=0.05, steps=5000, batch_size=1)
    assert PRESETS["mattr-log"].method == Mattr(size="log-uniform", learning_rate=0.1, steps=5000, batch_size=1)


def test_a_size_it_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be uniform or log-uniform, got 'half'"):
        Mattr(size="half")
