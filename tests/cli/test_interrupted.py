"""Ctrl-C and SIGTERM say what was kept, and the command that goes on. Real processes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from processes import Command

COMMAND = ("discover", "ioi", "--edges", "40", "--steps", "100000", "--no-draw", "--device", "cpu", "--train", "20",
           "--set", "fresh=false")


@pytest.mark.parametrize(("sent", "word", "code"), [
    (signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143),
])  # fmt: skip
def test_an_interrupted_run_says_what_was_kept_and_how_to_go_on(
    sent: signal.Signals, word: str, code: int, tmp_path: Path
) -> None:
    command = Command(*COMMAND, "--out", "a run", "--overwrite", folder=tmp_path)
    command.wait_until((tmp_path / "a run" / "checkpoint.safetensors").exists)
    exit_code = command.ended_by(sent)
    out, err = command.printed
    assert (exit_code, out) == (code, "")
    assert f"{word}. a run keeps a checkpoint after step " in err
    assert err.endswith(f"Continue with:\n  edge-pruning {' '.join(COMMAND)} --out 'a run' --resume\n")
