"""Names that are available without importing the library, for `list` and for early checks of names.

Importing torch takes seconds, and a mistyped name should be reported at once. `known.json` therefore stores the content
of the registries; `make names` writes it, and a test compares the two. The registries themselves are used if torch is
loaded already, or if the source files have changed since the table was made, because a new file may register a name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.registry import unknown

PACKAGE = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("known.json")
# Packages that register names.
REGISTERING = ("tasks", "discovery", "ablation", "formats", "models", "models/tracr", "shrink")
KINDS = ("models", "tasks", "methods", "presets", "ablations", "formats", "programs", "shrinkers")
SEVERAL = "{} problems:\n  {}"


def stored() -> dict[str, Any] | None:
    """Return the stored table, or None if the registries must be used."""
    return None if "torch" in sys.modules else _stored()


@cache
def _stored() -> dict[str, Any] | None:
    content: dict[str, Any] = files.read_json(TABLE)
    return content if content["files"] == sources() else None


def sources() -> list[str]:
    """Return the files that register names."""
    paths = (path for package in REGISTERING for path in (PACKAGE / package).glob("*.py"))
    return sorted(path.relative_to(PACKAGE).as_posix() for path in paths)


def check_names(*, task: str | None = None, **names: str | None) -> None:
    """Check names early. Raises ValueError for unknown names and for a missing file of pairs.

    The wording is that of the library, which repeats these checks and makes further ones.
    """
    table = stored()
    if table is None:
        return
    problems = [*_of_task(task, table), *_of_names(names, table)]
    if problems:
        raise ValueError(SEVERAL.format(len(problems), "\n  ".join(problems)) if len(problems) > 1 else problems[0])


def _of_task(task: str | None, table: dict[str, Any]) -> Iterator[str]:
    if task is None or ":" in task or Path(task).is_dir():  # hub://, tracr:, a stored dataset
        return
    if Path(task).suffix.lower() not in table["pair_files"]:
        yield from _of_names({"task": task}, table)
    elif not Path(task).exists():
        yield f"task file {task!r} does not exist; expected a file with pairs"


def _of_names(names: dict[str, str | None], table: dict[str, Any]) -> Iterator[str]:
    for kind, name in names.items():
        of_kind = table["names"][kind]
        if name is not None and name not in of_kind["known"]:
            yield str(unknown(kind, name, of_kind["known"], of_kind["hint"]))


def names(kind: str) -> list[str]:
    """Return the names of a kind, without aliases, for shell completion."""
    return [name for name, _ in rows(f"{kind}s") if not name.isupper() and ":" not in name]


def rows(what: str) -> list[tuple[str, str]]:
    """Return the rows of `list`. Raises ValueError for an unknown kind."""
    table = stored()
    if table is not None and what in table["kinds"]:
        return [(name, summary) for name, summary in table["kinds"][what]]
    from edge_pruning.cli.names import names_of

    return names_of(what)


def made() -> dict[str, Any]:
    """Return the table that the registries contain now."""
    from edge_pruning.ablation import ABLATIONS
    from edge_pruning.cli.names import KINDS
    from edge_pruning.discovery import METHODS, PRESETS
    from edge_pruning.shrink import SHRINKERS
    from edge_pruning.tasks import TASKS
    from edge_pruning.tasks.own.records import READERS

    registries = (TASKS, METHODS, PRESETS, ABLATIONS)
    shrinkers = {"known": [*SHRINKERS.known, *METHODS.known], "hint": SHRINKERS.hint}
    return {
        "files": sources(),
        "pair_files": list(READERS),
        "names": {one.kind: {"known": one.known, "hint": one.hint} for one in registries} | {SHRINKERS.kind: shrinkers},
        "kinds": {what: [list(row) for row in list_of()] for what, list_of in KINDS.items()},
    }
