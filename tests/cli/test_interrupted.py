"""Ctrl-C and SIGTERM say what was kept, and the command that goes on; completion knows the names. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
COMMAND = ("discover", "ioi", "--edges", "40", "--steps", "100000", "--no-draw", "--device", "cpu", "--train", "20",
           "--set", "fresh=false")


@pytest.mark.parametrize(("sent", "word", "code"), [
    (signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143),
])  # fmt: skip
def test_an_interrupted_run_says_what_was_kept_and_how_to_go_on(
    sent: signal.Signals, word: str, code: int, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_pruning", *COMMAND, "--out", "a run", "--overwrite"], cwd=tmp_path,
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )  # fmt: skip
    while not (tmp_path / "a run" / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(sent)
    out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert f"{word}. a run keeps a checkpoint after step " in err
    assert err.endswith(f"Continue with:\n  edge-pruning {' '.join(COMMAND)} --out 'a run' --resume\n")


@pytest.mark.parametrize(("words", "expected"), [
    ("discover gre", "greater-than"), ("discover ioi --method eap-", "eap-ig"), ("list pre", "presets"),
    ("discover ioi --preset tho", "thorough"), ("discover ioi --ablation resa", "resample"),
])  # fmt: skip
def test_the_shell_completes_names(words: str, expected: str) -> None:
    asked = {"_EDGE_PRUNING_COMPLETE": "complete_bash", "COMP_WORDS": f"edge-pruning {words}",
             "COMP_CWORD": str(len(words.split()))}  # fmt: skip
    shown = subprocess.run([sys.executable, "-m", "edge_pruning"], env={**ENVIRONMENT, **asked}, capture_output=True,
                           text=True, check=False)  # fmt: skip
    assert expected in shown.stdout.split()
