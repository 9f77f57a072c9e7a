"""Circuits as values: their nodes and edges, set algebra, tables and parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from circuits import EMPTY, FULL, GRAPH, GRAPHS, drawn_circuit, drawn_scores

from edge_pruning import circuit_table
from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape

# --- reading -------------------------------------------------------------------------------------------------------


def test_nodes_are_those_with_an_edge_in_or_out() -> None:
    assert Circuit.from_names(GRAPH, ["a0.h1->a1.h2<k>"]).nodes == {"a0.h1", "a1.h2"}
    assert Circuit.from_names(GRAPH, ["input->m0", "m1->logits"]).nodes == {"input", "m0", "m1", "logits"}
    grouped = Graph(ModelShape(2, 4, 2))
    assert Circuit.from_names(grouped, ["m0->a1.h1<v>"]).nodes == {"m0", "a1.h2", "a1.h3"}
    assert Circuit.from_names(grouped, ["m0->a1.h1<q>"]).nodes == {"m0", "a1.h1"}
    assert EMPTY.nodes == frozenset()


def test_an_edge_is_looked_up_by_name() -> None:
    circuit = Circuit.from_names(GRAPH, ["a0.h1->a1.h2<k>"])
    assert "a0.h1->a1.h2<k>" in circuit
    assert "a0.h1->a1.h2<q>" not in circuit
    for unknown in ("a0.h9->m1", "m1->m0", "m0", "", 3):
        assert unknown not in circuit


def test_sizes_and_nodes_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, sweep = [], Graph.without_dangling
    monkeypatch.setattr(Graph, "without_dangling", lambda *given: calls.append(given) or sweep(*given))
    circuit = drawn_circuit(5)
    assert circuit.counts == circuit.counts
    circuit.to_json()
    assert len(calls) == 1
    assert circuit.nodes is circuit.nodes


def test_the_origin_names_what_the_provenance_names() -> None:
    provenance = {"model": {"d_model": 64}, "task": {"name": "ioi", "settings": {}}, "ablation": "patch", "seed": 0}
    circuit = Circuit(GRAPH, GRAPH.edge_mask, provenance=provenance)
    assert circuit.provenance.names == {"task": "ioi", "ablation": "patch", "seed": "0"}


# --- set algebra ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_set_algebra_is_that_of_sets(seed: int) -> None:
    a, b = drawn_circuit(seed), drawn_circuit(seed + 50)
    names_a, names_b = set(a.edges), set(b.edges)
    assert set((a | b).edges) == names_a | names_b
    assert set((a & b).edges) == names_a & names_b
    assert set((a - b).edges) == names_a - names_b
    assert a | b == b | a
    assert a & b == b & a
    assert (a - b) | (a & b) == a
    assert (a - b) & b == EMPTY
    assert a | FULL == FULL
    assert len(a | b) + len(a & b) == len(a) + len(b)
    assert Circuit.from_names(GRAPH, a.edges) == a


@pytest.mark.parametrize("seed", range(5))
def test_iou_is_shared_over_all(seed: int) -> None:
    a, b = drawn_circuit(seed, 0.1), drawn_circuit(seed + 50, 0.1)
    for found, x, y in ((a.edge_iou(b), a.edges, b.edges), (a.node_iou(b), a.nodes, b.nodes)):
        assert found == len(set(x) & set(y)) / len(set(x) | set(y))
    assert a.edge_iou(b) == b.edge_iou(a)
    assert a.edge_iou(a) == a.node_iou(a) == 1


def test_iou_of_empty_circuits() -> None:
    assert EMPTY.edge_iou(EMPTY) == EMPTY.node_iou(EMPTY) == 1
    assert EMPTY.edge_iou(FULL) == EMPTY.node_iou(FULL) == 0


def test_nodes_join_what_a_head_reads_and_writes() -> None:
    circuit = Circuit.from_names(GRAPH, ["input->a0.h1<k>", "a0.h1->m1", "m1->logits"])
    assert circuit.nodes == {"input", "a0.h1", "m1", "logits"}


def test_derived_circuits_say_what_they_came_from() -> None:
    found = drawn_circuit(1) - drawn_circuit(2)
    assert found.provenance == {"operation": "difference", "of": [{"seed": 1}, {"seed": 2}]}


def test_circuits_are_values() -> None:
    a = drawn_circuit(1)
    same = Circuit(GRAPH, a.mask.clone(), drawn_scores(), {"other": "origin"})
    assert a == same
    assert len({a, same, drawn_circuit(2)}) == 2
    assert a != drawn_circuit(2)
    assert a != a.edges
    assert a.edges[0] in a
    assert EMPTY.edges == []
    assert a.edges[0] not in EMPTY
    assert repr(EMPTY).startswith(f"Circuit(0 of {GRAPH.n_edges} edges; one embedding writer")


def test_a_circuit_does_not_change_with_the_tensor_it_was_made_from() -> None:
    mask = GRAPH.edge_mask.clone()
    circuit = Circuit(GRAPH, mask)
    mask.zero_()
    assert circuit == FULL


def test_circuits_of_different_graphs_do_not_mix() -> None:
    other = Circuit(GRAPHS[1], GRAPHS[1].edge_mask)
    for operation in ("__or__", "__and__", "__sub__", "edge_iou", "node_iou"):
        with pytest.raises(ValueError, match="belong to different graphs: .*one embedding writer.* and .*tok and pos"):
            getattr(FULL, operation)(other)
    assert other != FULL


def test_dangling_edges_are_counted_and_removed() -> None:
    circuit = Circuit.from_names(GRAPH, ["input->m0", "m0->logits", "m0->a1.h0<q>", "a0.h0->logits"])
    assert circuit.without_dangling().edges == ["input->m0", "m0->logits"]
    assert circuit.counts["edges"] == 4
    assert circuit.counts["edges_without_dangling"] == 2


# --- tables and parts -------------------------------------------------------------------------------------------------


@pytest.fixture
def scored() -> Circuit:
    """A circuit of five edges whose scores are 1 to 5."""
    names = ["input->a0.h1<q>", "a0.h1->a1.h2<k>", "input->m0", "m0->a1.h2<v>", "a1.h2->logits"]
    values = torch.full(GRAPH.edge_mask.shape, -1.0)
    for score, name in enumerate(names, 1):
        values[GRAPH.place(name)] = score
    return Circuit(GRAPH, GRAPH.mask(names), EdgeScores(GRAPH, values))


def test_a_table_has_a_row_per_edge(scored: Circuit) -> None:
    pandas = pytest.importorskip("pandas")
    table = scored.to_pandas()
    assert list(table.columns) == ["writer", "reader", "layer", "kind", "score"]
    assert list(table.writer + "->" + table.reader) == scored.edges
    of = {row.writer + "->" + row.reader: row for row in table.itertuples()}
    assert (of["m0->a1.h2<v>"].layer, of["m0->a1.h2<v>"].kind, of["m0->a1.h2<v>"].score) == (1, "value", 4)
    assert (of["a1.h2->logits"].kind, pandas.isna(of["a1.h2->logits"].layer)) == ("logits", True)
    assert EMPTY.to_pandas().empty
    assert Circuit(GRAPH, scored.mask).to_pandas().score.isna().all()
    with pytest.raises(ValueError, match="expected .edges. or .nodes., got 'heads'"):
        scored.to_pandas("heads")


def test_a_table_without_pandas_names_the_extra(scored: Circuit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ValueError, match=r"pip install 'edge-pruning\[datasets\]'"):
        scored.to_pandas()


def test_the_importance_of_a_node_is_that_of_the_strongest_edge_it_writes(scored: Circuit) -> None:
    assert scored.importances == {"a1.h2": 5.0, "m0": 4.0, "a0.h1": 2.0}
    assert list(scored.importances) == ["a1.h2", "m0", "a0.h1"]
    assert Circuit(GRAPH, scored.mask).importances == {"a1.h2": 1.0, "m0": 1.0, "a0.h1": 1.0}
    nodes = {row["node"]: row for row in circuit_table.node_rows(scored)}
    assert (nodes["a1.h2"]["edges_in"], nodes["input"]["edges_out"], nodes["input"]["kind"]) == (2, 2, "embedding")


def test_a_subcircuit_has_the_edges_that_fulfil_every_condition(scored: Circuit) -> None:
    assert scored.subcircuit(nodes=["m0"]).edges == ["input->m0", "m0->a1.h2<v>"]
    assert scored.subcircuit(layers=[1], kinds=["key"]).edges == ["a0.h1->a1.h2<k>"]
    assert set(scored.subcircuit(edges=2).edges) == {"m0->a1.h2<v>", "a1.h2->logits"}
    assert scored.subcircuit(kinds=["logits"]).provenance["operation"] == "subcircuit"
    assert scored.subcircuit() == scored
    assert scored.subcircuit(nodes=["logits"]).edges == ["a1.h2->logits"]
    grouped = Circuit.from_names(Graph(ModelShape(2, 4, 2)), ["m0->a1.h1<v>", "m0->a1.h0<v>"])
    assert grouped.subcircuit(nodes=["a1.h3"]).edges == ["m0->a1.h1<v>"]


@pytest.mark.parametrize(("conditions", "message"), [
    ({"nodes": ["m9"]}, "not nodes of this graph: m9"),
    ({"kinds": ["keys"]}, "expected kinds query, key, value, mlp, logits; got keys"),
    ({"edges": 6}, "expected between 0 and 5 edges, got 6"),
])
def test_conditions_that_there_are_none_of_are_refused(
    scored: Circuit, conditions: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scored.subcircuit(**conditions)
    with pytest.raises(ValueError, match="has no scores"):
        Circuit(GRAPH, scored.mask).subcircuit(edges=1)
