"""Names that are known before the library is imported: what `list` shows, and what names are checked against first.

Importing torch takes seconds, and a mistyped name should not. So `known.json` holds what the registries hold; `make
names` writes it, and a test compares the two. The registries answer for themselves where torch is loaded already, and
where the source files are not those that the table was made from: a new file may register a new name.
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
REGISTERING = ("tasks", "discovery", "ablation", "formats", "models", "models/tracr")  # packages whose files have names
KINDS = ("models", "tasks", "methods", "presets", "ablations", "formats", "programs")
SEVERAL = "{} problems:\n  {}"


def stored() -> dict[str, Any] | None:
    """The table; None where the registries are to be asked."""
    return None if "torch" in sys.modules else _stored()


@cache
def _stored() -> dict[str, Any] | None:
    content: dict[str, Any] = files.read_json(TABLE)
    return content if content["files"] == sources() else None


def sources() -> list[str]:
    """The files that register names."""
    paths = (path for package in REGISTERING for path in (PACKAGE / package).glob("*.py"))
    return sorted(path.relative_to(PACKAGE).as_posix() for path in paths)


def check_names(*, task: str | None = None, **names: str | None) -> None:
    """Raises ValueError for a task, method, preset or ablation that does not exist, and for a missing file of pairs.

    It has the words of the library, which checks everything again, and more.
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
    """The names of a kind, without other names for them, for completion."""
    return [name for name, _ in rows(f"{kind}s") if not name.isupper() and ":" not in name]


def rows(what: str) -> list[tuple[str, str]]:
    """What `list` shows. Raises ValueError for an unknown kind."""
    table = stored()
    if table is not None and what in table["kinds"]:
        return [(name, summary) for name, summary in table["kinds"][what]]
    from edge_pruning.cli.names import names_of

    return names_of(what)


def made() -> dict[str, Any]:
    """The table, as the registries have it now."""
    from edge_pruning.ablation import ABLATIONS
    from edge_pruning.cli.names import KINDS
    from edge_pruning.discovery import METHODS, PRESETS
    from edge_pruning.tasks import TASKS
    from edge_pruning.tasks.own.records import READERS

    registries = (TASKS, METHODS, PRESETS, ABLATIONS)
    return {
        "files": sources(),
        "pair_files": list(READERS),
        "names": {one.kind: {"known": one.known, "hint": one.hint} for one in registries},
        "kinds": {what: [list(row) for row in list_of()] for what, list_of in KINDS.items()},
    }
