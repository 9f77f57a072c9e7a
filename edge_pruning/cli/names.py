"""What `edge-pruning list` shows: names, one line each, with their settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from edge_pruning.ablation import ABLATIONS
from edge_pruning.discovery import METHODS, PRESETS
from edge_pruning.formats import FORMATS
from edge_pruning.loading.loading import NAMED
from edge_pruning.models import ADAPTERS
from edge_pruning.models.tracr import LIBRARY, bundled_programs
from edge_pruning.models.tracr.folder import PREFIX
from edge_pruning.runs.config import nearest
from edge_pruning.tasks import TASKS

Names = list[tuple[str, str]]


def names_of(what: str) -> Names:
    """Raises ValueError for a kind of thing that there is none of."""
    if what not in KINDS:
        near = ", ".join(nearest(what, KINDS))
        raise ValueError(f"expected one of {', '.join(KINDS)}; got {what!r} (nearest: {near})")
    return KINDS[what]()


def _models() -> Names:
    families = ", ".join(sorted(ADAPTERS))
    shipped = [(name, "a small GPT-2 that comes with the library") for name in NAMED]
    others = [("PATH", "a folder in Hugging Face format"), ("HUB_ID", "a model on the Hugging Face hub")]
    compiled = [(PREFIX + name, "a compiled program, whose circuit is known") for name in bundled_programs()]
    return [*shipped, *((name, f"{what} ({families})") for name, what in others), *compiled]


def _programs() -> Names:
    return [
        (name, f"{entry.summary}\nvocabulary {' '.join(map(str, entry.vocabulary))}, up to {entry.max_length} values")
        for name, entry in sorted(LIBRARY.items())
    ]


def _tasks() -> Names:
    own = ("PATH.jsonl", "your own pairs, one JSON object per line: clean, corrupted, answer[, wrong_answer, split]")
    program = (f"{PREFIX}NAME", "all inputs of a compiled program (`edge-pruning list programs`)")
    return [*((name, f"{TASKS[name].summary}{_settings(TASKS[name])}") for name in sorted(TASKS)), own, program]


def _methods() -> Names:
    return [(name, f"{cls.summary}{_settings(cls)}") for name, cls in sorted(METHODS.items())]


def _presets() -> Names:
    return [(name, f"{summary}\nmethod {found.name}") for name, (found, summary) in PRESETS.items()]


def _ablations() -> Names:
    return [(name, _first_line(cls)) for name, cls in sorted(ABLATIONS.items())]


def _formats() -> Names:
    return [(name, f"{cls.summary}\n{' '.join(cls.suffixes)}") for name, cls in sorted(FORMATS.items())]


def _settings(cls: type[Any]) -> str:
    return "\n" + ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(cls) if f.init)


def _first_line(cls: type[Any]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


KINDS: dict[str, Callable[[], Names]] = {
    "models": _models, "tasks": _tasks, "methods": _methods, "presets": _presets, "ablations": _ablations,
    "formats": _formats, "programs": _programs,
}
