"""Bad input: a clear error on stderr, all problems at once, exit code 2, no traceback, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import edge_pruning as ep
from edge_pruning import files, metrics
from edge_pruning.circuit import Circuit
from edge_pruning.runs import RunConfig, RunFolder, pipeline


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """What is no folder is not looked for on a network either."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def assert_refused(result: Any, *words: str) -> None:
    """Exit code 2, every word on stderr, nothing on stdout."""
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.fixture
def circuit_file(finished, tmp_path) -> Path:
    finished("--steps", 20, "--no-draw", "--edges", 12)
    return tmp_path / "run" / "circuit.json"


def edited(path: Path, **changes: Any) -> Path:
    """A circuit file with other contents."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


# --- names and numbers ------------------------------------------------------------------------------------------------


def test_unknown_names_are_reported_together_with_the_nearest_ones(cli, tmp_path):
    result = cli("discover", "iio", "--method", "soft-top", "--ablation", "pach", "--out", tmp_path / "run")
    assert_refused(result, "there is no task 'iio'", "nearest: ioi", "'soft-top'", "soft-top-k", "'pach'", "patch")
    assert not (tmp_path / "run").exists()


def test_unknown_model(cli, tmp_path):
    result = cli("discover", "ioi", "--model", "bundeld", "--out", tmp_path / "run")
    assert_refused(result, "'bundeld'", "Did you mean 'bundled'?")
    assert not (tmp_path / "run").exists()


def test_unknown_setting(discover):
    result = discover("--set", "stepz=3", "--set", "steps=many", "--set", "seed")
    assert_refused(result, "--set: expected NAME=VALUE, got 'seed'")
    result = discover("--set", "stepz=3", "--set", "steps=many")
    assert_refused(result, "no setting 'stepz' (nearest: steps", "steps: expected a whole number, got 'many'")


def test_unknown_task_setting(discover):
    assert_refused(discover("--data", "tarin=5"), "has no setting tarin", "skip_unequal")


def test_unknown_kind_of_list(cli):
    assert_refused(cli("list", "metods"), "methods")


@pytest.mark.parametrize("edges", ["0", "-1", "100000", "ten", "9,100000", ""])
def test_edges_out_of_range(discover, tmp_path, edges):
    assert_refused(discover("--edges", edges), "expected", "edges")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sparsity", ["1", "-0.1", "97", "0.99999", "nan"])
def test_sparsity_out_of_range(discover, tmp_path, sparsity):
    assert_refused(discover("--sparsity", sparsity), "expected a sparsity", sparsity)
    assert not (tmp_path / "run").exists()


def test_edges_and_sparsity_together(discover):
    assert_refused(discover("--edges", 9, "--sparsity", 0.5), "expected edges or sparsity, got both")


@pytest.mark.parametrize(("flag", "value", "words"), [
    ("--device", "tpu", "device 'tpu' is not available"),
    ("--shard", "--device=cpu", "but --device cpu was given, too; leave one of them out"),
    ("--shard", "--device=auto", "there is only one: torchrun"),
    ("--dtype", "float8", "expected dtype auto, float32"),
    ("--embeddings", "both", "expected embeddings 'joint' or 'split'"),
    ("--heads", "all", "kv 'kv' or 'query'"),
])
def test_values_that_there_are_none_of(discover, flag, value, words):
    assert_refused(discover(flag, value), words)


def test_several_problems_are_reported_at_once():
    with pytest.raises(ValueError, match="there is no task 'iio'") as caught:
        RunConfig(task="iio", method="soft", sparsity=(2.0,), dtype="int8")
    for word in ("'soft'", "got 2.0", "got 'int8'"):
        assert word in str(caught.value)


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("missing", "part"), [
    ("model.safetensors", "weights"), ("config.json", "configuration"),
    ("tokenizer.json", "tokenizer"),
])
def test_a_model_folder_without_a_part(cli, model_folder, pairs_file, tmp_path, missing, part):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    for path in [folder / missing, *(folder.glob("tokenizer*") if part == "tokenizer" else [])]:
        path.unlink(missing_ok=True)
    result = cli("discover", pairs_file, "--model", folder, "--out", tmp_path / "run")
    assert_refused(result, f"could not load the {part}", "the folder")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("kind", "reason"), [
    ("bert", "post-norm"), ("t5", "encoder-decoder"), ("xglm", "no adapter"),
])
def test_an_architecture_that_is_not_supported(cli, pairs_file, tmp_path, kind, reason):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    assert_refused(cli("discover", pairs_file, "--model", folder), f"model type '{kind}' is not supported", reason)


def test_a_model_with_broken_weights(cli, model_folder, pairs_file, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.0.mlp.c_fc.weight"][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert_refused(cli("discover", pairs_file, "--model", folder), "is not run exactly")


# --- pairs ------------------------------------------------------------------------------------------------------------

GOOD = {"clean": "the dog sees the cat", "corrupted": "the bird sees the cat", "answer": " fox"}


def pairs_of(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("rows", "words"), [
    ([], ["the file is empty"]),
    (['{"clean": ', GOOD, "nonsense"], ["line 1: not valid JSON", "line 3: not valid JSON"]),
    ([{"clean": "the dog"}], ["line 1: missing corrupted"]),
    ([GOOD, GOOD | {"clean": "the dog"}], ["differ in length (first: line 2, 2 and 5 tokens"]),
    ([GOOD | {"corrupted": GOOD["clean"]}], ["line 1: clean and corrupted are the same"]),
    ([GOOD | {"wrong_answer": " fox"}], ["line 1: ' fox' is both the answer and the wrong answer"]),
    ([GOOD | {"answer": " elephant"}], ["line 1: the answer ' elephant' is not in the vocabulary"]),
    ([GOOD | {"clean": "the dog " * 9, "corrupted": "the cat " * 9}], ["line 1: 18 tokens", "context ends at 16"]),
])
def test_pairs_that_cannot_be_used(cli, model_folder, tmp_path, rows, words):
    path = pairs_of(tmp_path / "own.jsonl", rows)
    assert_refused(cli("discover", path, "--model", model_folder, "--out", tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


def test_a_file_of_pairs_that_does_not_exist(cli, model_folder, tmp_path):
    result = cli("discover", tmp_path / "none.jsonl", "--model", model_folder)
    assert_refused(result, "none.jsonl", "does not exist")


def test_pairs_without_validation_rows_are_refused_at_once_if_a_size_must_be_chosen(cli, model_folder, tmp_path):
    nouns = ("dog", "cat", "bird", "fox")
    rows = [
        {"clean": f"the {noun} sees", "corrupted": "the tree sees", "answer": " red", "split": split}
        for noun, split in zip(nouns, ("train", "train", "test", "test"), strict=True)
    ]
    path = pairs_of(tmp_path / "own.jsonl", rows)
    arguments = ("discover", path, "--model", model_folder, "--out", tmp_path / "run", "--steps", 10, "--no-draw")
    assert_refused(cli(*arguments), "split 'validation' has no pairs")
    assert not (tmp_path / "run").exists()
    assert cli(*arguments, "--edges", 9).exit_code == 0


# --- a loss that is not finite ----------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(discover, tmp_path, monkeypatch):
    calls, real = [], metrics.kl_divergence
    at_once = ["--set", "attribute_first=false", "--set", "smallest=1", "--set", "largest=40"]  # a loss per step

    def sometimes_nan(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return real(*arguments) * (torch.nan if len(calls) > 24 else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "kl_divergence", sometimes_nan)
        result = discover("--steps", 30, "--edges", 9, "--no-draw", *at_once)
    assert_refused(result, "not finite at step 25", "checkpoint was kept", "lower learning rate")
    folder = tmp_path / "run"
    assert int(files.read_tensors(folder / "checkpoint.safetensors")["steps"]) in (10, 20)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 20
    assert discover("--resume").exit_code == 0


# --- circuit files ----------------------------------------------------------------------------------------------------


def test_a_circuit_of_another_model(cli, circuit_file, build_model, tmp_path):
    other = tmp_path / "llama"
    build_model("llama").hf.save_pretrained(other)
    for path in Path(json.loads(circuit_file.read_text())["provenance"]["model"]["name"]).glob("tokenizer*"):
        shutil.copy(path, other)
    assert_refused(cli("evaluate", circuit_file, "--model", other), "is a circuit of another model", "kv_heads=2")


def test_a_circuit_with_unknown_edges(cli, circuit_file):
    edited(circuit_file, edges=["input->m0", "a0.h9->m1", "m1->m0"])
    for command in ("evaluate", "draw"):
        assert_refused(cli(command, circuit_file), "2 names are not edges", "a0.h9->m1", "m1->m0")


def test_a_truncated_circuit(cli, circuit_file):
    circuit_file.write_text(circuit_file.read_text()[:200])
    for command in ("evaluate", "draw"):
        assert_refused(cli(command, circuit_file), "circuit.json is truncated or not JSON")


def test_a_circuit_with_truncated_scores(cli, circuit_file):
    scores = circuit_file.with_name("scores.safetensors")
    scores.write_bytes(scores.read_bytes()[:-20])
    assert_refused(cli("evaluate", circuit_file), "scores.safetensors is truncated")


def test_a_circuit_of_a_newer_format(cli, circuit_file):
    edited(circuit_file, version=99)
    assert_refused(cli("draw", circuit_file), "format version 99", "upgrade")


def test_a_file_that_is_no_circuit(cli, pairs_file, tmp_path):
    assert_refused(cli("evaluate", tmp_path / "none.json"), "none.json does not exist")
    assert_refused(cli("draw", tmp_path), "is a folder")
    (tmp_path / "other.json").write_text("{}")
    assert_refused(cli("draw", tmp_path / "other.json"), "other.json", "unknown format", "--from")


def test_a_circuit_that_does_not_say_where_it_came_from(cli, circuit_file, tmp_path):
    bare = tmp_path / "bare.json"
    Circuit(Circuit.load(circuit_file).graph, Circuit.load(circuit_file).mask).save(bare)
    assert_refused(cli("evaluate", bare), "does not name its task, model", "--task, --model")


def test_an_unknown_split_or_ablation(cli, circuit_file):
    assert_refused(cli("evaluate", circuit_file, "--split", "tset"), "expected split 'train', 'validation', 'test'")
    assert_refused(cli("evaluate", circuit_file, "--ablation", "zeros"), "nearest: zero")


def test_scores_that_are_not_numbers(cli, circuit_file, tmp_path):
    file = circuit_file.with_name("scores.safetensors")
    scores = load_file(file)["scores"]
    scores[0, 0] = torch.nan
    save_file({"scores": scores}, file)
    assert_refused(cli("curve", circuit_file), "1 edge scores are NaN")
    assert_refused(cli("evaluate", circuit_file, "--report"), "1 edge scores are NaN")
    assert not (tmp_path / "run" / "report.html").exists()


# --- run folders ------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_empty(discover, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    assert_refused(discover(), "is not empty", "--out")
    assert_refused(discover("--resume"), "is not a run folder")
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"


def test_a_folder_with_a_run(discover, circuit_file, tmp_path):
    before = circuit_file.read_bytes()
    assert_refused(discover("--edges", 9), "holds a run", "--resume", "--overwrite")
    assert circuit_file.read_bytes() == before


def test_overwrite_does_not_delete_what_no_run_has_written(cli, model_folder, pairs_file):
    """A model's folder has a config.json too."""
    before = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    result = cli("discover", pairs_file, "--model", model_folder, "--out", model_folder, "--overwrite")
    assert_refused(result, "is not a run folder", "config.json")
    assert {path.name: path.read_bytes() for path in model_folder.iterdir()} == before


