"""The mask of soft top-k: its size is exact, it keeps the order of the scores, and its gradient is the true one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from watching import SIZE, Watcher, engine, find, short, some_edges

from edge_pruning.circuit import EdgeScores
from edge_pruning.discovery.soft_top_k import SoftTopK, SoftTopKMasks, soft_top_k, threshold


def scores_of(n: int, width: float, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return (width * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [0, 0.1, 3, 100])
@pytest.mark.parametrize("k", [0.01, 1, 3.7, 150, 299, 299.9])
def test_the_mask_sums_to_k(width: float, k: float, dtype: torch.dtype) -> None:
    mask = soft_top_k(scores_of(300, width, dtype), torch.tensor(k, dtype=dtype))
    assert float(mask.sum()) == pytest.approx(k, rel=1e-4 if dtype == torch.float32 else 1e-9)
    assert mask.dtype == dtype


def test_the_mask_keeps_the_order_of_the_scores_and_ties() -> None:
    scores = scores_of(50, 2).round(decimals=1)
    mask = soft_top_k(scores, torch.tensor(11.0))
    assert len(scores.unique()) < 50
    for a, b in zip(scores.tolist(), mask.tolist(), strict=True):
        assert all((x > a) == (y > b) for x, y in zip(scores.tolist(), mask.tolist(), strict=True))


def test_a_larger_size_opens_every_edge_further() -> None:
    scores = scores_of(40, 2)
    masks = [soft_top_k(scores, torch.tensor(k)) for k in (2.0, 5.0, 20.0, 39.0)]
    assert all((large > small).all() for small, large in zip(masks, masks[1:], strict=False))


def test_only_differences_of_scores_matter() -> None:
    scores, k = scores_of(40, 2), torch.tensor(7.0)
    torch.testing.assert_close(soft_top_k(scores + 55, k), soft_top_k(scores, k))


@pytest.mark.parametrize("k", [0.5, 4.0, 11.5])
def test_the_gradient_is_that_of_finite_differences_with_tau_included(k: float) -> None:
    """`gradcheck` solves for tau again at every shifted score, so a gradient without tau's share would fail."""
    scores = scores_of(12, 2).requires_grad_()
    size = torch.tensor(k, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(soft_top_k, (scores, size), eps=1e-5, atol=1e-6)


def test_the_gradient_of_the_size_in_the_scores_is_zero() -> None:
    scores = scores_of(60, 3).requires_grad_()
    soft_top_k(scores, torch.tensor(9.0, dtype=torch.float64)).sum().backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-12


# --- the threshold ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("scores", "k", "tau"),
    [
        ([0.0] * 8, 4.0, 0.0),
        ([2.5] * 8, 4.0, 2.5),
        ([-7.0], 0.5, -7.0),
        ([0.0] * 4, 1.0, math.log(3)),
        ([0.0] * 1000, 1e-6, math.log(1e9)),
        ([0.0] * 1000, 1000 - 1e-2, -math.log(99_999)),
        ([1e4] * 3 + [-1e4] * 5, 1.5, 1e4),
        ([1e4] * 4 + [-1e4] * 4, 6.0, -1e4),
    ],
)
def test_thresholds_known_by_hand(scores: list[float], k: float, tau: float, dtype: torch.dtype) -> None:
    found = threshold(torch.tensor(scores, dtype=dtype), torch.tensor(k, dtype=dtype))
    assert float(found) == pytest.approx(tau, abs=1e-2 if dtype == torch.float32 else 1e-6)


def test_many_edges_at_a_small_size_are_solved_in_float32() -> None:
    scores = scores_of(2_000_000, 1, torch.float32)
    mask = soft_top_k(scores, torch.tensor(200.0))
    assert float(mask.double().sum()) == pytest.approx(200, rel=1e-3)


# --- in training -----------------------------------------------------------------------------------------------------


def test_sizes_are_drawn_log_uniformly_over_the_whole_range() -> None:
    masks = SoftTopKMasks(SoftTopK(smallest=0.01, largest=0.4), 300, torch.device("cpu"))
    generator, sizes = torch.Generator(), []
    for step in range(200):
        generator.manual_seed(step * 7919 + 1)
        draw = masks.draw(step, generator)
        sizes.append(math.log(float(draw.record["target_edges"]) / 3) / math.log(40))
        assert draw.penalty is None
        assert float(draw.mask.detach().sum()) == pytest.approx(float(draw.record["target_edges"]), rel=1e-3)
    assert -1e-6 <= min(sizes) < 0.03
    assert 0.97 < max(sizes) <= 1 + 1e-6
    counts = torch.histc(torch.tensor(sizes), 4, 0, 1)
    assert counts.min() > 32  # 50 expected, standard deviation 6
    assert counts.max() < 68


def test_the_size_is_what_was_asked_for_at_every_step() -> None:
    watcher = Watcher()
    find(short("soft-top-k"), watcher)
    for record in watcher.records:
        assert record["edges"] == pytest.approx(record["target_edges"], rel=1e-4)


@pytest.mark.parametrize("edges", [1, SIZE, 30])
def test_the_soft_mask_has_the_size_and_the_order_of_the_circuit(edges: int) -> None:
    within = some_edges(engine().graph)
    scores = find(short("soft-top-k"), within=within)
    mask = short("soft-top-k").soft_mask(scores, edges)
    assert mask is not None
    assert float(mask.sum()) == pytest.approx(edges, rel=1e-4)
    assert torch.equal(EdgeScores(scores.graph, mask.masked_fill(~within, -torch.inf)).top(edges), scores.top(edges))


@pytest.mark.parametrize(
    "settings",
    [{"smallest": 0.0}, {"smallest": 0.5, "largest": 0.3}, {"largest": 1.0}, {"largest": float("nan")}],
)
def test_impossible_ranges_of_sizes_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="(smallest|largest) must be .*, got"):
        SoftTopK(**settings)
