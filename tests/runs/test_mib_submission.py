"""`edge-pruning mib submit` on files with the columns of the benchmark's datasets, and on tiny models."""

from __future__ import annotations

import json
import random
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import evaluate_curve
from edge_pruning.evaluation.curve_numbers import SHARES
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.mib import CELLS, Cell, cells_of, problems_of
from edge_pruning.mib.submission import importances
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.pipeline import setup_of

NOUNS = "dog cat bird fox house tree river".split()


def ioi_rows(n: int = 30, split: str = "train") -> list[dict[str, object]]:
    rng, rows = random.Random(split), []
    for _ in range(n):
        subject, other, third = rng.sample(NOUNS, 3)
        sentence = "the {} sees the {} near the {} under the"
        about = {"indirect_object": other, "subject": subject, "random_c": third}
        flipped = {"prompt": sentence.format(subject, other, other)}
        rows.append({"prompt": sentence.format(subject, other, subject), "metadata": about, "split": split,
                     "s2_io_flip_counterfactual": flipped})
    return rows


def choice_rows(n: int = 30) -> list[dict[str, object]]:
    rng, rows = random.Random(1), []
    for _ in range(n):
        labels, others = rng.sample(NOUNS, 4), rng.sample(NOUNS, 4)
        prompt = "red {} blue {} old {} big {} likes"
        rows.append({
            "prompt": prompt.format(*labels), "choices": {"label": labels}, "answerKey": rng.randrange(4),
            "symbol_counterfactual": {"prompt": prompt.format(*others), "choices": {"label": others},
                                      "answerKey": rng.randrange(4)},
        })
    return rows


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def submitted(cli, model_folder, build_model, tmp_path_factory):
    """Two tasks and two models; one has heads that share keys and values."""
    folder = tmp_path_factory.mktemp("mib")
    shared = folder / "shared-heads"
    shutil.copytree(model_folder, shared)
    build_model("llama").hf.save_pretrained(shared)
    ioi = written(folder / "ioi.jsonl", [*ioi_rows(), *ioi_rows(5, "test")])
    mcqa = written(folder / "mcqa.jsonl", choice_rows())
    command = (
        "mib", "submit", "ioi:gpt2,qwen2.5", "mcqa:qwen2.5", "--out", folder / "out", "--method", "eap-ig-signed",
        "--method", "eap-ig", "--model", f"gpt2={model_folder}", "--model", f"qwen2.5={shared}",
        "--data", f"ioi={ioi}", "--data", f"mcqa={mcqa}", "--device", "cpu",
    )  # fmt: skip
    return folder, cli(*command), lambda: cli(*command)


def test_both_submissions_follow_the_rules_and_the_upload_is_printed(submitted, cli):
    folder, done, _ = submitted
    assert done.exit_code == 0, done.stderr
    for metric in ("cpr", "cmd"):
        place = folder / "out" / metric
        found = sorted(str(path.relative_to(place)) for path in place.rglob("*.pt"))
        assert found == [f"edge/{cell}/importances.pt" for cell in ("ioi_gpt2", "ioi_qwen2.5", "mcqa_qwen2.5")]
        assert problems_of(folder / "out" / metric) == []
        assert cli("mib", "check", folder / "out" / metric).exit_code == 0
        assert f"hf upload NAME/mib-{metric} {folder}/out/{metric}" in done.stdout.replace("\n", "")
    assert "Note:" not in done.stdout


def test_the_best_of_the_methods_is_taken_for_each_metric(submitted):
    folder, _, _ = submitted
    report = json.loads((folder / "out" / "report.json").read_text())["cells"]
    for cell, about in report.items():
        areas = about["methods"]
        assert areas[about["taken"]["cpr"]]["cpr"] == max(each["cpr"] for each in areas.values())
        assert areas[about["taken"]["cmd"]]["cmd"] == min(each["cmd"] for each in areas.values())
        for metric, taken in about["taken"].items():
            content = torch.load(folder / "out" / metric / "edge" / cell / "importances.pt", weights_only=True)
            scores = content["edges_scores"][content["edges_in_graph"]]
            assert bool((scores < 0).any()) == (taken == "eap-ig-signed")


def test_keys_and_values_are_written_per_query_head(submitted):
    folder, _, _ = submitted
    content = torch.load(folder / "out" / "cmd" / "edge" / "ioi_qwen2.5" / "importances.pt", weights_only=True)
    assert content["cfg"] == {"n_layers": 2, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 16}
    place = {name: i for i, name in enumerate(content["dst_nodes"])}
    for kind in "kv":
        first, second = (content["edges_scores"][:, place[f"a1.h{head}<{kind}>"]] for head in (0, 1))
        assert torch.equal(first, second)  # both query heads read the same keys and values
    assert torch.equal(content["edges_scores"] > -torch.inf, content["edges_in_graph"])


def test_cells_that_are_written_are_kept(submitted):
    folder, _, again = submitted
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("importances.pt")}
    assert again().exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_areas_of_a_written_file_are_the_trapezoids_of_its_circuits(pairs_file, model_folder, tmp_path):
    """The file is read back, and both areas are worked out from one evaluation per share, to 1e-9."""
    setup = setup_of(RunConfig(task=str(pairs_file), model=str(model_folder)))
    graph = setup.graph
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(3))
    (tmp_path / "importances.pt").write_bytes(importances(EdgeScores(graph, values), setup.model))
    scores = load_signed(tmp_path / "importances.pt")
    sizes = [int(share * graph.n_edges) for share in SHARES]
    curve = evaluate_curve(scores, setup, sizes=[size for size in sizes if size])
    f = [curve.summaries[size]["faithfulness"] if size else 0.0 for size in sizes]
    steps = list(zip(pairwise(SHARES), pairwise(f), strict=True))
    cpr = sum((b - a) * (y + x) / 2 for (a, b), (x, y) in steps)
    cmd = sum((b - a) * (abs(1 - y) + abs(1 - x)) / 2 for (a, b), (x, y) in steps)
    assert curve.areas["cpr"] == pytest.approx(cpr, rel=0, abs=1e-9)
    assert curve.areas["cmd"] == pytest.approx(cmd, rel=0, abs=1e-9)