def test_resume_and_overwrite_together(discover):
    assert_refused(discover("--resume", "--overwrite"), "expected resume or overwrite, got both")


def test_a_folder_that_cannot_be_written(cli, model_folder, pairs_file, tmp_path):
    (tmp_path / "file").write_text("mine")
    result = cli("discover", pairs_file, "--model", model_folder, "--out", tmp_path / "file" / "run")
    assert_refused(result, "file is a file, expected a folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write everywhere
    with pytest.raises(ValueError, match="no permission in"):
        RunFolder(tmp_path / "run")


def test_a_folder_that_turns_out_to_be_read_only(discover, tmp_path, monkeypatch):
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert_refused(discover("--edges", 9), "could not write to", "run: Read-only file system")


def test_a_run_folder_of_a_newer_version(discover, circuit_file, tmp_path):
    config = tmp_path / "run" / "config.json"
    edited(config, version=99)
    assert_refused(discover("--resume"), "format version 99", "upgrade")


def test_problems_are_found_before_anything_is_computed(model_folder, pairs_file, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "setup_of", lambda *_, **__: pytest.fail("loaded a model"))
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        ep.discover(str(pairs_file), model=str(model_folder), out=tmp_path)


def test_a_real_process_says_it_in_one_line_with_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "edge_pruning", "discover", "iio", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: there is no task 'iio'")


def test_an_unknown_preset_and_a_preset_of_another_method(discover):
    assert_refused(discover("--preset", "papers"), "no preset 'papers'; nearest: paper")
    assert_refused(discover("--preset", "paper", "--method", "soft-top-k"), "is of method 'edge-pruning'")


def test_a_method_for_one_size_says_so_if_none_is_given_and_leaves_nothing_behind(discover, tmp_path):
    assert_refused(discover("--preset", "paper"), "trained for one size", "sparsity")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["--steps", "--batch-size", "--learning-rate"])
def test_settings_out_of_range(discover, setting):
    assert_refused(discover(setting, 0), "must be", "got 0")
