"""The range of sizes: where a ranking's loss begins to fall and where it is nearly gone, with room on either side."""

from __future__ import annotations

import pytest
import torch
from watching import engine, search

from edge_pruning.discovery import size_range as module
from edge_pruning.discovery.size_range import size_range
from edge_pruning.edge_scores import EdgeScores

GRAPH = engine().graph


def ranking() -> EdgeScores:
    return EdgeScores(GRAPH, torch.rand(GRAPH.edge_mask.shape, generator=torch.Generator().manual_seed(0)))


def range_for(
    monkeypatch: pytest.MonkeyPatch, losses: dict[int, float], edges: int, wanted: tuple[int, ...] = ()
) -> tuple[float, float]:
    """The range in a graph that seems to have `edges`, where circuits of so many edges have these losses."""
    monkeypatch.setattr(module._Losses, "of", lambda _, circuit: losses.get(int(circuit.sum()), 0.06))
    monkeypatch.setattr(module.Search, "n_candidates", edges)
    monkeypatch.setattr(EdgeScores, "top", lambda _, size: torch.ones(size, dtype=torch.bool))
    monkeypatch.setattr(module, "AT_LEAST", 1)
    return size_range(search(sizes=wanted), ranking())


@pytest.mark.parametrize(
    ("losses", "edges", "expected"),
    [
        ({8: 3.9, 16: 3.5, 32: 1.0, 64: 0.06}, 10_000, (8, 128)),  # 16 begins to help, 64 is good enough
        ({8: 0.06}, 10_000, (4, 16)),
        ({8: 3.9, 16: 0.1, 32: 0.06}, 10_000, (8, 64)),  # 2.5 % are not good enough, 1.5 % are
        ({8: 3.9, 16: 0.06, 128: 1.0}, 10_000, (8, 512)),  # good enough at 16, but not for good
        ({8: 4.0, 16: 4.1, 32: 3.9}, 100, (4, 50)),  # nothing helps: all sizes up to half of the edges
        ({8: 4.0, 16: 3.0, 32: 2.0}, 100, (8, 50)),
        ({8: 4.0, 16: 3.9, 32: 3.0, 64: 0.06}, 200, (16, 100)),  # at most half of the edges
        ({}, 12, (4, 6)),
    ],
)
def test_it_goes_from_half_the_first_size_that_helps_to_twice_that_from_which_all_are_good_enough(
    losses: dict[int, float], edges: int, expected: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert range_for(monkeypatch, losses | {0: 4.0}, edges) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"), [((3, 500), (3, 500)), ((20,), (8, 128)), ((0, 9000), (1, 5000))],
)  # fmt: skip
def test_sizes_that_the_caller_wants_are_within_it(
    wanted: tuple[int, ...], expected: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {0: 4.0, 8: 3.9, 16: 3.5, 32: 1.0, 64: 0.06}
    assert range_for(monkeypatch, losses, 10_000, wanted) == expected


def test_in_a_small_graph_it_goes_on_to_half_of_the_edges() -> None:
    smallest, largest = size_range(search(), ranking())
    assert 1 <= smallest <= module.FEWEST
    assert largest == GRAPH.n_edges / 2


def test_losses_are_those_of_the_circuits_on_the_first_pairs() -> None:
    from edge_pruning import metrics
    from edge_pruning.ablation import Patch

    pairs, mask = search().data.pairs, ranking().top(20)
    batch = engine().batch(pairs)
    frozen = Patch().freeze(engine(), batch)
    expected = metrics.kl_divergence(frozen.logits, engine().logits(mask.float(), batch, frozen), batch).mean()
    assert module._Losses(search()).of(mask) == pytest.approx(float(expected), rel=1e-4)
