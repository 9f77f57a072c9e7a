"""The folder of a sweep: all that its workers share, and from which its state can be read at any time.

    sweep.json        the settings of every cell
    cells/CELL/       the run folder of a cell, as `edge-pruning discover` writes it
    claims/           who works on what (see claims.py)
    errors/CELL.json  why a cell failed
    logs/             what the workers printed, where several were started at once
    report.html report.json report.csv
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from filelock import FileLock

from edge_pruning import files
from edge_pruning.checked import check
from edge_pruning.contents import EvaluationContent, FailureContent, SweepContent
from edge_pruning.runs import RunConfig, RunFolder
from edge_pruning.runs.folder import LOCK
from edge_pruning.sweep.claims import Claim, Claims
from edge_pruning.sweep.grid import SHOWN, Cell, Sweep

FORMAT, FORMAT_VERSION = "edge-pruning/sweep", 1
SWEEP = "sweep.json"
TAIL = 4096  # bytes from the end of a file that hold its last line

State = Literal["finished", "failed", "running", "interrupted", "waiting"]


@dataclass(frozen=True)
class CellState:
    """How far a cell is. claims: those of its workers, the first one first. failure: why it failed, if it did."""

    cell: Cell
    state: State
    claims: tuple[Claim, ...]
    folder: Path
    failure: FailureContent | None = None

    @property
    def seconds(self) -> float:
        """How long workers were at it."""
        return sum(claim.seconds for claim in self.claims)

    @cached_property
    def last_step(self) -> Mapping[str, float]:
        """The record of the last training step that was written; empty where there is none."""
        paths = sorted(self.folder.glob("metrics*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        return _last_line(paths[-1]) if paths else {}

    @cached_property
    def evaluation(self) -> EvaluationContent | None:
        """evaluation.json of a finished cell."""
        path = self.folder / RunFolder.last
        return files.read_json(path, EvaluationContent) if self.state == "finished" else None


class SweepFolder:
    """A sweep on disk. Raises ValueError where there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = files.read_own(path / SWEEP, FORMAT, FORMAT_VERSION, SweepContent)
        self.about, self.slurm = content["about"], content["slurm"]
        self._settings = content["cells"]
        self.claims = Claims(path / "claims")

    @classmethod
    def begin(cls, path: Path, sweep: Sweep) -> SweepFolder:
        """Make the folder of a sweep, or join the one that is there. New cells are added to it.

        Raises ValueError if the folder holds something else, or a sweep with cells that this one has not.
        """
        content = {
            "format": FORMAT, "version": FORMAT_VERSION, "cells": {c.name: c.config.to_json() for c in sweep.cells},
            "about": sweep.about, "slurm": sweep.slurm,
        }  # fmt: skip
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise ValueError(f"{path} is a file, expected a folder for the runs of the sweep") from None
        with FileLock(path / LOCK):
            _refuse_others(path, sweep)
            if not (path / SWEEP).exists() or files.read_json(path / SWEEP) != content:
                files.write_json(path / SWEEP, content)
        return cls(path)

    @cached_property
    def cells(self) -> list[Cell]:
        return [Cell(name, RunConfig(**settings)) for name, settings in self._settings.items()]

    def run_folder(self, cell: Cell) -> Path:
        return self.path / "cells" / cell.name

    def error_file(self, cell: Cell) -> Path:
        return self.path / "errors" / f"{cell.name}.json"

    def is_finished(self, cell: Cell) -> bool:
        return (self.run_folder(cell) / RunFolder.last).exists()

    def is_settled(self, cell: Cell) -> bool:
        """Whether there is nothing left to do: it is finished, or has failed."""
        return self.is_finished(cell) or self.error_file(cell).exists()

    def retry_failed(self) -> int:
        """Forget the errors, so that these cells are tried again. Returns how many there were."""
        paths = list((self.path / "errors").glob("*.json"))
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)

    def states(self) -> list[CellState]:
        claims, now = self.claims.all(), self.claims.now()
        return [self._state(cell, claims.get(cell.name, []), now) for cell in self.cells]

    def _state(self, cell: Cell, claims: list[Claim], now: float) -> CellState:
        state: State = "interrupted" if claims else "waiting"
        failure = None
        if self.is_finished(cell):
            state = "finished"
        elif claims and claims[-1].is_alive(now):
            state = "running"
        elif self.error_file(cell).exists():
            state, failure = "failed", files.read_json(self.error_file(cell), FailureContent)
        return CellState(cell, state, tuple(claims), self.run_folder(cell), failure)


def open_sweep(path: Path, out: Path | None = None) -> SweepFolder:
    """A sweep from its file or from its folder. out: where to begin it, in place of where the file says.

    Raises ValueError for both, and with everything that is wrong with the file.
    """
    if not path.is_dir():
        sweep = Sweep.read(path)
        return SweepFolder.begin(out or sweep.out, sweep)
    if out is not None:
        raise ValueError(f"{path} is the folder of a sweep, which stays where it is; leave out --out")
    return SweepFolder(path)


def _refuse_others(path: Path, sweep: Sweep) -> None:
    """Raises ValueError if the folder is not empty and not that of this sweep, or of a part of it."""
    if not (path / SWEEP).exists():
        there = sorted(found.name for found in path.iterdir() if found.name != LOCK)
        if there:
            raise ValueError(
                f"expected an empty folder or that of this sweep, but {path} holds something else "
                f"({', '.join(there[:SHOWN])}); choose another folder with --out"
            )
        return
    stored = set(SweepFolder(path)._settings)
    missing = sorted(stored - {cell.name for cell in sweep.cells})
    if missing:
        raise ValueError(
            f"{path} holds another sweep: {len(missing)} of its {len(stored)} cells are not in this one "
            f"({', '.join(missing[:SHOWN])}). Cells can be added to a sweep, but two sweeps cannot share "
            "a folder; choose another one with --out"
        )


def _last_line(path: Path) -> dict[str, float]:
    """The last line that is whole: another process may be writing the next one."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        whole = file.read().decode(errors="replace").rpartition("\n")[0]
    try:
        return check(files.parse_json(whole.rpartition("\n")[2]), dict[str, float])
    except ValueError:  # nothing yet
        return {}
