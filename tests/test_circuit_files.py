"""A circuit comes back from its file, and files that are no circuit are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from circuits import GRAPH, GRAPHS, drawn_circuit, drawn_scores

from edge_pruning.circuit import Circuit
from edge_pruning.graph import Graph


@pytest.mark.parametrize("graph", GRAPHS, ids=repr)
@pytest.mark.parametrize("edges", [0, 7, None])
def test_a_circuit_comes_back_from_its_file(tmp_path: Path, graph: Graph, edges: int | None) -> None:
    scores = drawn_scores(graph)
    provenance = {"task": "ioi", "settings": {"steps": 300, "within": None}}
    circuit = Circuit.from_scores(scores, edges=graph.n_edges if edges is None else edges, provenance=provenance)
    circuit.save(tmp_path / "circuit.json")
    found = Circuit.load(tmp_path / "circuit.json")
    assert found == circuit
    assert found.provenance == provenance
    assert found.scores is not None
    assert torch.equal(found.scores.values, scores.values)


def test_a_circuit_without_scores_is_one_file(tmp_path: Path) -> None:
    circuit = drawn_circuit(1)
    circuit.save(tmp_path / "circuit.json")
    assert [path.name for path in tmp_path.iterdir()] == ["circuit.json"]
    found = Circuit.load(str(tmp_path / "circuit.json"))
    assert found == circuit
    assert found.scores is None


def test_the_file_lists_sorted_edges_and_every_count(tmp_path: Path) -> None:
    circuit = drawn_circuit(2)
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


def broken(tmp_path: Path, change: Any) -> Path:
    """A saved circuit whose content was changed."""
    path = tmp_path / "circuit.json"
    Circuit.from_scores(drawn_scores(), edges=5).save(path)
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
    path = broken(tmp_path, change)
    with pytest.raises(ValueError, match=message) as error:
        Circuit.load(path)
    assert "circuit.json" in str(error.value)


def test_other_json_and_truncated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="expected the format .edge-pruning/circuit., got"):
        Circuit.load(path)
    drawn_circuit(3).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"circuit\.json is truncated"):
        Circuit.load(path)
    with pytest.raises(ValueError, match=r"nowhere\.json does not exist"):
        Circuit.load(tmp_path / "nowhere.json")


def test_a_circuit_can_be_sent_without_its_scores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    circuit = Circuit.from_scores(drawn_scores(), edges=5)
    circuit.save(tmp_path / "circuit.json")
    (tmp_path / "scores.safetensors").unlink()
    found = Circuit.load(tmp_path / "circuit.json")
    assert (found, found.scores) == (circuit, None)
    assert "its file of scores (scores.safetensors) is missing" in caplog.text


def test_truncated_scores_are_refused(tmp_path: Path) -> None:
    Circuit.from_scores(drawn_scores(), edges=5).save(tmp_path / "circuit.json")
    scores = tmp_path / "scores.safetensors"
    scores.write_bytes(scores.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"circuit\.json: .*scores\.safetensors is truncated"):
        Circuit.load(tmp_path / "circuit.json")


def test_the_scores_file_is_looked_for_beside_the_circuit_only(tmp_path: Path) -> None:
    path = broken(tmp_path, lambda c: c.update(scores="../../etc/scores.safetensors"))
    assert Circuit.load(path).scores is not None
