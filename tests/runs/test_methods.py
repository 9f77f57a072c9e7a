"""Every method runs from the command line, with its settings as flags, and a killed ACDC goes on."""

from __future__ import annotations

import dataclasses
import json

import pytest

from edge_pruning import files
from edge_pruning.discovery import METHODS
from edge_pruning.discovery.hard_concrete import HardConcrete
from edge_pruning.runs import checkpoints
from edge_pruning.runs.config import RunConfig

SHORT = {
    "acdc": ["--set", "sweep=2", "--batch-size", "8"],
    "iterative-pruning": ["--steps", "10", "--set", "rounds=2"], "hap": ["--steps", "10", "--set", "candidates=0.5"],
    "edge-pruning": ["--steps", "10", "--set", "target_steps=8", "--set", "warmup_steps=2"],
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_a_circuit_and_writes_down_its_settings(discover, cli, tmp_path, name):
    settings = {field.name for field in dataclasses.fields(METHODS[name])}
    few_steps = ["--steps", "10"] if "steps" in settings else []
    result = discover("--method", name, "--edges", 9, "--no-draw", *SHORT.get(name, few_steps))
    assert result.exit_code == 0, result.stderr
    circuit = json.loads((tmp_path / "run" / "circuit.json").read_text())
    assert circuit["counts"]["edges"] == 9
    assert circuit["provenance"]["method"]["name"] == name
    assert circuit["provenance"]["method"]["settings"].keys() == settings
    assert f"\n{name} " in "\n" + cli("list", "methods").stdout


@pytest.mark.parametrize(("kind", "other", "name"), [
    ("method", "hard-concrete", "edge-pruning"), ("method", "narrowing", "iterative-pruning"),
    ("method", "node", "node-attribution"), ("preset", "edge-pruning", "paper"),
])
def test_another_name_is_the_same_run(kind, other, name):
    by_other, by_name = (RunConfig(task="ioi", **{kind: word}) for word in (other, name))
    assert by_other == by_name
    assert getattr(by_other, kind) == name


def test_edge_pruning_is_the_published_recipe():
    published = HardConcrete()
    assert RunConfig(task="ioi", method="edge-pruning").method_value == published
    assert RunConfig(task="ioi", preset="edge-pruning").method_value == published
    assert (published.steps, published.batch_size, published.initial_log_alpha) == (3000, 32, 10.0)


def test_a_run_with_an_older_name_in_its_folder_is_found_again(discover, tmp_path):
    few_steps = ["--steps", 10, "--set", "target_steps=8", "--set", "warmup_steps=2"]
    first = discover("--method", "hard-concrete", "--edges", 9, *few_steps, "--no-draw")
    assert first.exit_code == 0, first.stderr
    config = tmp_path / "run" / "config.json"
    old = config.read_text().replace('"method": "edge-pruning"', '"method": "hard-concrete"')
    assert old != config.read_text()
    config.write_text(old)
    again = discover("--resume", "--method", "edge-pruning", "--no-draw")
    assert again.exit_code == 0, again.stderr
    assert again.stdout == first.stdout


def test_settings_are_flags(discover, tmp_path):
    result = discover(
        "--method", "eap-ig", "--edges", 9, "--steps", 2, "--set", "path=activations", "--set", "metric=kl",
        "--no-draw",
    )
    assert result.exit_code == 0, result.stderr
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["method"]["settings"]
    assert settings == {"metric": "kl", "path": "activations", "steps": 2, "sign": "absolute"}


def test_acdc_as_published_keeps_what_its_threshold_keeps(discover, tmp_path):
    result = discover("--method", "acdc", "--set", "sweep=1", "--set", "threshold=1e-5", "--batch-size", 8, "--no-draw")
    assert result.exit_code == 0, result.stderr
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert json.loads((tmp_path / "run" / "circuit.json").read_text())["counts"]["edges"] == last["edges"] > 0


def test_a_killed_acdc_goes_on_from_its_checkpoint(discover, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoints, "LARGEST_SHARE", 1.0)
    flags = ["--method", "acdc", "--edges", 9, "--batch-size", 8, "--set", "sweep=2", "--no-draw"]
    real = files.write_tensors

    def killed(path, tensors, *rest):
        real(path, tensors, *rest)
        if int(tensors.get("steps", 0)) == 17:
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_tensors", killed)
    assert discover(*flags).exit_code != 0
    monkeypatch.setattr(files, "write_tensors", real)
    assert not (tmp_path / "run" / "circuit.json").exists()
    assert discover("--resume").exit_code == 0
    names = ("metrics.jsonl", "scores.safetensors", "circuit.json")
    resumed = {name: (tmp_path / "run" / name).read_bytes() for name in names}
    assert discover("--overwrite", *flags).exit_code == 0
    assert {name: (tmp_path / "run" / name).read_bytes() for name in names} == resumed


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method", "eap", "--set", "metric=kl"], "where their gradient is 0"),
        (["--method", "eap-ig", "--set", "path=outputs"], "path must be inputs or activations, got 'outputs'"),
        (["--method", "acdc", "--steps", "3"], "method 'acdc': no setting 'steps'"),
        (["--method", "hap", "--set", "candidates=0.05", "--edges", "60"], "candidates=0.05 keeps"),
    ],
)
def test_impossible_settings_are_said_in_one_line(discover, tmp_path, flags, words):
    result = discover(*flags)
    assert result.exit_code == 2
    assert words in result.stderr.replace("\n", " ")
    assert not (tmp_path / "run" / "circuit.json").exists()


def test_a_metric_that_needs_wrong_answers_is_refused_where_there_are_none(cli, model_folder, pairs_file, tmp_path):
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    path = tmp_path / "none.jsonl"
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "wrong_answer"}) + "\n" for row in rows))
    out = tmp_path / "run"
    result = cli("discover", path, "--model", model_folder, "--out", out, "--edges", 9, "--method", "eap")
    assert result.exit_code == 2
    assert "needs wrong answers, but none of the" in result.stderr
    assert not out.exists()
    result = cli("discover", path, "--model", model_folder, "--out", out, "--edges", 9, "--method", "eap", "--set",
                 "metric=answer_loss", "--no-draw")
    assert result.exit_code == 0, result.stderr
