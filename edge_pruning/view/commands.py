"""The shell commands that repeat a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_pruning.provenance import MODEL_IN_MEMORY
from edge_pruning.tasks import TASKS
from edge_pruning.tasks.own.records import is_source
from edge_pruning.view.source import Source

DEFAULTS: Mapping[str, Any] = {
    "model": "bundled", "ablation": "patch", "embeddings": "joint", "heads": "kv", "seed": 0, "device": "auto",
    "dtype": "auto", "cuda_graph": "auto", "polish": False, "trust_remote_code": False,
}
FLAGS = (
    "model", "revision", "preset", "method", "ablation", "embeddings", "heads", "seed", "device", "dtype", "cuda_graph"
)


def commands_of(source: Source) -> list[str]:
    """The commands that find, evaluate and view the circuit again.

    There are none for a circuit from a file, nor for a run with a task, a model or a function that existed only in
    Python.
    """
    settings = source.settings
    if not settings or not _is_repeatable(settings):
        return []
    folder = str(source.path or Path("runs", source.name))
    out = shlex.quote(folder)
    return [
        " ".join(["edge-pruning discover", *_discover(settings), "--out", out]),
        f"edge-pruning evaluate {shlex.quote(str(Path(folder, 'circuit.json')))} --report",
        f"edge-pruning view {out}",
    ]


def _is_repeatable(settings: Mapping[str, Any]) -> bool:
    """Return whether the command line can name the task, the model and the functions of a run."""
    in_memory = str(settings.get("model")).endswith(MODEL_IN_MEMORY)
    own_functions = settings.get("own_metric") or settings.get("own_objective")
    return _has_a_name(settings["task"]) and not in_memory and not own_functions


def _has_a_name(task: str) -> bool:
    """Return whether a task is a file, a compiled program or one of this library, rather than an object in Python."""
    built_in = TASKS.get(task)
    is_ours = built_in is not None and built_in.__module__.startswith("edge_pruning.")
    return is_ours or task.startswith("tracr:") or is_source(task)


def _discover(settings: Mapping[str, Any]) -> Iterator[str]:
    """The task, and every flag whose value is not the default."""
    yield shlex.quote(str(settings["task"]))
    for name in FLAGS:
        if settings.get(name) not in (None, DEFAULTS.get(name)):
            yield f"--{name.replace('_', '-')} {shlex.quote(str(settings[name]))}"
    for name in ("edges", "sparsity"):
        if settings.get(name):
            yield f"--{name} {','.join(map(str, settings[name]))}"
    for name, flag in (("settings", "--set"), ("data", "--data")):
        for key, value in (settings.get(name) or {}).items():
            yield f"{flag} {shlex.quote(f'{key}={_word(value)}')}"
    for name in ("polish", "trust_remote_code"):
        if settings.get(name):
            yield f"--{name.replace('_', '-')}"


def _word(value: Any) -> str:
    """A value as `--set` and `--data` read it: JSON, or any text that is not JSON."""
    return value if isinstance(value, str) and not _is_json(value) else json.dumps(value, ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True
