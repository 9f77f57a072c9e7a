"""Record a method at work, so that a killed run continues and gives the same result.

There are two files. `metrics.jsonl` grows by a line per step. `checkpoint.safetensors` is replaced atomically, about
once a second (less often if writing is slow). After a kill, the lines may be ahead of the checkpoint: `resume` cuts
them off. Because every step is a function of the seed and its number, the resumed run writes the same lines again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from edge_pruning import files, ranks
from edge_pruning.checked import check
from edge_pruning.contents import Step
from edge_pruning.discovery.observer import Observer

SECONDS_BETWEEN = 1.0
LARGEST_SHARE = 0.02  # of the time, for writing checkpoints

Record = Mapping[str, float]


class Memory(Observer):
    """Keeps the records in memory, and forwards everything to another observer (a progress bar)."""

    def __init__(self, then: Observer | None = None) -> None:
        self.then = then or Observer()
        self.records: list[dict[str, float]] = []

    def resume(self) -> Mapping[str, Tensor] | None:
        """Return the state to continue from: that of the first rank, the only one with files."""
        return ranks.tensors_from_first(self.then.resume())

    def progress(self, records: Sequence[Record], total: int) -> None:
        self.records += [{**record, "step": int(record["step"])} for record in records]
        self.then.progress(records, total)

    def checkpoint(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        self.then.checkpoint(state)


class Recorder(Memory):
    """Keeps the records and checkpoints on disk. A checkpoint with another `identity` is not continued."""

    def __init__(self, folder: Path, part: str, identity: str, then: Observer | None = None) -> None:
        super().__init__(then)
        self.metrics = folder / f"metrics{part}.jsonl"
        self.file = folder / f"checkpoint{part}.safetensors"
        self.identity = identity
        self._last = False
        self._next = 0.0

    def resume(self) -> Mapping[str, Tensor] | None:
        """Return the last checkpoint, if there is one, and cut metrics.jsonl to the steps before it."""
        state = self._stored() if self.file.exists() else None
        lines = _lines_until(self.metrics, int(state["steps"])) if state else []
        self.records = [json.loads(line) for line in lines]
        files.write_text(self.metrics, "".join(line + "\n" for line in lines))
        return ranks.tensors_from_first(state)

    def progress(self, records: Sequence[Record], total: int) -> None:
        before = len(self.records)
        super().progress(records, total)
        _append(self.metrics, self.records[before:])
        self._last = bool(records) and records[-1]["step"] >= total

    def checkpoint(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        start = time.monotonic()
        if self._last or start >= self._next:
            _sync(self.metrics)  # a checkpoint must never be ahead of its metrics
            files.write_tensors(self.file, state(), {"run": self.identity})
            took = time.monotonic() - start
            self._next = start + max(SECONDS_BETWEEN, took / LARGEST_SHARE)

    def _stored(self) -> dict[str, Tensor]:
        state = files.read_tensors(self.file)
        with safetensors.safe_open(self.file, "pt") as file:
            identity = (file.metadata() or {}).get("run")
        if identity != self.identity or state.get("steps", torch.empty(0)).numel() != 1:
            raise ValueError(
                f"{self.file} belongs to a run with other settings or data than config.json beside it says; "
                "restore the folder, or start again with --overwrite"
            )
        return state


def _append(path: Path, records: Sequence[Record]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"could not write {path}: {reason}. The last checkpoint was kept.") from error


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _lines_until(path: Path, step: int) -> list[str]:
    """Return the complete lines of metrics.jsonl up to a step. Raises ValueError if some are missing."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            done = check(files.parse_json(line), Step)["step"]
        except ValueError:
            break  # an incomplete line, from when the run was killed
        if done > step:
            break
        lines.append(line)
    if len(lines) != step:
        raise ValueError(
            f"{path} has {len(lines)} complete lines, but the checkpoint beside it was written after step {step}; "
            "restore the file, or start again with --overwrite"
        )
    return lines
