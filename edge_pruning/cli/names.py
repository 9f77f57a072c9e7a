"""The content of `edge-pruning list`: names, descriptions and settings.

Each kind is imported only when it is listed, so that listing tasks does not load all model families.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_pruning.registry import settings_of, unknown

Names = list[tuple[str, str]]


def names_of(what: str) -> Names:
    """Return (name, description) for every entry of a kind. Raises ValueError for an unknown kind."""
    if what not in KINDS:
        raise unknown("list of", what, KINDS)
    return KINDS[what]()


def print_names(rows: Names, out: Console) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, summary in rows:
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(summary))
    out.print(table)


def _models() -> Names:
    from edge_pruning.loading.model_source import NAMED
    from edge_pruning.models import ADAPTERS
    from edge_pruning.models.tracr import bundled_programs
    from edge_pruning.models.tracr.folder import PREFIX

    families = ", ".join(sorted(ADAPTERS))
    kinds = {"bundled": "a small GPT-2", "digits": "a small ViT for handwritten digits"}
    shipped = [(name, f"{kinds[name]} that is part of the package") for name in NAMED]
    others = [("PATH", "a folder in Hugging Face format"), ("HUB_ID", "a model on the Hugging Face hub")]
    compiled = [(PREFIX + name, "a compiled program, whose circuit is known") for name in bundled_programs()]
    return [*shipped, *((name, f"{what} ({families})") for name, what in others), *compiled]


def _programs() -> Names:
    from edge_pruning.models.tracr import LIBRARY

    return [
        (name, f"{entry.summary}\nvocabulary {' '.join(map(str, entry.vocabulary))}, up to {entry.max_length} values")
        for name, entry in sorted(LIBRARY.items())
    ]


def _tasks() -> Names:
    from edge_pruning.models.tracr.folder import PREFIX
    from edge_pruning.tasks import TASKS

    fields = "clean, corrupted[, answer, wrong_answer, split]"
    own = ("FILE", f"your own pairs (.jsonl, .json, .csv, .tsv or .parquet): {fields}")
    images = ("FOLDER", "your own images: a folder for each class (or a file of pairs with paths of images)")
    program = (f"{PREFIX}NAME", "all inputs of a compiled program (`edge-pruning list programs`)")
    return [*((name, f"{cls.summary}\n{_settings(cls)}") for name, cls in sorted(TASKS.items())), own, images, program]


def _methods() -> Names:
    from edge_pruning.discovery import METHODS

    return [(name, f"{cls.summary}{_aliases(cls)}\n{_settings(cls)}") for name, cls in sorted(METHODS.items())]


def _shrinkers() -> Names:
    from edge_pruning.shrink import SHRINKERS

    summed = ("METHOD", "any method of `edge-pruning list methods`: its scores of edges, summed for each head and MLP")
    return [*((name, f"{cls.summary}\n{_settings(cls)}") for name, cls in sorted(SHRINKERS.items())), summed]


def _presets() -> Names:
    from edge_pruning.discovery import PRESETS

    return [(name, f"{one.summary}{_aliases(one)}\nmethod {one.method.name}") for name, one in PRESETS.items()]


def _ablations() -> Names:
    from edge_pruning.ablation import ABLATIONS

    return [(name, _first_line(cls)) for name, cls in sorted(ABLATIONS.items())]


def _formats() -> Names:
    from edge_pruning.formats import FORMATS

    return [(name, f"{cls.summary}\n{' '.join(cls.all_suffixes())}") for name, cls in sorted(FORMATS.items())]


def _settings(cls: type[Any]) -> str:
    return ", ".join(f"{name}={default}" for name, default in settings_of(cls).items())


def _aliases(entry: Any) -> str:
    aliases = vars(entry).get("aliases", ())
    return f" (also called {', '.join(aliases)})" if aliases else ""


def _first_line(cls: type[Any]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


KINDS: dict[str, Callable[[], Names]] = {
    "models": _models, "tasks": _tasks, "methods": _methods, "presets": _presets, "ablations": _ablations,
    "formats": _formats, "programs": _programs, "shrinkers": _shrinkers,
}
