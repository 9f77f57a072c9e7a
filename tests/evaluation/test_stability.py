"""Stability: overlap, core, rest and consensus of circuits whose edges are written down here."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
import torch

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import Stability
from edge_pruning.evaluation.faithfulness import random_mask
from edge_pruning.graph import Graph, ModelShape

GRAPH = Graph(ModelShape(2, 2))
A, B, C, D, E = "input->m0", "m0->logits", "input->a1.h0<q>", "a1.h0->logits", "a0.h1->a1.h0<v>"


def circuit(*edges: str, best: str | None = None) -> Circuit:
    """With scores if `best` is given: that edge has the highest one."""
    mask = GRAPH.mask(edges)
    scores = None if best is None else GRAPH.mask([best]).float().masked_fill(~GRAPH.edge_mask, -torch.inf)
    known = None if scores is None else EdgeScores(GRAPH, scores)
    return Circuit(GRAPH, mask, known, {"task": {"name": "ioi"}, "seed": 0})


THREE = Stability((circuit(A, B, C), circuit(A, B, D), circuit(A, C, E)), (0, 1, 2))


def test_overlap_is_shared_edges_over_all_edges_of_both() -> None:
    assert THREE.to_json()["edge_iou"]["matrix"] == [[1, 2 / 4, 2 / 4], [2 / 4, 1, 1 / 5], [2 / 4, 1 / 5, 1]]
    found = THREE.to_json()["edge_iou"]
    assert (found["mean"], found["least"], found["most"]) == (pytest.approx(0.4), 0.2, 0.5)


def test_nodes_are_compared_too() -> None:
    """input, m0, logits, a1.h0; input, m0, logits, a1.h0; input, m0, a1.h0, a0.h1."""
    overlap = THREE.to_json()["node_iou"]["matrix"]
    assert overlap[0][1] == 1
    assert overlap[0][2] == pytest.approx(3 / 5)


def test_the_core_is_in_all_and_the_rest_is_counted() -> None:
    assert THREE.core.edges == [A]
    assert set(THREE.union.edges) == {A, B, C, D, E}
    assert THREE.contingent == {B: 2, C: 2, D: 1, E: 1}
    assert list(THREE.contingent.values()) == [2, 2, 1, 1]


def test_the_consensus_is_what_most_have_at_the_median_size() -> None:
    assert set(THREE.consensus.edges) == {A, B, C}
    larger = Stability((circuit(A, B, C), circuit(A, B, C, D), circuit(A, B, C, D, E)), (0, 1, 2))
    assert set(larger.consensus.edges) == {A, B, C, D}


@pytest.mark.parametrize("best", [B, D])
def test_ties_go_to_the_better_rank(best: str) -> None:
    tied = Stability((circuit(A, B, best=best), circuit(A, D, best=best)), (0, 1))
    assert set(tied.consensus.edges) == {A, best}


def test_ranks_never_outweigh_a_circuit_more() -> None:
    """B is last in every ranking, and yet in two circuits of three."""
    scores = torch.where(GRAPH.mask([B]), -1.0, GRAPH.edge_mask.float()).masked_fill(~GRAPH.edge_mask, -torch.inf)
    known, edges = EdgeScores(GRAPH, scores), ([A, B], [B, D], [A, E])
    found = Stability(tuple(Circuit(GRAPH, GRAPH.mask(names), known) for names in edges), (0, 1, 2))
    assert set(found.consensus.edges) == {A, B}


def test_blindly_drawn_circuits_overlap_as_much_as_chance_says() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [Circuit(GRAPH, random_mask(GRAPH, 20, generator)) for _ in range(40)]
    measured = [one.edge_iou(other) for one, other in combinations(drawn, 2)]
    found = Stability(tuple(drawn), tuple(range(40))).to_json()["edge_iou"]
    assert sum(measured) / len(measured) == pytest.approx(found["by_chance"], rel=0.05)
    assert found["mean"] == pytest.approx(sum(measured) / len(measured))


def test_what_was_agreed_on_says_where_it_came_from() -> None:
    assert THREE.consensus.provenance["seed"] == [0, 1, 2]
    assert THREE.consensus.provenance["of_seeds"] == "consensus"
    assert THREE.core.provenance["task"] == {"name": "ioi"}


def test_seeds_that_disagree_are_warned_about() -> None:
    assert "share 0.40 of their edges" in THREE.warnings[0]
    assert "all 2 seeds gave the same circuit" in Stability((circuit(A, B), circuit(A, B)), (0, 1)).warnings[0]
    assert "have 1 to 3 edges" in Stability((circuit(A), circuit(A, B, C)), (0, 1)).warnings[-1]
    assert not Stability((circuit(A, B, C), circuit(A, B, C, D)), (0, 1)).warnings[1:]


def test_the_json_is_plain() -> None:
    content = json.loads(json.dumps(THREE.to_json(), allow_nan=False))
    assert content["seeds"] == [0, 1, 2]
    assert content["core"]["names"] == [A]
    assert content["consensus"]["edges"] == 3
    empty = Stability((circuit(), circuit()), (0, 1)).to_json()
    assert empty["edge_iou"]["mean"] == 1
    assert empty["edge_iou"]["by_chance"] == 1


@pytest.mark.parametrize(("circuits", "seeds"), [((), ()), ((circuit(A),), (0,)), ((circuit(A), circuit(B)), (0,))])
def test_fewer_than_two_circuits_cannot_be_compared(circuits: tuple[Circuit, ...], seeds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected at least 2 circuits and one seed for each"):
        Stability(circuits, seeds)


def test_circuits_of_different_graphs_cannot_be_compared() -> None:
    other = Graph(ModelShape(1, 2))
    with pytest.raises(ValueError, match="belong to different graphs"):
        Stability((circuit(A), Circuit(other, other.edge_mask)), (0, 1))
