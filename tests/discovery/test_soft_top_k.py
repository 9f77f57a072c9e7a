"""The mask of soft top-k: its size is exact, it keeps the order of the scores, and its gradient is the true one."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from random_models import answered, pair
from torch import Tensor
from watching import DATA, SIZE, Watcher, engine, find, search, short, some_edges

from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery import training
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.discovery.soft_top_k import SoftTopK, SoftTopKMasks, soft_top_k, threshold
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.tasks import PairSet


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


def sizes_of(seed: int, steps: int) -> list[float]:
    """Where the sizes of the first steps are in the range, from 0 to 1 on a logarithmic axis."""
    masks = SoftTopKMasks(SoftTopK(seed=seed), torch.ones(20, 15, dtype=torch.bool), torch.device("cpu"))
    masks.set_range(3, 120)
    sizes = []
    for step in range(steps):
        draw = masks.draw(step, torch.Generator())
        sizes.append(math.log(float(draw.record["target_edges"]) / 3) / math.log(40))
        assert draw.penalty is None
        assert float(draw.mask.detach().sum()) == pytest.approx(float(draw.record["target_edges"]), rel=1e-3)
    return sizes


def test_sizes_are_log_uniform_and_any_few_steps_cover_the_range() -> None:
    sizes = sizes_of(0, 200)
    assert -1e-6 <= min(sizes) < 0.01
    assert 0.99 < max(sizes) <= 1 + 1e-6
    assert torch.histc(torch.tensor(sizes), 10, 0, 1).tolist() == pytest.approx([20] * 10, abs=1)
    for first in range(190):
        few = [0, *sorted(sizes[first : first + 10]), 1]
        assert max(after - before for before, after in pairwise(few)) < 0.2


def test_seeds_have_different_sizes() -> None:
    assert sizes_of(0, 5) != sizes_of(1, 5)


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


@pytest.mark.parametrize("settings", [{"smallest": 0}, {"smallest": 50, "largest": 30}, {"largest": 0}])
def test_impossible_ranges_of_sizes_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="(smallest|largest) must be .*, got"):
        SoftTopK(**settings)


# --- scores of nodes, and the temperature -----------------------------------------------------------------------------


def masks_on(candidates: Tensor, **settings: Any) -> SoftTopKMasks:
    masks = SoftTopKMasks(SoftTopK(**settings), candidates, torch.device("cpu"))
    masks.set_range(3, 9)
    for i, parameter in enumerate(masks.parameters.values()):
        if parameter.requires_grad:
            parameter.data.copy_(scores_of(len(parameter), 1, torch.float32, seed=i))
    return masks


def test_an_edges_score_is_its_own_and_those_of_its_writer_and_its_reader() -> None:
    candidates = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    masks = masks_on(candidates)
    edges, writers, readers = (masks.parameters[name] for name in ("scores", "writers", "readers"))
    expected = [
        edges[i] + writers[w] + readers[r] for i, (w, r) in enumerate(candidates.nonzero().tolist())
    ]
    torch.testing.assert_close(masks.scores(), torch.stack(expected))
    weights = scores_of(len(edges), 1, torch.float32)
    (masks.scores() * weights).sum().backward()
    of_edge = torch.zeros(candidates.shape).masked_scatter(candidates, weights)
    torch.testing.assert_close(writers.grad, of_edge.sum(1))
    torch.testing.assert_close(readers.grad, of_edge.sum(0))
    assert set(masks_on(candidates, node_rate=0.0).parameters) == {"scores", "log_sizes"}


def test_the_temperature_and_the_step_fall_together() -> None:
    masks = masks_on(torch.ones(6, 5, dtype=torch.bool), steps=100, temperature=0.25)
    warm, cold = (masks.draw(step, torch.Generator()) for step in (0, 100))
    for draw, temperature in ((warm, 1.0), (cold, 0.25)):
        expected = soft_top_k(masks.scores() / temperature, draw.record["target_edges"])  # type: ignore[arg-type]
        torch.testing.assert_close(draw.mask, expected)
    constant = masks_on(torch.ones(6, 5, dtype=torch.bool), steps=100, temperature=1.0)
    assert masks.schedule(50) == pytest.approx(0.5 * constant.schedule(50))


def test_scores_of_nodes_have_a_learning_rate_of_their_own() -> None:
    masks = masks_on(torch.ones(6, 5, dtype=torch.bool), learning_rate=0.5, node_rate=3.0)
    rates = {id(p): group["lr"] for group in masks.optimizer().param_groups for p in group["params"]}
    expected = {"scores": 0.5, "writers": 1.5, "readers": 1.5}
    assert rates == {id(masks.parameters[name]): rate for name, rate in expected.items()}


@pytest.mark.parametrize(("settings", "roots"), [({}, 5), ({"root_loss": False}, 0)])
def test_every_step_descends_on_the_root_of_the_loss_unless_it_is_switched_off(
    settings: dict[str, Any], roots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [], training._slope_of_root
    monkeypatch.setattr(training, "_slope_of_root", lambda loss: calls.append(1) or real(loss))
    find(SoftTopK(steps=5, batch_size=4, attribute_first=False, **settings))
    assert len(calls) == roots


@pytest.mark.parametrize("rate", [-1.0, math.inf, math.nan])
def test_impossible_node_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="node_rate must be 0 or positive, got"):
        SoftTopK(node_rate=rate)


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1.5, math.nan])
def test_impossible_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0 and at most 1, got"):
        SoftTopK(temperature=temperature)


# --- how it begins ---------------------------------------------------------------------------------------------------


def test_it_begins_at_minus_the_log_of_the_rank_in_an_attribution_of_the_first_pairs() -> None:
    graph, few = engine().graph, replace(DATA, pairs=DATA.pairs[:6])
    expected = EapIg(metric="kl").find(search(data=few))
    method = SoftTopK(steps=1, learning_rate=1e-6, attributed=6)
    scores = method.find(search())
    assert torch.equal(scores.top(SIZE), expected.top(SIZE))
    best = scores.values[graph.edge_mask].sort(descending=True).values
    torch.testing.assert_close(best, -torch.arange(1, graph.n_edges + 1).log(), rtol=0, atol=1e-4)


def test_initial_scores_take_the_place_of_the_attribution(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = engine().graph
    start = EdgeScores(graph, torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(5)))
    monkeypatch.setattr(EapIg, "find", None)
    scores = find(SoftTopK(steps=1, learning_rate=1e-6), init_scores=start)
    assert torch.equal(scores.top(SIZE), start.top(SIZE))
    with pytest.raises(TypeError):
        find(SoftTopK(steps=1))


def test_a_resumed_run_computes_no_attribution(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher()
    whole = find(SoftTopK(steps=25, batch_size=4), watcher)
    monkeypatch.setattr(EapIg, "find", None)
    resumed = find(SoftTopK(steps=25, batch_size=4), Watcher(watcher.states[0]))
    assert torch.equal(resumed.values, whole.values)


# --- the pairs -------------------------------------------------------------------------------------------------------


class Written:
    """Data whose pairs are the first of many; remembers what it was asked for."""

    def __init__(self, fits: int) -> None:
        self.fits, self.asked = fits, list[int]()

    def __call__(self, size: int) -> PairSet:
        self.asked.append(size)
        pairs = [answered(pair(seed, 5 + seed % 3, (4,)), seed) for seed in range(min(size, self.fits))]
        return replace(DATA, pairs=tuple(pairs))


@pytest.mark.parametrize(("fits", "expected"), [(1000, 12), (11, 11)])
def test_steps_draw_pairs_that_no_step_has_seen_as_long_as_there_are_any(
    fits: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, seen, real = Written(fits), list[Any](), training.mask_gradient

    def watched(engine: Any, cache: Any, ids: Any, *rest: Any) -> Any:
        seen.append([cache.pairs[i] for i in ids])
        return real(engine, cache, ids, *rest)

    monkeypatch.setattr(training, "mask_gradient", watched)
    data, settings = replace(DATA, writer=writer), {"steps": 6, "batch_size": 4, "attribute_first": False}
    find(SoftTopK(**settings), data=data)
    assert writer.asked == [12]
    assert seen[0] == seen[1] != seen[2] == seen[3]  # a batch serves two steps
    assert len({p.clean for batch in seen for p in batch}) == expected
    find(SoftTopK(**settings, fresh=False), data=data)
    assert writer.asked == [12]
    assert {p.clean for batch in seen[6:] for p in batch} <= {p.clean for p in DATA.pairs}


def test_a_batch_that_serves_several_steps_is_frozen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen, real = [], FrozenCache._freeze
    monkeypatch.setattr(FrozenCache, "_freeze", lambda self, batch: frozen.append(1) or real(self, batch))
    data = replace(DATA, writer=Written(1000))
    for uses, times in ((1, 12), (2, 6), (5, 3)):
        frozen.clear()
        find(SoftTopK(steps=12, batch_size=4, batch_uses=uses, attribute_first=False), data=data)
        assert len(frozen) == times
