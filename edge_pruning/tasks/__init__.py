"""Tasks: pairs of prompts with answers. `get_task("ioi")` builds one by name, `get_task("pairs.jsonl")` from a file."""

from __future__ import annotations

from typing import Any

from edge_pruning.registry import import_files
from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.own.records import is_source
from edge_pruning.tasks.task import SPLITS, TASKS, GeneratedTask, PairSet, Task, build_task, task_names

LONGEST_NAME = 1000  # characters; file systems accept fewer

import_files(__name__, __path__)

__all__ = ["SPLITS", "TASKS", "Encoder", "GeneratedTask", "PairSet", "Task", "TextPair", "get_task", "task_names"]


def get_task(name: Any, **settings: Any) -> Task:
    """Build a task from its name and settings.

    A path or `hub://OWNER/NAME` reads pairs from there; so do a list of pairs, a DataFrame and a `datasets.Dataset`
    (see `own/records.py`). `tracr:` and a program are all inputs of that program. A task is returned as it is.
    """
    if isinstance(name, Task):
        if settings:
            raise ValueError(f"task {name.name!r} is already built, so it takes no settings; got {', '.join(settings)}")
        return name
    if isinstance(name, str) and len(name) > LONGEST_NAME:
        raise ValueError(f"expected the name of a task or a path, got a string of {len(name):,} characters")
    if not isinstance(name, str) or is_source(name):
        from edge_pruning.tasks.own import OwnPairs  # imports task.py, never this file

        return build_task(OwnPairs, {"source": name, **settings})
    if name.startswith("tracr:"):
        from edge_pruning.tasks.tracr import TracrTask

        return build_task(TracrTask, {"program": name, **settings})
    return build_task(TASKS.named(name), settings)
