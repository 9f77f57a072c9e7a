"""A killed run goes on as if nothing had happened."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from processes import Command

import edge_pruning as ep
from edge_pruning import files
from edge_pruning.runs import RunConfig, RunObserver, checkpoints, judging

STEPS = 150


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def assert_same_run(a: Path, b: Path) -> None:
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    assert (a / "scores.safetensors").read_bytes() == (b / "scores.safetensors").read_bytes()
    assert (a / "circuit.json").read_bytes() == (b / "circuit.json").read_bytes()
    assert (a / "evaluation.json").read_bytes() == (b / "evaluation.json").read_bytes()


class FirstStep(RunObserver):
    first = 0

    def progress(self, records: Any, total: int) -> None:
        self.first = self.first or int(records[0]["step"])


def test_a_run_killed_in_the_middle_gives_the_same_bits_when_resumed(model_folder, pairs_file, tmp_path):
    settings = {"model": str(model_folder), "steps": STEPS, "edges": 20, "draw": False, "device": "cpu"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    command = Command("discover", pairs_file, "--model", model_folder, "--steps", STEPS, "--edges", 20, "--no-draw",
                      "--device", "cpu", "--out", killed, folder=tmp_path)  # fmt: skip
    command.wait_until(lambda: lines(killed / "metrics.jsonl") >= 30 and (killed / "checkpoint.safetensors").exists())
    assert command.ended_by(signal.SIGKILL) == -signal.SIGKILL
    done = int(files.read_tensors(killed / "checkpoint.safetensors")["steps"])
    assert 0 < done < STEPS
    assert not (killed / "circuit.json").exists()

    watch = FirstStep()
    resumed = ep.discover(str(pairs_file), out=killed, resume=True, draw=False, observer=watch)
    assert watch.first == done + 1
    ep.discover(str(pairs_file), out=whole, **settings)
    assert_same_run(killed, whole)
    assert [row["step"] for row in resumed.training[""]] == list(range(1, STEPS + 1))


def test_two_processes_do_not_write_to_one_folder(discover, model_folder, pairs_file, tmp_path):
    command = Command("discover", pairs_file, "--model", model_folder, "--steps", 100_000, "--edges", 20, "--no-draw",
                      "--device", "cpu", "--out", tmp_path / "run", folder=tmp_path)  # fmt: skip
    command.wait_until(lambda: lines(tmp_path / "run" / "metrics.jsonl") >= 10)
    os.kill(command.process.pid, signal.SIGSTOP)  # it goes on holding its lock
    for flags in (["--resume"], ["--overwrite", "--steps", 10, "--edges", 20]):
        result = discover(*flags)
        assert result.exit_code == 2
        assert "another process is writing to" in result.stderr
    assert command.process.is_alive()
    command.ended_by(signal.SIGKILL)
    assert discover("--overwrite", "--steps", 10, "--edges", 20, "--no-draw").exit_code == 0


def test_metrics_ahead_of_the_checkpoint_are_cut_also_inside_a_line(discover, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    assert discover("--steps", 30, "--edges", 9, "--no-draw").exit_code == 0
    folder = tmp_path / "run"
    whole = {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "scores.safetensors", "circuit.json")}
    (folder / "evaluation.json").unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "kl": 1}\n{"step": 32, "k')
    assert discover("--resume").exit_code == 0
    assert {name: (folder / name).read_bytes() for name in whole} == whole


def test_missing_metrics_are_not_made_up(discover, finished, tmp_path):
    finished("--steps", 20, "--edges", 12)
    folder = tmp_path / "run"
    (folder / "evaluation.json").unlink()
    (folder / "metrics.jsonl").write_text('{"step": 1, "kl": 1}\n')
    result = discover("--resume")
    assert result.exit_code == 2
    assert "has 1 complete lines, but the checkpoint beside it was written after step 20" in result.stderr


def test_resuming_with_other_settings_is_refused_with_the_differences(discover, finished):
    finished("--steps", 20, "--edges", 12)
    result = discover("--resume", "--steps", 30, "--ablation", "zero")
    assert result.exit_code == 2
    assert "settings.steps: 20 in the run, 30 now" in result.stderr
    assert 'ablation: "patch" in the run, "zero" now' in result.stderr


def test_resuming_on_changed_pairs_is_refused(discover, finished, pairs_file, tmp_path):
    finished("--steps", 20, "--edges", 12)
    (tmp_path / "run" / "evaluation.json").unlink()
    before = pairs_file.read_text()
    try:
        pairs_file.write_text("".join(before.splitlines(keepends=True)[:30]))
        result = discover("--resume")
    finally:
        pairs_file.write_text(before)
    assert result.exit_code == 2
    assert "train.hash" in result.stderr


def test_a_checkpoint_of_another_run_is_refused(discover, finished, tmp_path):
    folder = tmp_path / "run"
    finished("--steps", 20, "--edges", 12)
    other = (folder / "checkpoint.safetensors").read_bytes()
    discover("--steps", 20, "--edges", 12, "--seed", 1, "--overwrite", "--no-draw")
    (folder / "evaluation.json").unlink()
    (folder / "checkpoint.safetensors").write_bytes(other)
    result = discover("--resume")
    assert result.exit_code == 2
    assert "belongs to a run with other settings or data" in result.stderr


def test_a_finished_run_is_printed_again(discover, tmp_path):
    first = discover("--steps", 20, "--edges", "9,20")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    again = discover("--resume")
    assert again.exit_code == 0
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before


def test_resume_without_a_run_begins_one(discover, tmp_path):
    assert discover("--steps", 20, "--edges", 9, "--resume", "--no-draw").exit_code == 0
    assert (tmp_path / "run" / "evaluation.json").exists()


class FullDisk(io.BytesIO):
    def write(self, *_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_the_previous_checkpoint_and_the_run_can_be_resumed(discover, tmp_path, monkeypatch):
    """The third checkpoint does not fit; everything else of the machinery is real."""
    folder, written, real_open = tmp_path / "run", [], Path.open

    def open_or_fail(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "checkpoint" in self.name and "w" in mode:
            written.append(self)
            if len(written) == 3:
                return FullDisk()
        return real_open(self, mode, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
        patch.setattr(checkpoints, "LARGEST_SHARE", 1e9)
        patch.setattr(Path, "open", open_or_fail)
        result = discover("--steps", 40, "--edges", 9, "--no-draw")
    assert result.exit_code == 2
    assert "checkpoint.safetensors: No space left on device. The previous version was kept." in result.stderr
    assert int(files.read_tensors(folder / "checkpoint.safetensors")["steps"]) == 20
    assert [path.name for path in folder.glob(".*")] == [".lock"]

    assert discover("--resume").exit_code == 0
    resumed = {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "scores.safetensors", "circuit.json")}
    discover("--steps", 40, "--edges", 9, "--no-draw", "--overwrite")
    assert {name: (folder / name).read_bytes() for name in resumed} == resumed


def test_checkpoints_are_small_and_hold_no_weights(finished, tmp_path):
    """Scores and two moments per edge, writer and reader; steps, sizes and the optimiser's counts are numbers."""
    finished("--steps", 20, "--edges", 12)
    file = tmp_path / "run" / "checkpoint.safetensors"
    shape = ep.Circuit.load(tmp_path / "run" / "circuit.json").graph.edge_mask.shape
    edges = json.loads((tmp_path / "run" / "circuit.json").read_text())["counts"]["edges_total"]
    assert sum(tensor.numel() for tensor in files.read_tensors(file).values()) == 3 * (edges + sum(shape)) + 6


