"""The console that results are printed on."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH = 120  # if stdout is no terminal


def console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)
