"""Settings of a run in a file: every run writes one that repeats it, and flags win over it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge_pruning.cli.config_file import merged
from edge_pruning.runs import RunConfig
from edge_pruning.runs.run_toml import run_toml
from edge_pruning.settings_file import read

HERE = Path("x.toml")


@pytest.mark.parametrize("settings", [
    {"task": "ioi"}, {"task": "ioi", "edges": (30, 50), "method": "eap-ig", "seed": 3, "train": 20, "polish": True},
    {"task": "greater-than", "sparsity": 0.9, "preset": "thorough", "steps": 7, "dtype": "bfloat16", "bos": True},
])  # fmt: skip
def test_what_a_run_writes_repeats_it(settings: dict[str, Any], tmp_path: Path) -> None:
    config = RunConfig.of(settings)
    (tmp_path / "run.toml").write_text(run_toml(config), encoding="utf-8")
    again = RunConfig.of(read(tmp_path / "run.toml"))
    assert (again.method_value, again.task_value) == (config.method_value, config.task_value)
    assert {**again.to_json(), "preset": None} == {**config.to_json(), "preset": None}


def test_several_seeds_and_functions_are_written_down() -> None:
    config = RunConfig.of({"task": "ioi"})
    object.__setattr__(config, "own_metric", "mine")
    text = run_toml(config, seeds=3)
    assert "# own_metric was a function" in text
    assert tomllib.loads(text)["seeds"] == 3
    assert "own_metric" not in tomllib.loads(text)


@pytest.mark.parametrize(("flags", "settings", "notes"), [
    ({"steps": 5}, {"task": "ioi", "steps": 5, "sparsity": 0.9, "data": {"train": 9}},
     ["--steps 5 overrides steps = 7 in x.toml"]),
    ({"steps": 7}, {"task": "ioi", "steps": 7, "sparsity": 0.9, "data": {"train": 9}}, []),
    ({"edges": (3,), "train": 4}, {"task": "ioi", "settings": {"steps": 7}, "edges": (3,), "train": 4},
     ["--edges 3 overrides sparsity = 0.9 in x.toml", "--train 4 overrides train = 9 in x.toml"]),
    ({"settings": {"steps": 8}, "data": {"bos": True}},
     {"task": "ioi", "sparsity": 0.9, "settings": {"steps": 8}, "data": {"train": 9, "bos": True}},
     ["--steps 8 overrides steps = 7 in x.toml"]),
])  # fmt: skip
def test_flags_win_over_the_file_and_that_is_said(
    flags: dict[str, Any], settings: dict[str, Any], notes: list[str]
) -> None:
    stored = {"task": "ioi", "sparsity": 0.9, "settings": {"steps": 7}, "data": {"train": 9}}
    assert merged(stored, flags, HERE) == (settings, notes)
    assert stored["settings"] == {"steps": 7}


@pytest.mark.parametrize(("text", "words"), [
    ("task = ", "is not valid TOML"), ("stepz = 3", r"there is no setting 'stepz' \(nearest: steps"),
    ("steps = 'many'", "steps: expected a whole number, got 'many'"), ("steps = true", "expected a whole number"),
    ("edges = [1, 'x']", "edges: expected a whole number"), ("settings = 3", "settings: expected a table"),
    ("polish = 1", "polish: expected true or false"), ("task = 'a'\nmodel = 3\nseed = 1.5", "model: .*; seed: "),
])  # fmt: skip
def test_a_broken_file_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "x.toml")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read(tmp_path / "x.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match="not UTF-8 text"):
        read(tmp_path / "x.toml")
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbftask = 'ioi'\r\n")
    assert read(tmp_path / "x.toml") == {"task": "ioi"}