@pytest.mark.parametrize("took", [0.0, 0.5])
def test_writing_checkpoints_takes_a_small_share_of_the_time(tmp_path, monkeypatch, took):
    clock = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    recorder, times = checkpoints.Recorder(tmp_path, "", "x"), []

    def state() -> dict[str, Any]:
        times.append(clock[0])
        clock[0] += took
        return {}

    recorder.resume()
    for _ in range(10_000):
        clock[0] += 0.01
        recorder.checkpoint(state)
    assert len(times) >= 3
    assert len(times) * took <= 0.05 * (clock[0] - 100)


@pytest.mark.parametrize("method", [(), ("--method", "eap")], ids=["with checkpoints", "without"])
def test_a_judging_that_failed_is_repeated_alone(discover, tmp_path, monkeypatch, method):
    """Scores and circuits are on disk before anything is judged, and a resumed run does not search again."""
    settings = (*method, *(() if method else ("--steps", 20)), "--edges", "9,20", "--no-draw")
    folder = tmp_path / "run"

    def fail(*_: object, **__: object) -> None:
        raise ValueError("no space left for the evaluation")

    with monkeypatch.context() as broken:
        broken.setattr(judging, "evaluate", fail)
        result = discover(*settings)
        assert (result.exit_code, "no space left for the evaluation" in result.stderr) == (2, True)
    kept = {name: (folder / name).read_bytes() for name in ("scores.safetensors", "circuit-9.json", "circuit-20.json")}
    with monkeypatch.context() as searching:
        searching.setattr(type(RunConfig.of(config_of(folder)).method_value), "find", fail)
        assert discover("--resume").exit_code == 0, "searched again"
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    whole = discover(*settings, "--out", tmp_path / "whole")
    assert whole.exit_code == 0
    for name in ("circuit.json", "evaluation.json", "curve.json", "scores.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def config_of(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((folder / "config.json").read_text())["settings"]
    return settings
