"""Claims to cells: files by which any number of processes on any number of machines agree who works on which cell.

    claims/CELL.1     created by the worker that begins the cell; exactly one process can create a file
    claims/CELL.2     created by the worker that takes over from a dead one; the claim with the highest number holds

A worker touches its claim every `BEAT` seconds. A claim ends when its worker writes so (after an interrupt, or at the
end of its work), when the worker's process no longer exists (workers on the same machine see that at once), or when the
claim was not touched for `SILENCE` seconds. That time is measured by the clock of the file system, so that the clocks
of the machines need not agree. Claims are never deleted: a worker that takes over creates the claim with the next
number, which again only one process can do.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import psutil

from edge_pruning import files
from edge_pruning.contents import ClaimContent

BEAT, SILENCE = 15.0, 180.0  # seconds
TICK = ".clock"


class Lost(Exception):
    """Another worker has taken the cell, because this one was thought to be dead."""


@dataclass(frozen=True)
class Claim:
    """One worker's claim to a cell. content: what its file holds; None if it was not written to the end.

    touched: when its worker last said that it is alive, in seconds by the clock of the file system.
    """

    path: Path
    content: ClaimContent | None
    touched: float

    @property
    def number(self) -> int:
        return int(self.path.suffix[1:])

    @property
    def worker(self) -> str:
        """Machine and process, for people."""
        return f"{self.content['host']}:{self.content['pid']}" if self.content else "unknown"

    @property
    def ended(self) -> bool:
        """Whether its worker has given it up itself."""
        return self.content is not None and self.content["ended"] is not None

    @property
    def seconds(self) -> float:
        """How long its worker was at it."""
        if self.content is None:
            return 0.0
        end = self.content["ended"]
        return max(0.0, (self.touched if end is None else end) - self.content["began"])

    def is_alive(self, now: float) -> bool:
        """now: by the clock of the file system."""
        if self.ended:
            return False
        if self.content is not None and self.content["processes"] == process_table():
            return _runs(self.content["pid"], self.content["started"])
        return now - self.touched < SILENCE


class Claims:
    """The claims of one sweep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def now(self) -> float:
        """The clock of the file system; this machine's, where nothing can be written."""
        tick = self.folder / TICK
        try:
            tick.touch()
            return tick.stat().st_mtime
        except OSError:
            return time.time()

    def of(self, cell: str) -> list[Claim]:
        """All claims to a cell, the first one first."""
        return self.all().get(cell, [])

    def all(self) -> dict[str, list[Claim]]:
        """All claims by cell, the first one first."""
        found: dict[str, list[Claim]] = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.suffix[1:].isdecimal() and not path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    found.setdefault(path.stem, []).append(_read(path))
        return {cell: sorted(claims, key=lambda claim: claim.number) for cell, claims in found.items()}

    def take(self, cell: str, found: str) -> Claim | None:
        """Claim a cell for this process; None if another worker has it.

        found: what the run folder holds now, in words, by which the next worker sees whether this one got further.
        """
        before = self.of(cell)
        if before and before[-1].is_alive(self.now()):
            return None
        path = self.folder / f"{cell}.{before[-1].number + 1 if before else 1}"
        content: ClaimContent = {
            "worker": uuid.uuid4().hex, "host": platform.node(), "pid": os.getpid(), "began": time.time(),
            "started": psutil.Process().create_time(), "processes": process_table(), "found": found, "ended": None,
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(content, file)
        except FileExistsError:
            return None
        return _read(path)


class Held:
    """A claim while its worker works. Raises Lost in `check` once another worker has the cell."""

    def __init__(self, claims: Claims, claim: Claim) -> None:
        self.claims, self.claim = claims, claim
        self.path = claim.path
        self._stop, self._lost = threading.Event(), threading.Event()

    def check(self) -> None:
        if self._lost.is_set():
            raise Lost

    def _beat(self) -> None:
        following = self.path.with_suffix(f".{self.claim.number + 1}")
        while not self._stop.wait(BEAT):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                self._lost.set()
            except OSError:  # a file system that is away for a moment
                continue
            if following.exists():
                self._lost.set()

    @contextmanager
    def kept(self) -> Iterator[Held]:
        """Say that this worker is alive; at the end, give the cell up."""
        beat = threading.Thread(target=self._beat, daemon=True)
        beat.start()
        try:
            yield self
        finally:
            self._stop.set()
            beat.join()
            if not self._lost.is_set():
                _end(self.claim)


def dead_ends(claims: list[Claim], found: str, now: float) -> int:
    """The number of last workers in a row that died while the run folder held what it holds now (`found`)."""
    dead = takewhile(lambda claim: not claim.ended and not claim.is_alive(now), reversed(claims))
    return sum(claim.content is not None and claim.content["found"] == found for claim in dead)


def process_table() -> str:
    """An identifier of the machine (or container) within which a process id means one process."""
    parts: list[Any] = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _runs(pid: int, started: float) -> bool:
    """Whether this very process still runs; another one may have got its number since."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _read(path: Path) -> Claim:
    touched = path.stat().st_mtime
    try:
        return Claim(path, files.read_json(path, ClaimContent), touched)
    except ValueError:  # being written, or its worker died before it was
        return Claim(path, None, touched)


def _end(claim: Claim) -> None:
    if claim.content is not None:
        files.write_json(claim.path, {**claim.content, "ended": time.time()})
