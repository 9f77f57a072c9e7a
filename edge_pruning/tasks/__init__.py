"""Tasks: pairs of prompts with answers. `get_task("ioi")` builds one by name, `get_task("pairs.jsonl")` from a file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.task import SPLITS, TASKS, GeneratedTask, PairSet, Task, build_task, task_names, unknown_task

for _module in pkgutil.iter_modules(__path__):  # every file registers its own tasks, so adding one is adding a file
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["SPLITS", "TASKS", "Encoder", "GeneratedTask", "PairSet", "Task", "TextPair", "get_task", "task_names"]


def get_task(name: str, **settings: Any) -> Task:
    """The task of this name with these settings.

    A path that ends in .jsonl reads the pairs from that file; `tracr:` and a program are all inputs of that program.
    """
    if name.endswith(".jsonl"):
        from edge_pruning.tasks.jsonl import JsonlTask  # like every task it builds on task.py, never on this file

        return build_task(JsonlTask, {"path": name, **settings})
    if name.startswith("tracr:"):
        from edge_pruning.tasks.tracr import TracrTask

        return build_task(TracrTask, {"program": name, **settings})
    if name not in TASKS:
        raise unknown_task(name)
    return build_task(TASKS[name], settings)
