"""One run, one folder: all files are readable with `cat` or a browser, and written atomically.

    config.json               every setting, what it was resolved to, data hashes, versions
    run.toml                  the settings that repeat the run: `edge-pruning discover --config run.toml`
    metrics.jsonl             one line per training step
    checkpoint.safetensors    the state from which a killed run continues: scores and optimizer, not the model
    scores.safetensors        every edge's score [writer, reader], written before the evaluation
    circuit.json              the circuit; also circuit-50.json and so on if there are several sizes
    evaluation.json           its evaluation on held-out pairs (evaluation-50.json ...); written last
    curve.json                one row per size
    patterns.json             attention patterns and direct effects of the circuit's heads on a few pairs
    circuit.html              a page for exploring the circuit and its evaluation, without a server
    circuit.svg truth.svg training.svg curve.svg
    pairs.jsonl               the pairs, if they were passed in memory
    report.html report.json   written by `edge-pruning evaluate --report`

A folder belongs to one run, and to one process at a time. The writing process holds `.lock`, which the system releases
when the process ends, however it ends. Other files in the folder are never touched, not even by `overwrite`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout

from edge_pruning import files, ranks
from edge_pruning.contents import ConfigContent

FORMAT = "edge-pruning/run"
FORMAT_VERSION = 1
CONFIG, EVALUATION, CURVE, LOCK = "config.json", "evaluation.json", "curve.json", ".lock"
PATTERNS_FILE = "patterns.json"
OWN_PAIRS, RUN_TOML = "pairs.jsonl", "run.toml"
PATTERNS = (
    *("metrics.jsonl", "metrics-*.jsonl", "checkpoint.safetensors", "checkpoint-*.safetensors"),
    *("scores.safetensors", "scores-*.safetensors", "circuit.json", "circuit-*.json"),
    *(EVALUATION, "evaluation-*.json", CURVE, PATTERNS_FILE),
    *("circuit.html", "circuit.svg", "truth.svg", "training.svg", "training-*.svg", "curve.svg"),
    *("report.html", "report.json", OWN_PAIRS, RUN_TOML),
    CONFIG,  # last, so that a partly deleted run is still recognised
)


class Busy(ValueError):
    """Another process is writing to the folder of a run."""


@dataclass(frozen=True)
class Place:
    """The location of a run's files, for all ranks.

    folder: the folder, on the rank that writes; None on other ranks, and if nothing is written.
    path: its path, on all ranks.
    stored: config.json of the run that is resumed.
    finished: whether that run is finished.
    """

    folder: RunFolder | None
    path: Path | None
    stored: Mapping[str, Any] | None
    finished: bool

    @classmethod
    def of(cls, kind: type[RunFolder], out: str | Path | None, *, resume: bool, overwrite: bool) -> Place:
        """Open the folder on the first rank, and inform the others. Raises the folder's ValueError."""
        folder = kind(out, resume=resume, overwrite=overwrite) if out is not None and ranks.is_first() else None
        stored = ranks.from_first(folder.config if folder and resume else None)
        finished = ranks.from_first(folder.finished if folder and resume else False)
        return cls(folder, None if out is None else Path(out), stored, finished)

    @property
    def dtype(self) -> str | None:
        """The dtype of the search of the run that is resumed."""
        return self.stored.get("dtype") if self.stored else None


class RunFolder:
    """A folder for a run. Raises ValueError if it contains other files, or a run that may not be replaced.

    patterns: the files that the run writes.
    last: the file that marks the run as finished.
    """

    format: ClassVar[str] = FORMAT
    patterns: ClassVar[tuple[str, ...]] = PATTERNS
    last: ClassVar[str] = EVALUATION

    def __init__(self, path: str | Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path / LOCK)
        if resume and overwrite:
            raise ValueError("expected resume or overwrite, got both: resume keeps the run, overwrite deletes it")
        self._check_place()
        self.config = self._stored_config()
        if self._contents() and not resume:
            self._check_overwrite(overwrite)
        elif self._contents() and self.config is None:
            raise ValueError(f"{self.path} is {self._what_it_is()}, so nothing can be resumed there")

    @property
    def finished(self) -> bool:
        return self.config is not None and (self.path / self.last).exists()

    def begin(self, config: Mapping[str, Any], *, resume: bool) -> None:
        """Prepare the folder for a run: keep its files if the run is resumed, otherwise delete the files of the old
        run.
        """
        self._hold()
        if resume and self.config is not None:
            return
        for path in self._run_files():
            path.unlink()
        self.config = {"format": self.format, "version": FORMAT_VERSION, **config}
        files.write_json(self.path / CONFIG, self.config)

    def release(self) -> None:
        """Release the lock, so that other processes can write."""
        self._lock.release()

    def _hold(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise Busy(
                f"another process is writing to {self.path}; wait for it, or choose another folder with --out"
            ) from None
        except OSError as error:
            raise OSError(error.errno, f"could not write to {self.path}: {error.strerror or error}") from error

    def withdraw(self) -> None:
        """Remove the traces of a run that was refused before its first checkpoint and without scores."""
        if any(path for kind in ("checkpoint", "scores") for path in self.path.glob(f"{kind}*.safetensors")):
            return
        for path in self._run_files():
            path.unlink()
        if not self._contents():
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()

    def _check_place(self) -> None:
        place = self.path
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise ValueError(f"cannot write the run to {self.path}: {place} is a file, expected a folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise ValueError(f"cannot write the run to {self.path}: no permission in {place}; choose another folder")

    def _check_overwrite(self, overwrite: bool) -> None:
        if not overwrite:
            state = "holds a run" if self.config is not None else "is not empty"
            raise ValueError(
                f"{self.path} {state}. Continue that run with --resume, replace it with --overwrite, "
                "or choose another folder with --out"
            )
        if self.config is None and self._run_files():
            taken = ", ".join(path.name for path in self._run_files())
            raise ValueError(f"{self.path} is {self._what_it_is()}, and {taken} would be overwritten; change --out")

    def _what_it_is(self) -> str:
        """Describe a folder that has no config.json of this kind."""
        kind = self._content_of_config().get("format")
        if kind is None:
            return f"not a run folder (it has no {CONFIG} of one)"
        return f"not a run folder of this kind: {CONFIG} says {kind!r}, expected {self.format!r} (--seeds or not)"

    def _stored_config(self) -> dict[str, Any] | None:
        """Return the run's config.json; None if there is none, or if it belongs to another program."""
        content = self._content_of_config()
        if content.get("format") != self.format:
            return None
        return dict(files.read_own(self.path / CONFIG, self.format, FORMAT_VERSION, ConfigContent))

    def _content_of_config(self) -> dict[str, Any]:
        """Return the content of config.json; None if it cannot be read."""
        try:
            content = files.read_json(self.path / CONFIG)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def _contents(self) -> list[Path]:
        return sorted(path for path in self.path.iterdir() if path.name != LOCK) if self.path.is_dir() else []

    def _run_files(self) -> list[Path]:
        return [path for pattern in self.patterns for path in sorted(self.path.glob(pattern))]
