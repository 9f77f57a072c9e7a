"""The message for a user who interrupts `discover`: what was kept, and the command that continues the run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def what_is_kept(folder: Path | None) -> str:
    """Return the message about an interrupted run. folder: None if it was not yet known."""
    from edge_pruning.runs.kept import begun, kept

    words = ["edge-pruning", *(word for word in sys.argv[1:] if word != "--overwrite")]
    if folder is None or not begun(folder):
        return f"Nothing was kept because the search had not begun. Start again with:\n  {shlex.join(words)}"
    return f"{kept(folder)}. Continue with:\n  {shlex.join([*words, *([] if '--resume' in words else ['--resume'])])}"
