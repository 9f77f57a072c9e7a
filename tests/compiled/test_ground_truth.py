"""A circuit beside the true one: counted by hand, drawn in three colours, and written into evaluation.json."""

from __future__ import annotations

import html
import itertools
import json
import random
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import edge_pruning as ep
from edge_pruning.circuit import Circuit
from edge_pruning.cli.app import app
from edge_pruning.drawing import draw_against_truth
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.models.tracr import bundled_programs
from edge_pruning.truth.recovery import GroundTruth, area, areas, roc
from edge_pruning.truth.truth import Truth
from edge_pruning.truth.truths import known_truths


def truth(name: str = "xproportion", ablation: str = "zero", embeddings: str = "split") -> Truth:
    known = known_truths(f"tracr:{name}")
    assert known
    return next(t for t in known.truths if (t.ablation, t.graph.embeddings) == (ablation, embeddings))


def judged(names: list[str], scores: torch.Tensor | None = None) -> dict:
    graph = truth().graph
    known = None if scores is None else EdgeScores(graph, scores)
    return GroundTruth.of(Circuit(graph, graph.mask(names), known), truth(), truth().data_hash).to_json()


def test_hits_misses_and_extras_are_named() -> None:
    """The truth: tok->m0, pos->a1.h0<q>, pos->a1.h0<k>, m0->a1.h0<v>, a1.h0->logits."""
    found = judged(["tok->m0", "m0->a1.h0<v>", "a1.h0->logits", "tok->logits"])
    assert found["true_edges"] == 5
    assert found["hits"] == ["tok->m0", "m0->a1.h0<v>", "a1.h0->logits"]
    assert found["missed"] == ["pos->a1.h0<q>", "pos->a1.h0<k>"]
    assert found["extra"] == ["tok->logits"]
    assert (found["precision"], found["recall"], found["exact"]) == (0.75, 0.6, False)
    assert found["auc"] is None
    assert (found["ablation"], found["same_data"]) == ("zero", True)


def test_nodes_are_judged_too() -> None:
    found = judged(["tok->m0", "m0->logits", "a0.h0->logits"])["nodes"]
    assert found["true_nodes"] == 5  # tok, pos, m0, a1.h0, logits
    assert found["hits"] == ["tok", "m0", "logits"]
    assert found["missed"] == ["pos", "a1.h0"]
    assert found["extra"] == ["a0.h0"]


def test_the_true_circuit_is_exact_and_the_empty_one_has_no_precision() -> None:
    graph = truth().graph
    scores = truth().by_ablation.float() + 0.1 * torch.rand(graph.edge_mask.shape)
    perfect = judged(graph.names(truth().by_ablation), scores)
    assert perfect["exact"]
    assert perfect["nodes"]["exact"]
    assert perfect["auc"] == perfect["nodes"]["auc"] == 1.0
    assert perfect["roc"]["true_positive_rate"][-1] == 1.0
    empty = judged([])
    assert (empty["precision"], empty["recall"], empty["exact"]) == (None, 0.0, False)


def test_the_truth_by_the_weights_stands_beside_it() -> None:
    found = judged(truth().graph.names(truth().by_weights))
    assert found["extra"] == ["tok->a1.h0<q>", "tok->a1.h0<k>"]
    assert not found["exact"]
    assert found["by_weights"]["exact"]


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    """The literal oracle, with ties, edges without a score and scores far apart; one row or several at once."""
    rng, undefined = random.Random(0), 0
    for _ in range(20):
        true = torch.tensor([rng.random() < 0.1 for _ in range(30)])
        scores = torch.tensor([[rng.choice([-torch.inf, -1e30, 0.0, 1.0, 2.0]) for _ in range(30)] for _ in range(3)])
        found = areas(true, scores)
        if not true.any():
            undefined += 1
            assert found is None
            continue
        for row, one in zip(scores, found, strict=True):
            pairs = itertools.product(row[true].tolist(), row[~true].tolist())
            wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]
            assert float(one) == area(true, row) == pytest.approx(sum(wins) / len(wins))
    assert 0 < undefined < 10


def test_the_curve_encloses_the_area() -> None:
    drawn = torch.rand(3, 30, generator=torch.Generator().manual_seed(0))
    true, scores = drawn[0] > 0.7, drawn[1].where(drawn[2] > 0.3, -torch.inf)
    curve = roc(true, scores)
    assert curve is not None
    x, y = torch.tensor(curve["false_positive_rate"]), torch.tensor(curve["true_positive_rate"])
    assert float(torch.trapezoid(y, x)) == pytest.approx(area(true, scores))


def test_there_is_no_area_where_all_or_none_are_true() -> None:
    scores = torch.rand(4)
    for true in (torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)):
        assert area(true, scores) is None
        assert roc(true, scores) is None


def test_random_scores_are_at_chance() -> None:
    found = judged(["tok->m0", "tok->logits", "pos->logits", "pos->m0", "pos->m1"])["random"]
    assert found["auc"] == pytest.approx(0.5, abs=0.03)
    assert found["hits"] == pytest.approx(5 * 5 / 32, abs=0.2)
    assert found["exact"] == 0


def test_a_truth_of_another_graph_is_refused() -> None:
    other = truth("reverse")
    with pytest.raises(ValueError, match="the circuit and the truth belong to different graphs"):
        GroundTruth.of(Circuit(other.graph, other.by_ablation), truth(), "")


