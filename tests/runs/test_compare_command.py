"""`edge-pruning compare` on circuits of a tiny model: tables, JSON, pictures, transfer, and what is refused."""

from __future__ import annotations

import json
import re

import pytest

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation import Evaluation
from edge_pruning.formats import convert
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.runs import evaluate_file
from edge_pruning.runs.transfer import transfer


@pytest.fixture
def runs(finished, tmp_path):
    """Two circuits of one model: for all pairs, and under another ablation."""
    finished("--steps", 20, "--no-draw", "--edges", 12)
    (tmp_path / "run").rename(tmp_path / "first")
    finished("--steps", 20, "--no-draw", "--edges", 20, "--ablation", "zero", "--seed", 1)
    return tmp_path / "first" / "circuit.json", tmp_path / "run" / "circuit.json"


def test_the_tables_say_sizes_overlap_and_transfer(cli, runs):
    result = cli("compare", *runs)
    assert result.exit_code == 0, result.stderr
    a, b = map(Circuit.load, runs)
    lines = {line.strip().partition("  ")[0]: line.split() for line in result.stdout.splitlines()}
    assert lines["in both"][-2:] == [str(len(a & b)), str(len(a.nodes & b.nodes))]
    assert lines["only in A"][-2] == str(len(a - b))
    assert lines["overlap (IoU)"][-2] == f"{a.edge_iou(b):.3f}"
    assert "k and v per key-value head" in result.stdout
    assert "(patch), of A" in result.stdout
    assert "(zero), of B" in result.stdout


def test_transfer_is_the_evaluation_of_each_circuit_on_each_task(cli, runs):
    result = cli("compare", *runs, "--json")
    content = json.loads(result.stdout)
    assert content["transfer"]["columns"][1]["of"] == ["B"]
    for name, path in zip("AB", runs, strict=True):
        for i, ablation in enumerate(("patch", "zero")):
            judged: Evaluation = evaluate_file(path, ablation=ablation, random_circuits=0)
            assert content["transfer"]["rows"][name][i]["kl"] == pytest.approx(judged["circuit"]["kl"], rel=1e-5)
    assert [circuit["file"] for circuit in content["circuits"]] == list(map(str, runs))


def test_circuits_of_one_task_share_a_column(runs):
    seen = []
    found = transfer({"x": runs[0], "y": runs[0]}, progress=lambda done, total: seen.append((done, total)))
    assert [column.of for column in found.columns] == [("x", "y")]
    assert found.rows["x"] == found.rows["y"]
    assert seen == [(1, 2), (2, 2)]


def test_a_number_of_pairs_works_where_the_task_is_a_file_of_pairs(cli, runs):
    whole, some = (cli("compare", *runs, *flags) for flags in ((), ("--test", 1)))
    assert (whole.exit_code, some.exit_code) == (0, 0)
    assert "no transfer" not in some.stdout
    assert some.stdout != whole.stdout


def test_pictures_of_two_and_of_three(cli, runs, tmp_path):
    assert cli("compare", *runs, "-o", tmp_path / "two.svg", "--no-transfer").exit_code == 0
    assert "only in A first" in (tmp_path / "two.svg").read_text()
    assert cli("compare", *runs, runs[0], "-o", tmp_path / "three.svg").exit_code == 0
    text = (tmp_path / "three.svg").read_text()
    assert text.count("ep-cell") == 9 + 9 + 6
    assert "KL on the task of (nats)" in text


def test_three_circuits_have_a_matrix_of_overlaps(cli, runs):
    result = cli("compare", *runs, runs[0], "--no-transfer")
    a, b = map(Circuit.load, runs)
    assert f"{a.edge_iou(b):.3f}" in result.stdout
    assert f"in all circuits: {len(a & b)} edges and {len(a.nodes & b.nodes)} nodes" in result.stdout


def test_a_foreign_file_is_compared_without_transfer_and_the_reason_is_said(cli, runs, tmp_path):
    convert(runs[0], tmp_path / "mib.pt")
    result = cli("compare", runs[0], tmp_path / "mib.pt")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"overlap \(IoU\) +1.000 +1.000", result.stdout)
    assert "no transfer: B came from another tool" in result.stdout


@pytest.mark.parametrize("provenance", [
    {}, {"model": {"name": "bundled"}}, {"model": {"name": "other"}, "task": {"name": "ioi"}},
])
def test_transfer_needs_one_model_and_a_task_for_each(runs, tmp_path, provenance):
    circuit = Circuit.load(runs[0])
    Circuit(circuit.graph, circuit.mask, provenance=provenance).save(tmp_path / "x.json")
    expected = {0: "x does not name its model", 1: "of different models|which task", 2: "of different models"}
    with pytest.raises(ValueError, match=expected[len(provenance)]):
        transfer({"run": runs[0], "x": tmp_path / "x.json"})
    if len(provenance) == 1:
        with pytest.raises(ValueError, match="x does not name its task"):
            transfer({"x": tmp_path / "x.json"})


def test_different_graphs_are_refused_and_their_nodes_offered(cli, runs, tmp_path):
    shape = Circuit.load(runs[0]).graph.shape
    graph = Graph(ModelShape(shape.layers, shape.heads, parallel=True))
    Circuit.from_names(graph, ["m0->logits"]).save(tmp_path / "p.json")
    result = cli("compare", runs[0], tmp_path / "p.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "their nodes can be compared: --nodes" in result.stderr
    nodes = cli("compare", runs[0], tmp_path / "p.json", "--nodes", "-o", tmp_path / "n.svg")
    assert nodes.exit_code == 0, nodes.stderr
    assert (tmp_path / "n.svg").read_text().count("ep-cell") == 4


def test_one_circuit_or_a_broken_file_is_refused(cli, runs, tmp_path):
    assert "expected at least two circuits" in cli("compare", runs[0]).stderr
    (tmp_path / "broken.json").write_text("{")
    result = cli("compare", runs[0], tmp_path / "broken.json")
    assert result.exit_code == 2
    assert "broken.json is truncated or not JSON" in result.stderr
