"""The files of a sweep."""

from __future__ import annotations

from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12

from edge_pruning.contents.values import Count, Json


class SweepContent(TypedDict):
    """sweep.json; `cells` holds the settings of each run by its name."""

    cells: dict[str, Json]
    about: Json
    slurm: Json


class ClaimContent(TypedDict):
    """A worker's claim to a cell. began, ended: seconds since 1970 by its own clock; started: when its process was.

    processes: tells machines and containers apart. found: what the run folder held before, in words.
    """

    worker: str
    host: str
    pid: Count
    processes: str
    started: float
    began: float
    ended: float | None
    found: str


class FailureContent(TypedDict):
    """Why a cell failed: its error in words, and where in the code it was raised."""

    error: str
    worker: str
    traceback: str
