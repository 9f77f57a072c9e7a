"""Tasks: pairs of prompts with answers. `get_task("ioi")` builds one by name, `get_task("pairs.jsonl")` from a file."""

from __future__ import annotations

from typing import Any

from edge_pruning.registry import import_files
from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.task import SPLITS, TASKS, GeneratedTask, PairSet, Task, build_task, task_names

import_files(__name__, __path__)

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
    return build_task(TASKS.named(name), settings)
