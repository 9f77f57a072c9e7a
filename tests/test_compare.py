"""Overlap of circuits: laws of sets, chance against drawing, what is recounted and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_pruning.circuit import Circuit
from edge_pruning.compare import Sets, compare_circuits
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.recount import recount

GRAPH = Graph(ModelShape(2, 4, 2))


def random_circuit(seed: int, edges: int, graph: Graph = GRAPH, provenance=None) -> Circuit:
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit.from_scores(EdgeScores(graph, values), edges=edges, provenance=provenance or {})


several = st.lists(
    st.builds(random_circuit, st.integers(0, 9), st.sampled_from([0, 1, 20, GRAPH.n_edges])), min_size=2, max_size=4
)


@given(several)
def test_every_edge_is_shared_or_missing_somewhere(circuits):
    found = compare_circuits({str(i): circuit for i, circuit in enumerate(circuits)})
    for sets in (found.edges, found.nodes):
        only = [sets.only(i) for i in range(len(circuits))]
        assert sets.union == frozenset().union(*sets.of)
        assert all(sets.shared <= mine <= sets.union for mine in sets.of)
        assert sum(map(len, only)) == len(frozenset().union(*only))
        if len(circuits) == 2:
            assert sets.shared | only[0] | only[1] == sets.union


@given(several)
def test_overlap_is_the_circuits_own_and_symmetric(circuits):
    found = compare_circuits({str(i): circuit for i, circuit in enumerate(circuits)})
    for i, a in enumerate(circuits):
        for j, b in enumerate(circuits):
            assert found.edges.iou[i][j] == found.edges.iou[j][i] == pytest.approx(a.edge_iou(b))
            assert found.nodes.iou[i][j] == pytest.approx(a.node_iou(b))
            assert found.edges.iou[i][j] <= min(found.edges.contained[i][j], found.edges.contained[j][i]) + 1e-12
        assert found.edges.iou[i][i] == found.edges.contained[i][i] == 1


def test_chance_is_what_random_sets_share():
    """Literally: many random sets of 20 and 30 of 100."""
    generator = torch.Generator().manual_seed(0)
    drawn = [[set(torch.randperm(100, generator=generator)[:k].tolist()) for k in (20, 30)] for _ in range(2000)]
    mean = sum(len(a & b) / len(a | b) for a, b in drawn) / len(drawn)
    sets = Sets((frozenset(map(str, range(20))), frozenset(map(str, range(30)))))
    assert sets.chance(100)[0][1] == pytest.approx(mean, abs=0.004)


def test_circuits_counted_differently_are_recounted_and_it_is_said():
    circuit = random_circuit(1, 30)
    other, _ = recount(circuit, embeddings="split", kv="query")
    found = compare_circuits({"mine": circuit, "theirs": other})
    assert found.edges.iou == [[1, 1], [1, 1]]
    assert len(found.notices) == 2
    assert all(notice.startswith("theirs is recounted to be comparable: ") for notice in found.notices)


def test_what_only_one_has_is_listed_strongest_first():
    a, b = random_circuit(1, 30), random_circuit(2, 30)
    only = compare_circuits({"a": a, "b": b}).to_json()["edges"]["only"]["a"]
    scores = [a.scores.values[a.graph.mask([edge])].item() for edge in only]
    assert set(only) == set(a.edges) - set(b.edges)
    assert scores == sorted(scores, reverse=True)
    named = Circuit.from_names(GRAPH, ["m1->logits", "a1.h0->logits"])
    found = compare_circuits({"a": named, "b": b})
    assert found.strongest(found.edges.of[0], 0) == ["a1.h0->logits", "m1->logits"]


def test_json_holds_everything_and_is_plain():
    provenance = {"model": {"name": "gpt2"}, "task": {"name": "ioi"}, "seed": 3}
    circuits = {"a": random_circuit(1, 30, provenance=provenance), "b": random_circuit(2, 40)}
    content = json.loads(json.dumps(compare_circuits(circuits).to_json()))
    assert content["circuits"][0] == {
        "name": "a", "model": "gpt2", "task": "ioi", "seed": "3", "counts": circuits["a"].counts
    }
    assert set(content["edges"]["shared"]) == set(circuits["a"].edges) & set(circuits["b"].edges)
    assert content["edges"].keys() == {"iou", "contained", "iou_by_chance", "shared", "only"}
    assert content["nodes"].keys() == {"iou", "contained", "shared", "only"}


def test_different_models_of_one_shape_are_mentioned():
    a, b = (random_circuit(i, 30, provenance={"model": {"name": name}}) for i, name in enumerate(("gpt2", "distil")))
    notice = (
        "the circuits belong to different models (a: gpt2, b: distil): "
        "nodes with the same name may have different functions"
    )
    assert compare_circuits({"a": a, "b": b}).notices == (notice,)
    assert compare_circuits({"a": a, "b": a}).notices == ()


# --- different graphs -------------------------------------------------------------------------------------------------


def test_circuits_of_different_graphs_are_refused_with_what_differs_and_what_can_be_compared():
    circuits = {"a": random_circuit(1, 30), "b": random_circuit(1, 30, Graph(ModelShape(2, 4, parallel=True)))}
    differ = (
        r"edges do not correspond \(a: 2 layers of 4 heads, 2 key-value heads, sequential blocks; "
        r"b: 2 layers of 4 heads, 4 key-value heads, parallel blocks\).* --nodes"
    )
    with pytest.raises(ValueError, match=differ):
        compare_circuits(circuits)
    found = compare_circuits(circuits, nodes_only=True)
    assert found.edges is None
    assert found.to_json()["edges"] is None
    assert found.nodes.shared == circuits["a"].nodes & circuits["b"].nodes


def test_nodes_of_different_graphs_are_compared_under_one_way_of_counting_embeddings():
    a = Circuit.from_names(GRAPH, ["input->logits"])
    b = Circuit.from_names(Graph(ModelShape(2, 4), "split"), ["tok->logits"])
    assert compare_circuits({"a": a, "b": b}, nodes_only=True).nodes.iou[0][1] == 1


@pytest.mark.parametrize("nodes_only", [False, True])
def test_where_not_even_layers_and_heads_agree_nothing_is_offered(nodes_only):
    circuits = {"a": random_circuit(1, 30), "b": random_circuit(1, 30, Graph(ModelShape(3, 4, 2)))}
    with pytest.raises(ValueError, match="numbers of layers or heads differ, so their nodes do not correspond either"):
        compare_circuits(circuits, nodes_only=nodes_only)


def test_one_circuit_is_nothing_to_compare():
    with pytest.raises(ValueError, match="expected at least two circuits to compare, got 1"):
        compare_circuits({"a": random_circuit(1, 30)})
