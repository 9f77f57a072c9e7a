"""Ablations that need data, from the command: the data are training pairs', and a resumed run has the same bits."""

from __future__ import annotations

import json

import pytest

import edge_pruning as ep
from edge_pruning.ablation import ABLATIONS, get_ablation
from edge_pruning.circuit import Circuit
from edge_pruning.runs import checkpoints
from edge_pruning.setup import Setup

SHORT = ("--steps", 20, "--no-draw", "--edges", 12)
WITH_DATA = [name for name, cls in ABLATIONS.items() if cls.needs_pairs]


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_circuit_is_found_and_judged_under_every_ablation(finished, cli, tmp_path, name):
    result = finished(*SHORT, "--ablation", name)
    assert f"removed edges carry the {name} ablation" in " ".join(result.stdout.split())
    file = tmp_path / "run" / "circuit.json"
    assert Circuit.load(file).provenance["ablation"] == name
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    again = json.loads(cli("evaluate", file, "--json").stdout)
    assert again == written | {"discretisation_gap": None, "soft": None, "warnings": again["warnings"]}
    assert written["ablation_description"]


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_circuit_found_under_one_ablation_is_judged_under_another(finished, cli, tmp_path, name):
    """What it takes comes from the training pairs, which another split does not change."""
    finished(*SHORT)
    file = tmp_path / "run" / "circuit.json"
    found = json.loads(cli("evaluate", file, "--ablation", name, "--seed", 3, "--json").stdout)
    assert found["ablation"] == name
    model, task = ep.load_model(Circuit.load(file).provenance["model"]["name"]), ep.get_task(found["task"])
    train, test = (task.pairs(model.tokenizer, split) for split in ("train", "test"))
    ablation = get_ablation(name, seed=3).fitted(engine := model.engine(), train.pairs)
    expected = ep.evaluate(Circuit.load(file), Setup(engine, test, ablation, seed=3))
    assert found["circuit"]["kl"] == expected["circuit"]["kl"]
    assert found["empty"]["kl"] == expected["empty"]["kl"]
    assert f"{len(train.pairs)} training pairs" in found["ablation_description"]


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_run_with_data_in_its_ablation_is_resumed_bit_for_bit(discover, finished_runs, tmp_path, monkeypatch, name):
    class Killed(Exception):
        pass

    def killed(self, records, total, real=checkpoints.Recorder.progress):
        if records[-1]["step"] > 10:
            raise Killed
        real(self, records, total)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Recorder, "progress", killed)
        assert isinstance(discover(*SHORT, "--ablation", name).exception, Killed)
    assert discover("--resume", "--no-draw").exit_code == 0
    names = ("metrics.jsonl", "scores.safetensors", "circuit.json", "evaluation.json")
    whole, _ = finished_runs(*SHORT, "--ablation", name)
    for file in names:
        assert (tmp_path / "run" / file).read_bytes() == (whole / file).read_bytes(), file


def test_without_training_pairs_there_is_no_mean(finished, cli, pairs_file, tmp_path):
    finished(*SHORT)
    rows = [json.loads(line) | {"split": "test"} for line in pairs_file.read_text().splitlines()]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "run" / "circuit.json"
    assert cli("evaluate", file, "--task", tmp_path / "test.jsonl").exit_code == 0
    result = cli("evaluate", file, "--task", tmp_path / "test.jsonl", "--ablation", "mean")
    assert result.exit_code == 2
    assert "train" in result.stderr