def load_signed(path: Path) -> EdgeScores:
    from edge_pruning.formats import get_format

    return get_format("eap-ig-pt", signed=True).read(path, {}).circuit.scores


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    return AutoTokenizer.from_pretrained(model_folder)


def test_labels_are_the_ids_of_their_first_tokens_and_other_splits_are_not_read(tokenizer, tmp_path):
    rows = [*ioi_rows(20), *ioi_rows(20, "validation"), *ioi_rows(20, "test")]
    task = Cell("ioi", "gpt2").pairs(tokenizer, str(written(tmp_path / "x.jsonl", rows)), train=None)
    expected = {row["prompt"] for row in rows[:20]}
    found = [task.pairs(tokenizer, split) for split in ("train", "validation", "test")]
    assert {text.clean for pairs in found for text in pairs.texts} == expected
    for pairs in found:
        for pair, text in zip(pairs.pairs, pairs.texts, strict=True):
            about = next(row["metadata"] for row in rows if row["prompt"] == text.clean)
            assert pair.answers == (tuple(tokenizer(f" {about['indirect_object']}").input_ids),)
            assert pair.wrong == (tuple(tokenizer(f" {about['subject']}").input_ids),)


@pytest.mark.parametrize(("name", "broken"), [
    ("names of different length", {"metadata": {"indirect_object": "dog", "subject": "cat", "random_c": "cat dog"}}),
    ("the same prompt twice", {"s2_io_flip_counterfactual": {"prompt": "same"}, "prompt": "same"}),
])
def test_rows_that_the_benchmark_leaves_out_are_left_out(tokenizer, tmp_path, name, broken):
    rows = ioi_rows(20)
    whole = Cell("ioi", "gpt2").pairs(tokenizer, str(written(tmp_path / "x.jsonl", rows)), train=None)
    with_one = written(tmp_path / "y.jsonl", [*rows, {**rows[0], **broken}])
    assert Cell("ioi", "gpt2").pairs(tokenizer, str(with_one), train=None).source == whole.source, name


def test_arithmetic_needs_its_operator_a_counterfactual_and_labels_of_one_token(tokenizer, tmp_path):
    good = [{"prompt": f"the {a} likes {b} and", "label": a, "operator": "+",
             "random_counterfactual": {"prompt": f"the {b} likes {a} and", "label": b}}
            for a in NOUNS for b in NOUNS if a != b]
    bad = [{**good[0], "operator": "-"}, {**good[0], "random_counterfactual": None}, {**good[0], "label": "dog cat"}]
    task = Cell("arithmetic-addition", "llama3").pairs(
        tokenizer, str(written(tmp_path / "x.jsonl", [*bad, *good])), train=None
    )
    assert len(task.source) == len(good)


@pytest.mark.parametrize(("words", "message"), [
    (["ioy:gpt2"], r"MIB has no task 'ioy' \(nearest: ioi\)"),
    (["mcqa:gpt2"], "MIB asks mcqa of qwen2.5, gemma2, llama3; got 'gpt2'"),
])
def test_cells_that_the_benchmark_has_not_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        cells_of(words)


def test_a_task_alone_means_all_of_its_models():
    assert [cell.model for cell in cells_of(["ioi"])] == list(CELLS["ioi"])


def test_other_columns_and_too_few_rows_are_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"row 1: its columns are not those of the dataset hub://mib-bench/ioi"):
        Cell("ioi", "gpt2").pairs(tokenizer, str(written(tmp_path / "x.jsonl", choice_rows(3))), train=None)
    with pytest.raises(ValueError, match="9 of 9 training rows fit the tokenizer of gpt2; expected at least 10"):
        Cell("ioi", "gpt2").pairs(tokenizer, str(written(tmp_path / "y.jsonl", ioi_rows(9))), train=None)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_what_breaks_the_rules_is_said(model_folder, tmp_path, monkeypatch):
    model = load_model(str(model_folder), device="cpu")
    graph = Graph(model.adapter.shape, "joint", "query")
    cell = tmp_path / "edge" / "ioi_gpt3"
    cell.mkdir(parents=True)
    whole = importances(EdgeScores(graph, torch.zeros(graph.edge_mask.shape)), model)
    (cell / "importances.pt").write_bytes(whole)
    monkeypatch.setattr("edge_pruning.mib.rules.LARGEST", 1_000)
    content = torch.load(cell / "importances.pt")
    problems = " ".join(problems_of(tmp_path))
    for words in ("ioi_gpt3 is no cell of the benchmark", "files of more than 50 MB", "at least 2 tasks", "2 models"):
        assert words in problems
    content["edges_scores"].fill_(0)
    torch.save(content, cell / "importances.pt")
    assert "minus infinity where there is no edge" in " ".join(problems_of(tmp_path))
    (cell / "notes.txt").write_text("")
    assert "expected importances.pt alone" in " ".join(problems_of(tmp_path))
    assert problems_of(tmp_path / "none")[0].endswith("holds no edge/TASK_MODEL/importances.pt")