def test_the_picture_has_three_colours() -> None:
    graph = truth().graph
    found = Circuit(graph, graph.mask(["tok->m0", "tok->logits"]))
    text = draw_against_truth(found, Circuit(graph, truth().by_ablation))
    for words in ("hits (1)", "misses: true, but not found (4)", "extras: found, but not true (1)"):
        assert words in text
    drawn = {name: text.split(f'data-edge="{name}"')[1].split("</g>")[0] for name in
             ("tok-&gt;m0", "tok-&gt;logits", "a1.h0-&gt;logits")}
    hues = {part.rpartition('stroke="#')[2][:6] for part in drawn.values()}
    assert len(hues) == 3
    exact = draw_against_truth(Circuit(graph, truth().by_ablation), Circuit(graph, truth().by_ablation))
    assert "Exact: every true edge, and no other." in exact


# --- whole runs -------------------------------------------------------------------------------------------------------


def cli(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], prog_name="edge-pruning")
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_a_run_is_judged_against_the_truth(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shown = cli("discover", "tracr:xproportion", "--out", folder)
    assert "5 true edges; 5 hits, 0 missed, 0 extra: exact" in shown
    assert "squared error" in shown
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert {"true_edges", "hits", "missed", "extra", "exact", "auc"} <= evaluation["ground_truth"].keys()
    assert evaluation["circuit"]["kl"] is None
    assert evaluation["circuit"]["squared_error"] < 1e-6 < evaluation["empty"]["squared_error"]
    assert evaluation["circuit"]["accuracy"] is None
    assert "hits (5)" in (folder / "truth.svg").read_text()
    config = json.loads((folder / "config.json").read_text())["settings"]
    assert (config["model"], config["ablation"], config["embeddings"]) == ("tracr:xproportion", "zero", "split")
    again = json.loads(cli("evaluate", folder / "circuit.json", "--json"))
    assert again["ground_truth"] == evaluation["ground_truth"]
    patched = json.loads(cli("evaluate", folder / "circuit.json", "--ablation", "patch", "--json"))
    assert patched["ground_truth"]["true_edges"] == int(truth(ablation="patch").by_ablation.sum()) == 3
    assert "squared_error" in patched["model"]


@pytest.mark.parametrize("method", ["eap-ig", "soft-top-k", "random"])
def test_any_method_finds_a_size_that_keeps_every_output(method: str) -> None:
    settings = {"steps": 20} if method == "soft-top-k" else {}
    run = ep.discover("tracr:hist", method=method, **settings)
    assert run.evaluation["circuit"]["exact_match"] == 1
    assert run.evaluation["ground_truth"]["recall"] == 1
    assert "keeps every output" in run.circuit.provenance["size_rule"]


def test_truth_from_a_file_must_fit(tmp_path: Path) -> None:
    run = ep.discover("tracr:hist", method="random", out=tmp_path / "run", draw=False)
    assert run.folder
    other = Path(ep.__file__).parent / "models" / "tracr" / "bundled" / "count" / "truth.json"
    words = ["evaluate", str(run.folder / "circuit.json"), "--truth", str(other)]
    done = CliRunner().invoke(app, words, prog_name="edge-pruning")
    assert done.exit_code == 2
    assert "truth of another program: 'count'" in done.stderr
    own = str(other.parent.parent / "hist" / "truth.json")
    mean = CliRunner().invoke(app, [*words[:2], "--truth", own, "--ablation", "mean"], prog_name="edge-pruning")
    assert mean.exit_code == 2
    assert "not known under mean ablation" in " ".join(mean.stderr.split())


def test_other_weights_than_the_circuits_are_refused() -> None:
    with pytest.raises(ValueError, match="'tracr:hist' has weights .*, not 0123: it was compiled anew"):
        ep.load_model("tracr:hist", revision="0123")


def test_a_joint_embedding_has_a_truth_of_its_own() -> None:
    run = ep.discover("tracr:shift_by", embeddings="joint")
    assert run.circuit.graph == Graph(run.circuit.graph.shape)
    assert run.evaluation["ground_truth"]["exact"]
    assert "shift_by" in bundled_programs()


def test_a_program_of_numbers_has_a_report_and_a_curve(tmp_path: Path) -> None:
    run = ep.discover("tracr:xproportion", method="soft-top-k", steps=20, out=tmp_path / "run", draw=False)
    assert run.folder
    cli("evaluate", run.folder / "circuit.json", "--report")
    page, shown = (run.folder / "report.html").read_text(), cli("curve", run.folder / "circuit.json")
    for words in ("a squared error of <strong>", "<th>squared error</th>", "Squared error increase without each edge"):
        assert words in page
    assert "KL divergence of" not in page
    assert "tracr:xproportion in tracr:xproportion" not in page
    assert "squared error of 10 % of the empty circuit's" in shown
    assert "KL (nats)" not in shown
    report = json.loads((run.folder / "report.json").read_text())
    assert report["evaluation"]["loss"] == report["curve"]["loss"] == report["minimality"]["loss"] == "squared_error"
    reached = {row["level"]: row["edges"] for row in report["curve"]["levels"]}
    assert reached["squared_error 0.1"] is not None


def test_the_page_shows_the_circuit_against_the_truth(tmp_path: Path) -> None:
    run = ep.discover("tracr:hist", method="random", edges=5, out=tmp_path / "run", draw=False)
    assert run.folder
    found = run.evaluation["ground_truth"]
    cli("evaluate", run.folder / "circuit.json", "--report")
    page = (run.folder / "report.html").read_text()
    assert "Against the truth" in page
    assert "ROC of the scores, area" in page
    assert f"{len(found['hits'])} of them were found, with {len(found['extra'])} others" in page
    assert f"misses: true, but not found ({len(found['missed'])})" in page
    for words in ("missed", "extra"):
        assert html.escape(", ".join(found[words])) in page
