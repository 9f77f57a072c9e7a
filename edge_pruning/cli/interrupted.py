"""What to tell a user who interrupts `discover`: what was kept, and the command that goes on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def what_is_kept(folder: Path | None) -> str:
    """What an interrupted run has left in its folder, and how to go on. folder: None if it was not known yet."""
    from edge_pruning.runs.kept import begun, kept

    words = ["edge-pruning", *(word for word in sys.argv[1:] if word != "--overwrite")]
    if folder is None or not begun(folder):
        return f"Nothing was kept, because the search had not begun. Start again with:\n  {shlex.join(words)}"
    return f"{kept(folder)}. Go on with:\n  {shlex.join([*words, *([] if '--resume' in words else ['--resume'])])}"
