"""The other files of a run folder."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12

from edge_pruning.contents.values import Count


class Row(TypedDict):
    """One size in curve.json."""

    edges: Count
    edges_without_dangling: Count
    split: str
    kl: NotRequired[float | None]
    accuracy: NotRequired[float | None]


class Sizes(TypedDict):
    """The part of curve.json that a page shows."""

    sizes: Annotated[list[Row], Field(min_length=1)]


class CurveContent(Sizes):
    """curve.json."""

    chosen: Count
    notices: list[str]


class Settings(TypedDict):
    task: str
    model: str


class ConfigContent(TypedDict):
    """config.json of a run; `RunConfig` checks its settings."""

    settings: Settings
    ablation: NotRequired[str]
    seeds: NotRequired[int]
    against: NotRequired[Settings]  # second setting of a study


class FoundContent(TypedDict):
    """The metadata of a file of scores: their origin, and the number of edges that the method would keep."""

    run: str
    natural_size: Count | None


class Step(TypedDict):
    """A line of metrics.jsonl."""

    step: Count
