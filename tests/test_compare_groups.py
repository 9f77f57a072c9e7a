"""Two groups of circuits: overlaps across and within, against loops over sets of names."""

from __future__ import annotations

import itertools
import statistics

import pytest
import torch

from edge_pruning.circuit import Circuit
from edge_pruning.compare_groups import GroupComparison
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape

GRAPH = Graph(ModelShape(3, 4, kv_heads=2))


def random_circuit(seed: int, edges: int, *, scored: bool = False) -> Circuit:
    values = torch.rand(GRAPH.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    circuit = Circuit.from_scores(EdgeScores(GRAPH, values), edges=edges)
    return circuit if scored else Circuit(GRAPH, circuit.mask)


@pytest.fixture
def compared() -> GroupComparison:
    groups = {"a": [random_circuit(i, 30) for i in range(3)], "b": [random_circuit(i, 40) for i in range(3, 5)]}
    return GroupComparison(groups, {"a": random_circuit(0, 25, scored=True), "b": random_circuit(0, 35)})


@pytest.mark.parametrize("what", ["edges", "nodes"])
def test_overlaps_are_means_over_the_pairs_of_circuits(compared: GroupComparison, what: str) -> None:
    a, b = ([set(getattr(circuit, what)) for circuit in group] for group in compared.groups.values())
    found = compared.overlap(what)  # type: ignore[arg-type]
    for key, pairs in (("across", itertools.product(a, b)), ("a", itertools.combinations(a, 2)),
                       ("b", itertools.combinations(b, 2))):
        each = [(len(x & y) / len(x | y), len(x & y) / min(len(x), len(y))) for x, y in pairs]
        of = found["across"] if key == "across" else found["within"][key]
        for i, measure in enumerate(("iou", "of_smaller")):
            values = [pair[i] for pair in each]
            assert of[measure] == pytest.approx(
                {"mean": statistics.fmean(values), "least": min(values), "most": max(values)}
            )


def test_overlap_by_chance_is_what_random_circuits_share(compared: GroupComparison) -> None:
    drawn = [(set(random_circuit(2 * i, 30).edges), set(random_circuit(2 * i + 1, 40).edges)) for i in range(300)]
    expected = compared.overlap("edges")["by_chance"]
    iou, of_smaller = (statistics.fmean(each) for each in zip(
        *((len(x & y) / len(x | y), len(x & y) / 30) for x, y in drawn), strict=True
    ))
    assert expected["iou"]["mean"] == pytest.approx(iou, rel=0.1)
    assert expected["of_smaller"]["mean"] == pytest.approx(of_smaller, rel=0.1)
    assert compared.overlap("nodes")["by_chance"] is None


def test_counts_by_kind_and_by_layer_add_up(compared: GroupComparison) -> None:
    for column in ("kind", "layer"):
        rows = compared.by(column)
        for name, circuit in (*compared.agreed.items(), ("shared", compared.shared)):
            assert sum(row[name] for row in rows) == len(circuit)
    assert [row["layer"] for row in compared.by("layer")][-1] is None


def test_what_only_one_has_is_sorted_by_its_scores(compared: GroupComparison) -> None:
    a, b = compared.agreed.values()
    only = compared.only("a")
    assert set(only) == set(a.edges) - set(b.edges)
    assert a.scores is not None
    scores = [float(a.scores.values[GRAPH.place(edge)]) for edge in only]  # type: ignore[index]
    assert scores == sorted(scores, reverse=True)
    assert compared.only("b") == (b - a).edges


def test_a_group_of_one_has_no_overlap_within() -> None:
    circuit = random_circuit(0, 10)
    found = GroupComparison({"a": [circuit], "b": [circuit]}, {"a": circuit, "b": circuit}).overlap("edges")
    assert found["within"] == {"a": None, "b": None}
    assert found["across"]["iou"]["mean"] == 1.0


def test_other_graphs_and_numbers_of_groups_are_refused() -> None:
    own, other = random_circuit(0, 10), Circuit.from_names(Graph(ModelShape(1, 1)), ["input->m0"])
    with pytest.raises(ValueError, match="belong to different graphs"):
        GroupComparison({"a": [own], "b": [other]}, {"a": own, "b": other})
    with pytest.raises(ValueError, match="expected two groups of circuits, each with its agreed circuit, got .*'a'"):
        GroupComparison({"a": [own]}, {"a": own})
