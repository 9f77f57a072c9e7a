"""What needs no model is answered before torch and transformers are imported, and with the words of the library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_pruning.cli import known
from edge_pruning.cli.names import KINDS, names_of
from edge_pruning.runs import RunConfig

HEAVY = ("torch", "transformers", "huggingface_hub", "matplotlib", "networkx", "pandas")
RUN = f"""
import sys
from edge_pruning.cli import main
sys.argv = ["edge-pruning", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    code = end.code
print([module for module in {HEAVY!r} if module in sys.modules], code, file=sys.stderr)
"""


def run(*arguments: str) -> tuple[str, str]:
    """What a process prints: on stdout; on stderr, with the heavy modules that it has imported and its exit code."""
    shown = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True)
    return shown.stdout, shown.stderr


@pytest.mark.parametrize("arguments", [
    ["--help"], ["--version"], ["discover", "--help"], ["evaluate", "--help"], *(["list", what] for what in KINDS),
], ids=" ".join)  # fmt: skip
def test_help_and_lists_import_nothing_heavy(arguments: list[str]) -> None:
    out, err = run(*arguments)
    assert out
    assert err == "[] 0\n"


@pytest.mark.parametrize("arguments", [
    ["draw", "no.json"], ["evaluate", "no.json"], ["curve", "no.json"], ["compare", "no.json", "no.json"],
    ["convert", "no.json", "x.dot"], ["view", "no.json"],
], ids=" ".join)  # fmt: skip
def test_a_missing_file_imports_nothing_heavy(arguments: list[str]) -> None:
    assert run(*arguments) == ("", "error: no.json does not exist\n[] 2\n")


@pytest.mark.parametrize(("arguments", "words"), [
    (["discover", "ioii"], "there is no task 'ioii'; nearest: ioi"),
    (["discover", "pairs.txt"], "there is no task 'pairs.txt'; nearest: past-tenses; or give a file"),
    (["discover", "no.jsonl"], "task file 'no.jsonl' does not exist"),
    (["inspect", "no.csv"], "task file 'no.csv' does not exist"),
    (["plan", "no.parquet"], "task file 'no.parquet' does not exist"),
    (["inspect", "ioii"], "there is no task 'ioii'; nearest: ioi"),
    (["plan", "ioi", "--preset", "papers"], "there is no preset 'papers'; nearest: paper"),
    (["discover", "ioi", "--method", "eapig"], "there is no method 'eapig'; nearest: eap"),
    (["discover", "ioi", "--ablation", "pach"], "there is no ablation 'pach'; nearest: patch"),
    (["list", "metods"], "there is no list of 'metods'; nearest: methods"),
    (["discover", "ioi", "--edges", "many"], "--edges: expected numbers such as 100"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")  # fmt: skip
def test_an_unknown_name_imports_nothing_heavy(arguments: list[str], words: str) -> None:
    out, err = run(*arguments)
    assert out == ""
    assert words in err
    assert err.endswith("\n[] 2\n")


def test_the_table_is_what_the_registries_hold() -> None:
    table = json.loads(known.TABLE.read_text(encoding="utf-8"))
    assert table == json.loads(json.dumps(known.made())), "write it anew with: make names"


@pytest.mark.parametrize("given", [
    {"task": "ioii"}, {"task": "x", "method": "y", "ablation": "w"}, {"task": "no.JSONL"},
    {"task": "tasks.txt", "ablation": "zer"}, {"task": "ioi", "preset": "z"},
], ids=str)  # fmt: skip
def test_names_are_refused_with_the_words_of_the_library(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="there is no|does not exist") as slow:
        RunConfig.of(given)
    monkeypatch.setattr(known, "stored", known._stored)
    with pytest.raises(ValueError, match="there is no|does not exist") as quick:
        known.check_names(**given)
    assert sorted(str(quick.value).splitlines()) == sorted(str(slow.value).splitlines())


def test_names_that_exist_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "stored", known._stored)
    (tmp_path / "pairs.csv").touch()
    for task in ("ioi", "tracr:reverse", "hub://owner/name", str(tmp_path / "pairs.csv"), str(tmp_path), None):
        known.check_names(task=task, method="edge-pruning", preset="paper", ablation="zero")


def test_a_new_file_makes_the_registries_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "stored", known._stored)
    known._stored.cache_clear()
    assert known.stored() is not None
    monkeypatch.setattr(known, "sources", lambda: ["tasks/new.py"])
    known._stored.cache_clear()
    assert known.stored() is None
    known.check_names(task="new")
    assert known.rows("tasks") == names_of("tasks")
    known._stored.cache_clear()
