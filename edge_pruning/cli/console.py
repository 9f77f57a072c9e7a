"""The console on which results are printed."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH = 120  # if stdout is not a terminal


def console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)
