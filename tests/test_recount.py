"""Laws of counting the same circuit another way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.recount import recount

SHAPES = (ModelShape(2, 3), ModelShape(1, 4, 2, parallel=True), ModelShape(3, 6, 2), ModelShape(2, 2, 1))
seeds = st.integers(0, 10_000)
circuits = st.builds(
    lambda shape, seed, embeddings, kv, density: random_circuit(Graph(shape, embeddings, kv), seed, density),
    st.sampled_from(SHAPES), seeds, st.sampled_from(["joint", "split"]), st.sampled_from(["kv", "query"]),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)


def random_circuit(graph: Graph, seed: int, density: float) -> Circuit:
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit.from_scores(EdgeScores(graph, values), edges=int(density * graph.n_edges), provenance={"seed": seed})


@given(circuits)
def test_expanding_and_merging_again_changes_nothing(circuit):
    expanded, _ = recount(circuit, embeddings="split", kv="query")
    back, _ = recount(expanded, embeddings=circuit.graph.embeddings, kv=circuit.graph.kv)
    merged, _ = recount(circuit, embeddings="joint", kv="kv")
    twice, _ = recount(expanded, embeddings="joint", kv="kv")
    assert set(circuit.edges) <= set(back.edges)
    assert twice == merged
    if circuit.graph.embeddings == "joint":
        assert back == circuit
        assert torch.equal(back.scores.values[back.graph.edge_mask], circuit.scores.values[circuit.graph.edge_mask])


@given(circuits)
def test_merging_loses_no_edge_and_says_how_many_it_completes(circuit):
    """Literally, by names: an edge is kept where any of its parts was."""
    merged, notices = recount(circuit, embeddings="joint", kv="kv")
    group = circuit.graph.shape.heads // circuit.graph.shape.kv_heads if circuit.graph.kv == "query" else 1

    def renamed(edge: str) -> str:
        writer, _, reader = edge.partition("->")
        if reader.endswith(("<k>", "<v>")):
            node, _, kind = reader.partition("<")
            layer, _, head = node.partition(".h")
            reader = f"{layer}.h{int(head) // group}<{kind}"
        return f"{'input' if writer in ('tok', 'pos') else writer}->{reader}"

    assert set(merged.edges) == {renamed(edge) for edge in circuit.edges}
    assert len(notices) == (circuit.graph.embeddings == "split") + (circuit.graph.kv == "query")
    best = {}
    for edge, score in scores_of(circuit).items():
        best[renamed(edge)] = max(score, best.get(renamed(edge), score))
    assert scores_of(merged) == best


def scores_of(circuit: Circuit) -> dict[str, float]:
    edges = circuit.graph.edge_mask
    return dict(zip(circuit.graph.names(edges), circuit.scores.values[edges].tolist(), strict=True))


@given(circuits)
def test_nodes_do_not_depend_on_how_keys_and_values_are_counted(circuit):
    expanded, _ = recount(circuit, kv="query")
    assert expanded.nodes == circuit.nodes


@given(circuits)
def test_an_edge_dangles_exactly_where_all_its_parts_do(circuit):
    merged, _ = recount(circuit, embeddings="joint", kv="kv")
    expanded, _ = recount(merged, embeddings="split", kv="query")
    back, _ = recount(expanded.without_dangling(), embeddings="joint", kv="kv")
    assert back == merged.without_dangling()


def test_a_merged_edge_that_was_kept_in_part_is_in_the_notice():
    graph = Graph(ModelShape(1, 2, 1), "split", "query")
    circuit = Circuit.from_names(graph, ["tok->a0.h0<k>", "pos->a0.h0<k>", "tok->a0.h1<k>", "tok->logits"])
    merged, (embeddings, heads) = recount(circuit, embeddings="joint", kv="kv")
    assert merged.edges == ["input->a0.h0<k>", "input->logits"]
    assert embeddings == ("tok and pos are counted as one writer, input; 4 of 21 edges became 3 of 13, "
                          "2 of them previously kept in part and now whole")
    assert heads.endswith("3 of 13 edges became 2 of 11")
    assert merged.provenance == circuit.provenance


@pytest.mark.parametrize("asked", [{}, {"embeddings": "joint"}, {"kv": "kv"}, {"kv": "query"}])
def test_nothing_to_do_is_no_notice(asked):
    """Where every head has its own keys and values there is one way to count them."""
    circuit = random_circuit(Graph(ModelShape(2, 3)), 1, 0.3)
    assert recount(circuit, **asked) == (circuit, [])


def test_graphs_without_shared_heads_are_equal_however_they_were_asked_for():
    assert Graph(ModelShape(2, 3), kv="query") == Graph(ModelShape(2, 3))
    assert Graph(ModelShape(2, 4, 2), kv="query") != Graph(ModelShape(2, 4, 2))
