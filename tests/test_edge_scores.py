"""Scores are cut into circuits, and masks and scores that do not fit a graph are refused."""

from __future__ import annotations

import pytest
import torch
from circuits import GRAPH, GRAPHS, drawn_scores
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.provenance import library_versions


def test_top_keeps_the_highest_scores_and_breaks_ties_in_graph_order() -> None:
    scores = drawn_scores()
    kept = scores.top(9)
    assert int(kept.sum()) == 9
    assert scores.values[kept].min() > scores.values[~kept & GRAPH.edge_mask].max()
    ties = EdgeScores(GRAPH, torch.zeros(GRAPH.edge_mask.shape))
    assert GRAPH.names(ties.top(4)) == GRAPH.names(GRAPH.edge_mask)[:4]


@pytest.mark.parametrize("graph", GRAPHS, ids=repr)
def test_top_is_the_beginning_of_a_stable_sort(graph: Graph) -> None:
    generator = torch.Generator().manual_seed(3)
    values = torch.randint(-2, 3, graph.edge_mask.shape, generator=generator).float()  # many ties
    values[torch.rand(values.shape, generator=generator) < 0.2] = -torch.inf
    values[1, -1], values[0, -1] = torch.inf, -0.0
    scores = EdgeScores(graph, values)
    order = scores.values.flatten().argsort(descending=True, stable=True)
    for size in range(scores.n_candidates + 1):
        assert scores.top(size).flatten().nonzero().flatten().tolist() == sorted(order[:size].tolist())


@pytest.mark.parametrize("size", [3, 40])
def test_circuits_of_one_ranking_are_nested(size: int) -> None:
    small, large = (Circuit.from_scores(drawn_scores(), edges=n) for n in (size, size + 5))
    assert small & large == small


@pytest.mark.parametrize(("threshold", "kept"), [(100.0, 0), (-100.0, GRAPH.n_edges)])
def test_a_threshold_that_keeps_nothing_or_everything_is_said(
    caplog: pytest.LogCaptureFixture, threshold: float, kept: int
) -> None:
    assert len(Circuit.from_scores(drawn_scores(), threshold=threshold)) == kept
    assert f"keeps {kept} of {GRAPH.n_edges} scored edges; their scores are from -" in caplog.text
    caplog.clear()
    Circuit.from_scores(drawn_scores(), threshold=0.0)
    assert not caplog.text


def test_scores_are_cut_by_number_by_threshold_or_by_natural_size() -> None:
    scores = EdgeScores(GRAPH, drawn_scores().values, natural_size=6)
    assert len(Circuit.from_scores(scores)) == 6
    at = float(scores.values[scores.top(11)].min())
    assert Circuit.from_scores(scores, threshold=at) == Circuit.from_scores(scores, edges=11)
    with pytest.raises(ValueError, match="expected edges or threshold, got both"):
        Circuit.from_scores(scores, edges=3, threshold=0.0)
    with pytest.raises(ValueError, match="no natural size; pass edges= or threshold="):
        Circuit.from_scores(drawn_scores())


def test_only_candidates_are_ever_kept() -> None:
    values = torch.full(GRAPH.edge_mask.shape, -torch.inf)
    candidates = GRAPH.mask(["input->m0", "m0->logits", "m0->m1"])
    values[candidates] = torch.tensor([1.0, torch.inf, -3.0])
    scores = EdgeScores(GRAPH, values)
    assert scores.n_candidates == 3
    assert torch.equal(scores.top(3), candidates)
    assert Circuit.from_scores(scores, threshold=-torch.inf) == Circuit(GRAPH, candidates)
    for size in (-1, 4):
        with pytest.raises(ValueError, match=f"expected between 0 and 3 edges, got {size}"):
            scores.top(size)


def test_scores_outside_the_graph_do_not_count() -> None:
    values = torch.where(GRAPH.edge_mask, 0.0, torch.nan)
    assert EdgeScores(GRAPH, values).n_candidates == GRAPH.n_edges


def test_nan_scores_and_wrong_shapes_are_refused() -> None:
    values = drawn_scores().values.clone()
    values[0, :2] = torch.nan
    with pytest.raises(ValueError, match="2 edge scores are NaN"):
        EdgeScores(GRAPH, values)
    with pytest.raises(ValueError, match=r"expected scores \[writer, reader\] of shape .*, got \(3, 4\)"):
        EdgeScores(GRAPH, torch.zeros(3, 4))


@pytest.mark.parametrize("mask", [torch.ones(2, 2, dtype=torch.bool), GRAPH.edge_mask.float(), GRAPH.edge_mask.T])
def test_masks_of_other_shapes_and_types_are_refused(mask: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected a bool mask \[writer, reader\] of shape"):
        Circuit(GRAPH, mask)


def test_masks_outside_the_graph_and_scores_of_other_graphs_are_refused() -> None:
    with pytest.raises(ValueError, match="entries of the mask are not edges of the graph"):
        Circuit(GRAPH, torch.ones_like(GRAPH.edge_mask))
    with pytest.raises(ValueError, match="the scores are of another graph: expected"):
        Circuit(GRAPH, GRAPH.edge_mask, drawn_scores(GRAPHS[1]))


def test_versions_are_named() -> None:
    assert library_versions().keys() == {"edge_pruning", "python", "torch", "transformers"}
