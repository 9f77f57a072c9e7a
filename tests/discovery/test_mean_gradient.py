"""The mean gradient is the gradient of soft top-k at zero scores, averaged over its sizes: against exactly that."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from watching import DATA, engine, find, search

from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery import mean_gradient
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.discovery.mean_gradient import SHARES, MeanGradient
from edge_pruning.discovery.soft_top_k import soft_top_k
from edge_pruning.objectives import KL

DRAWS = 80


def gradient_in_scores(k: float) -> Tensor:
    """Of the loss, at zero scores and size k, through the solved threshold; [edge]."""
    graph = engine().graph
    scores = torch.zeros(graph.n_edges, requires_grad=True)
    mask = soft_top_k(scores, torch.tensor(k))
    on_graph = torch.zeros(graph.edge_mask.shape)
    on_graph[graph.edge_mask] = mask.detach()
    cache = FrozenCache(engine(), DATA.pairs, Patch())
    _, gradient = mask_gradient(engine(), cache, range(len(DATA.pairs)), on_graph, KL)
    mask.backward(gradient[graph.edge_mask])
    assert scores.grad is not None
    return scores.grad


@pytest.mark.parametrize("size", SHARES)
def test_it_is_the_mean_gradient_of_soft_top_k_at_zero_scores(size: str) -> None:
    n, total = engine().graph.n_edges, 0.0
    literal = torch.zeros(n)
    for draw in range(DRAWS):
        u = (draw + 0.5) / DRAWS
        k = u * n if size == "uniform" else math.exp(math.log(n * 1e-3) * (1 - u) + math.log(n) * u)
        literal -= gradient_in_scores(k)
        total += k / n * (1 - k / n)
    found = find(MeanGradient(size=size, steps=DRAWS)).values[engine().graph.edge_mask]
    torch.testing.assert_close(literal / total, found - found.mean(), rtol=0.03, atol=0.01 * float(found.abs().max()))


@pytest.mark.parametrize(
    ("size", "weight"), [("uniform", lambda a: 6 * a * (1 - a)), ("log-uniform", lambda a: 2 * (1 - a))]
)
def test_between_two_points_lies_an_equal_part_of_the_weight(size: str, weight: Any) -> None:
    for u in (0.1, 0.25, 0.5, 0.9):
        shares = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
        below = sum(weight(a) for a in shares.tolist() if a < SHARES[size](u)) / 10_000
        assert below == pytest.approx(u, abs=1e-3)


def test_it_costs_one_pass_over_the_pairs_per_point(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor] = []
    real = mean_gradient.mask_gradient

    def counted(*arguments: Any) -> Any:
        masks.append(arguments[3])
        return real(*arguments)

    monkeypatch.setattr(mean_gradient, "mask_gradient", counted)
    MeanGradient(steps=7).find(search())
    assert len(masks) == 7
    assert all(len(mask[engine().graph.edge_mask].unique()) == 1 for mask in masks)


def test_a_size_it_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be uniform or log-uniform, got 'log'"):
        MeanGradient(size="log")
