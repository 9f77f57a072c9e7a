"""What needs no model is answered before torch and transformers are imported, and with the words of the library."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_pruning.cli import known
from edge_pruning.cli.names import KINDS, names_of
from edge_pruning.runs import RunConfig

HEAVY = ("torch", "transformers", "huggingface_hub", "matplotlib", "networkx", "pandas")
PROGRAM = """
import contextlib, io, json, os, sys
from edge_pruning.cli import main

def answer(words, environment):
    out, err, code = io.StringIO(), io.StringIO(), None
    sys.argv = ["edge-pruning", *words]
    os.environ.update(environment)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    for name in environment:
        del os.environ[name]
    return out.getvalue(), err.getvalue(), code, sorted(sys.modules)

json.dump([answer(*asked) for asked in json.load(sys.stdin)], sys.stdout)
"""
SHOWN = [["--help"], ["--version"], ["discover", "--help"], ["evaluate", "--help"], *(["list", what] for what in KINDS)]
MISSING = [
    ["draw", "no.json"], ["evaluate", "no.json"], ["curve", "no.json"], ["compare", "no.json", "no.json"],
    ["convert", "no.json", "x.dot"], ["view", "no.json"],
]  # fmt: skip
UNKNOWN = [
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
]
COMPLETED = {
    "discover gre": "greater-than", "discover ioi --method eap-": "eap-ig", "list pre": "presets",
    "discover ioi --preset tho": "thorough", "discover ioi --ablation resa": "resample",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command printed, its exit code, and the heavy modules that it or one before it has imported."""

    out: str
    err: str
    code: int
    heavy: frozenset[str]


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    """The answers to all commands above, in this order, from one process that has imported nothing else."""
    asked = {" ".join(words): (words, {}) for words in (*SHOWN, *MISSING, *(words for words, _ in UNKNOWN))}
    for words in COMPLETED:
        position = str(len(words.split()))
        names = ("_EDGE_PRUNING_COMPLETE", "COMP_WORDS", "COMP_CWORD")
        asked[words] = [], dict(zip(names, ("complete_bash", f"edge-pruning {words}", position), strict=True))
    given = json.dumps(list(asked.values()))
    shown = subprocess.run([sys.executable, "-c", PROGRAM], input=given, capture_output=True, text=True, check=True)
    found = json.loads(shown.stdout)
    return {
        words: Answer(out, err, code, frozenset(modules) & set(HEAVY))
        for words, (out, err, code, modules) in zip(asked, found, strict=True)
    }


@pytest.mark.parametrize("words", [" ".join(words) for words in SHOWN])
def test_help_and_lists_import_nothing_heavy(answers: dict[str, Answer], words: str) -> None:
    assert answers[words].out
    assert replace(answers[words], out="") == Answer("", "", 0, frozenset())


@pytest.mark.parametrize("words", [" ".join(words) for words in MISSING])
def test_a_missing_file_imports_nothing_heavy(answers: dict[str, Answer], words: str) -> None:
    assert answers[words] == Answer("", "error: no.json does not exist\n", 2, frozenset())


@pytest.mark.parametrize(("words", "message"), [(" ".join(words), message) for words, message in UNKNOWN])
def test_an_unknown_name_imports_nothing_heavy(answers: dict[str, Answer], words: str, message: str) -> None:
    answer = answers[words]
    assert message in answer.err
    assert replace(answer, err="") == Answer("", "", 2, frozenset())


@pytest.mark.parametrize(("words", "expected"), COMPLETED.items())
def test_the_shell_completes_names_and_imports_nothing_heavy(
    answers: dict[str, Answer], words: str, expected: str
) -> None:
    assert expected in answers[words].out.split()
    assert not answers[words].heavy


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
