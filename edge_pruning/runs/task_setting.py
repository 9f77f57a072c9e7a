"""The task as a setting of a run: a name, a path, or objects in memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from edge_pruning.provenance import PAIRS_IN_MEMORY
from edge_pruning.tasks import TASKS, Task
from edge_pruning.tasks.own import OwnPairs
from edge_pruning.tasks.own.records import EXPECTED
from edge_pruning.tasks.tracr import TracrTask


def task_setting(task: Any) -> dict[str, Any]:
    """Return the settings `task`, `data` and `source` of a task.

    source: pairs in memory, or a task whose class has no name.
    """
    if isinstance(task, str | Path):
        return {"task": str(task)}
    if task is None:
        raise ValueError(f"{EXPECTED}; got None")
    if not isinstance(task, Task):
        return {"task": PAIRS_IN_MEMORY, "source": task}
    settings = {
        f.name: getattr(task, f.name) for f in dataclasses.fields(task)
        if f.init and getattr(task, f.name) != f.default and f.name != "name_of_source"
    }
    if isinstance(task, OwnPairs):
        source = settings.pop("source")
        in_memory = {"task": task.name_of_source, "source": source}
        return {**(task_setting(source) if isinstance(source, str | Path) else in_memory), "data": settings}
    if isinstance(task, TracrTask):
        return {"task": settings.pop("program"), "data": settings}
    return {"task": task.name, "data": settings} if TASKS.get(task.name) is type(task) else {
        "task": task.name, "source": task
    }
