"""Circuits and scores as values: files, set algebra, cutting, and everything that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edge_pruning import circuit_table
from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.provenance import library_versions

GRAPH = Graph(ModelShape(2, 3))
GRAPHS = [GRAPH, Graph(ModelShape(2, 4, 2, parallel=True), "split"), Graph(ModelShape(1, 2, 1), "joint", "query")]


def _scores(graph: Graph = GRAPH, seed: int = 0) -> EdgeScores:
    return EdgeScores(graph, torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed)))


def _circuit(seed: int, density: float = 0.4, graph: Graph = GRAPH) -> Circuit:
    drawn = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit(graph, (drawn < density) & graph.edge_mask, provenance={"seed": seed})


EMPTY = Circuit(GRAPH, torch.zeros_like(GRAPH.edge_mask))
FULL = Circuit(GRAPH, GRAPH.edge_mask)

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
    circuit = _circuit(5)
    assert circuit.counts == circuit.counts
    circuit.to_json()
    assert len(calls) == 1
    assert circuit.nodes is circuit.nodes


def test_the_origin_names_what_the_provenance_names() -> None:
    provenance = {"model": {"d_model": 64}, "task": {"name": "ioi", "settings": {}}, "ablation": "patch", "seed": 0}
    circuit = Circuit(GRAPH, GRAPH.edge_mask, provenance=provenance)
    assert circuit.provenance.names == {"task": "ioi", "ablation": "patch", "seed": "0"}


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", GRAPHS, ids=repr)
@pytest.mark.parametrize("edges", [0, 7, None])
def test_a_circuit_comes_back_from_its_file(tmp_path: Path, graph: Graph, edges: int | None) -> None:
    scores = _scores(graph)
    provenance = {"task": "ioi", "settings": {"steps": 300, "within": None}}
    circuit = Circuit.from_scores(scores, edges=graph.n_edges if edges is None else edges, provenance=provenance)
    circuit.save(tmp_path / "circuit.json")
    found = Circuit.load(tmp_path / "circuit.json")
    assert found == circuit
    assert found.provenance == provenance
    assert found.scores is not None
    assert torch.equal(found.scores.values, scores.values)


def test_a_circuit_without_scores_is_one_file(tmp_path: Path) -> None:
    circuit = _circuit(1)
    circuit.save(tmp_path / "circuit.json")
    assert [path.name for path in tmp_path.iterdir()] == ["circuit.json"]
    found = Circuit.load(str(tmp_path / "circuit.json"))
    assert found == circuit
    assert found.scores is None


def test_the_file_lists_sorted_edges_and_every_count(tmp_path: Path) -> None:
    circuit = _circuit(2)
    circuit.save(tmp_path / "circuit.json")
    content = json.loads((tmp_path / "circuit.json").read_text())
    assert content["edges"] == sorted(circuit.edges)
    assert content["counts"] == {
        "edges": len(circuit),
        "edges_without_dangling": len(circuit.without_dangling()),
        "edges_total": GRAPH.n_edges,
        "convention": "one embedding writer; q per head, k and v per key-value head",
    }


def nested(levels: int) -> Any:
    return [] if levels == 0 else [nested(levels - 1)]


def _broken(tmp_path: Path, change: Any) -> Path:
    """A saved circuit whose content was changed."""
    path = tmp_path / "circuit.json"
    Circuit.from_scores(_scores(), edges=5).save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=99), "written in format version 99; .* upgrade with: pip install"),
        (lambda c: c.update(format="eap-ig"), "expected the format .edge-pruning/circuit., got"),
        (lambda c: c.pop("edges"), "circuit.json is damaged: edges: missing"),
        (lambda c: c.pop("version"), "circuit.json is damaged: version: expected a whole number, got None"),
        (lambda c: c["graph"].pop("shape"), r"is damaged: graph\.shape: missing"),
        (lambda c: c["graph"]["shape"].update(width=3), r"graph\.shape\.width: there is no such field"),
        (lambda c: c.update(edges=[1, 2]), r"is damaged: edges\[0\]: expected a string, got 1"),
        (lambda c: c["edges"].append("a9.h9->logits"), r"circuit\.json: 1 names are not edges of this graph: a9\.h9"),
        (lambda c: c["graph"]["shape"].update(layers=3), "holds scores of another graph"),
        (lambda c: c["graph"]["shape"].update(layers=10**9), "expected at most 1,000 layers and heads"),
        (lambda c: c["graph"]["shape"].update(layers=900, heads=900), "pairs of a writer and a reader; expected at mo"),
        (lambda c: c["graph"]["shape"].update(layers=True), "expected a whole number, got True"),
        (lambda c: c["graph"].update(kv="all"), r"graph\.kv: expected 'kv' or 'query', got 'all'"),
        (lambda c: c.update(provenance="x"), "provenance: expected an object, got 'x'"),
        (lambda c: c["provenance"].update(model=3), r"provenance\.model: expected an object or a string, got 3"),
        (lambda c: c["provenance"].update(task={"name": []}), r"provenance\.task\.name: expected a string"),
        (lambda c: c["provenance"].update(task="\ud800"), r".ud800 is half of a character"),
        (lambda c: c["provenance"].update(deep=nested(99)), "nested more than 100 levels deep"),
        (lambda c: c.update(edges=None, scores="é" * 300), "edges: expected a list, got None"),
        (lambda c: c.update(scores=".."), "holds no scores|is a folder"),
    ],
)
def test_files_that_are_no_circuit_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = _broken(tmp_path, change)
    with pytest.raises(ValueError, match=message) as error:
        Circuit.load(path)
    assert "circuit.json" in str(error.value)


def test_other_json_and_truncated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="expected the format .edge-pruning/circuit., got"):
        Circuit.load(path)
    _circuit(3).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"circuit\.json is truncated"):
        Circuit.load(path)
    with pytest.raises(ValueError, match=r"nowhere\.json does not exist"):
        Circuit.load(tmp_path / "nowhere.json")


def test_a_circuit_can_be_sent_without_its_scores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    circuit = Circuit.from_scores(_scores(), edges=5)
    circuit.save(tmp_path / "circuit.json")
    (tmp_path / "scores.safetensors").unlink()
    found = Circuit.load(tmp_path / "circuit.json")
    assert (found, found.scores) == (circuit, None)
    assert "its file of scores (scores.safetensors) is missing" in caplog.text


def test_truncated_scores_are_refused(tmp_path: Path) -> None:
    Circuit.from_scores(_scores(), edges=5).save(tmp_path / "circuit.json")
    scores = tmp_path / "scores.safetensors"
    scores.write_bytes(scores.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"circuit\.json: .*scores\.safetensors is truncated"):
        Circuit.load(tmp_path / "circuit.json")


def test_the_scores_file_is_looked_for_beside_the_circuit_only(tmp_path: Path) -> None:
    path = _broken(tmp_path, lambda c: c.update(scores="../../etc/scores.safetensors"))
    assert Circuit.load(path).scores is not None


# --- set algebra ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_set_algebra_is_that_of_sets(seed: int) -> None:
    a, b = _circuit(seed), _circuit(seed + 50)
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
    a, b = _circuit(seed, 0.1), _circuit(seed + 50, 0.1)
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
    assert (_circuit(1) - _circuit(2)).provenance == {"operation": "difference", "of": [{"seed": 1}, {"seed": 2}]}


def test_circuits_are_values() -> None:
    a = _circuit(1)
    same = Circuit(GRAPH, a.mask.clone(), _scores(), {"other": "origin"})
    assert a == same
    assert len({a, same, _circuit(2)}) == 2
    assert a != _circuit(2)
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


# --- scores and refusals -------------------------------------------------------------------------------------------


def test_top_keeps_the_highest_scores_and_breaks_ties_in_graph_order() -> None:
    scores = _scores()
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
    small, large = (Circuit.from_scores(_scores(), edges=n) for n in (size, size + 5))
    assert small & large == small


@pytest.mark.parametrize(("threshold", "kept"), [(100.0, 0), (-100.0, GRAPH.n_edges)])
def test_a_threshold_that_keeps_nothing_or_everything_is_said(
    caplog: pytest.LogCaptureFixture, threshold: float, kept: int
) -> None:
    assert len(Circuit.from_scores(_scores(), threshold=threshold)) == kept
    assert f"keeps {kept} of {GRAPH.n_edges} scored edges; their scores are from -" in caplog.text
    caplog.clear()
    Circuit.from_scores(_scores(), threshold=0.0)
    assert not caplog.text


def test_scores_are_cut_by_number_by_threshold_or_by_natural_size() -> None:
    scores = EdgeScores(GRAPH, _scores().values, natural_size=6)
    assert len(Circuit.from_scores(scores)) == 6
    at = float(scores.values[scores.top(11)].min())
    assert Circuit.from_scores(scores, threshold=at) == Circuit.from_scores(scores, edges=11)
    with pytest.raises(ValueError, match="expected edges or threshold, got both"):
        Circuit.from_scores(scores, edges=3, threshold=0.0)
    with pytest.raises(ValueError, match="no natural size; pass edges= or threshold="):
        Circuit.from_scores(_scores())


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
    values = _scores().values.clone()
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
        Circuit(GRAPH, GRAPH.edge_mask, _scores(GRAPHS[1]))


def test_versions_are_named() -> None:
    assert library_versions().keys() == {"edge_pruning", "python", "torch", "transformers"}


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
