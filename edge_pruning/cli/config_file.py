"""Settings of `discover` or `study` in a file: the run.toml that every run writes, or one written by hand.

    task = "ioi"
    edges = [50, 100]

    [settings]
    steps = 500

The names are those of the flags, with underscores. Flags on the command line override the file, with a note on stderr.
A file for `study` has a table with the differences of the second setting, such as

    [against]
    data = {style = "few-shot"}
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_pruning.settings_file import read

EITHER = {"edges": "sparsity", "sparsity": "edges", "method": "preset", "preset": "method"}


def with_file(given: dict[str, Any], path: Path | None, *, of_study: bool = False) -> dict[str, Any]:
    """Return the settings of a file, if given, overridden by the flags. Raises ValueError if neither names a task."""
    if path is not None:
        given, notes = merged(read(path, of_study=of_study), given, path)
        for note in notes:
            print(f"Note: {note}.", file=sys.stderr)
    if "task" not in given:
        command = "study" if of_study else "discover"
        raise ValueError(f"expected a task: edge-pruning {command} TASK, or a file that names one (--config run.toml)")
    return given


def merged(stored: Mapping[str, Any], flags: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of a file overridden by those of the command line, and a note for each overridden value."""
    settings = {name: dict(value) if isinstance(value, dict) else value for name, value in stored.items()}
    tables = [settings.setdefault(name, {}) for name in ("settings", "data")]
    given = _one_by_one(flags)
    notes = []
    for name, value in given.items():
        for place in (settings, *tables):
            for loser in (name, EITHER.get(name, name)):
                if loser in place and (loser != name or place[loser] != value):
                    notes.append(f"{_flag(name, value)} overrides {loser} = {place[loser]!r} in {path}")
                place.pop(loser, None)
    for name, value in flags.items():
        settings[name] = {**settings[name], **value} if name in ("settings", "data") else value
    return {name: value for name, value in settings.items() if value != {}}, notes


def _one_by_one(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting of the command line, including those given with `--set` and `--data`."""
    plain = {name: value for name, value in flags.items() if name not in ("settings", "data")}
    return {**flags.get("data", {}), **flags.get("settings", {}), **plain}


def _flag(name: str, value: Any) -> str:
    words = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"--{name.replace('_', '-')} {words}" if value is not True else f"--{name.replace('_', '-')}"
