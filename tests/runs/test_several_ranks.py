"""A run on several ranks: one folder, written by the first; ranks that die; resumed on as many ranks and on fewer."""

from __future__ import annotations

import errno
import io
import itertools
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import on_ranks

import edge_pruning as ep
from edge_pruning import ranks
from edge_pruning.circuit import Circuit
from edge_pruning.cli import main
from edge_pruning.runs import RunObserver

STEPS, DIES_AT = 60, 40
SAME = ("circuit.json", "evaluation.json", "metrics.jsonl", "scores.safetensors")


class Dying(RunObserver):
    """Ends the process of the second rank in the middle of the training."""

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        if not ranks.is_first() and records[-1]["step"] >= DIES_AT:
            os._exit(1)


def run(model: str, pairs: str, out: Path, *, resume: bool = False, dies: bool = False) -> list[str]:
    """The circuit's edges, as this rank has found them."""
    found = ep.discover(
        pairs, model=model, out=out, steps=STEPS, edges=20, draw=False, device="cpu", resume=resume,
        observer=Dying() if dies else None,
    )
    return found.circuit.edges


def whole_and_resumed(model: str, pairs: str, whole: Path, killed: Path) -> list[list[str]]:
    again = run(model, pairs, whole, resume=True), run(model, pairs, whole, resume=True)  # the second one is read
    return [*again, run(model, pairs, killed, resume=True)]


@pytest.fixture(scope="module")
def killed(model_folder: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder of a run of two ranks of which the second died, and what both returned."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    return folder, on_ranks(2, died, str(model_folder), str(pairs_file), folder)


def died(model: str, pairs: str, folder: Path) -> list[str]:
    return run(model, pairs, folder, dies=True)


def test_all_ranks_end_when_one_dies(killed: tuple[Path, list[Any]]) -> None:
    folder, (first, second) = killed
    assert second is None
    assert first == "ConnectionError"
    assert (folder / "checkpoint.safetensors").exists()
    assert not (folder / "circuit.json").exists()


def test_a_killed_run_goes_on_with_the_same_bits_on_as_many_ranks(killed, model_folder, pairs_file, tmp_path):
    folder = shutil.copytree(killed[0], tmp_path / "killed")
    results = on_ranks(2, whole_and_resumed, str(model_folder), str(pairs_file), tmp_path / "whole", folder)
    first, read, resumed = results[0]
    assert first == read == resumed
    assert results[1] == results[0]
    for name in SAME:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_on_another_number_of_ranks_it_goes_on_and_says_that_bits_differ(
    killed, model_folder, pairs_file, tmp_path, caplog
):
    folder = shutil.copytree(killed[0], tmp_path / "killed")
    with caplog.at_level(logging.WARNING, "edge_pruning"):
        resumed = run(str(model_folder), str(pairs_file), folder, resume=True)
    assert "this run began on 2 ranks and continues on 1: its numbers will differ by rounding" in caplog.text
    run(str(model_folder), str(pairs_file), tmp_path / "one")
    alone = Circuit.load(tmp_path / "one" / "circuit.json")
    scores = Circuit.load(folder / "circuit.json").scores
    assert alone.scores is not None
    assert scores is not None
    torch.testing.assert_close(scores.values, alone.scores.values, rtol=1e-2, atol=1e-3)
    assert set(resumed) == set(alone.edges)


def shared_out(model: str, pairs: str) -> tuple[list[str], float]:
    found = ep.discover(pairs, model=model, steps=10, edges=20, draw=False, device="shard")
    return found.circuit.edges, float(found.evaluation.circuit.kl)


def on_full_disk(*command: str) -> tuple[int, str]:
    """The exit code of a command and what it prints on stderr. The first rank's disk takes two files."""
    full = itertools.count()

    def sync(_: int) -> None:
        if ranks.is_first() and next(full) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as printed:
        patch.setattr(os, "fsync", sync)
        patch.setattr(sys, "argv", ["edge-pruning", *command])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code, printed.getvalue()


def both(model: str, pairs: str, folder: Path) -> tuple[Any, Any]:
    """A model in parts, and a command that fails: in the same two processes, because starting them costs most."""
    words = "discover", pairs, "--model", model, "--out", str(folder), "--steps", "10", "--edges", "20"
    return shared_out(model, pairs), on_full_disk(*words)


@pytest.fixture(scope="module")
def on_two(model_folder: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("full") / "run"
    return folder, on_ranks(2, both, str(model_folder), str(pairs_file), folder)


def test_a_model_whose_weights_are_shared_out_has_the_same_circuit(on_two, model_folder, pairs_file):
    alone = ep.discover(str(pairs_file), model=str(model_folder), steps=10, edges=20, draw=False, device="cpu")
    for (edges, kl), _ in on_two[1]:
        assert edges == alone.circuit.edges
        assert kl == pytest.approx(alone.evaluation.circuit.kl, rel=1e-4)


def test_a_full_disk_on_the_first_rank_ends_all_with_one_message(on_two):
    folder, ((_, (code, printed)), (_, (other_code, also_printed))) = on_two
    assert code == other_code == 2
    assert f"error: could not write {folder / 'metrics.jsonl'}: No space left on device" in printed
    assert "error" not in also_printed
    assert not [path for path in folder.iterdir() if path.name.endswith(".part")]


def test_one_process_has_nobody_to_share_weights_with(model_folder, pairs_file):
    with pytest.raises(ValueError, match="there is only one: torchrun"):
        ep.discover(str(pairs_file), model=str(model_folder), device="shard")
