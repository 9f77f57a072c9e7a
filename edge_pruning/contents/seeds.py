"""stability.json: how far the circuits of several seeds agree."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12

from edge_pruning.contents.values import Count, Names


class Counted(TypedDict):
    edges: Count


class Core(TypedDict):
    names: Names


class Agreed(TypedDict):
    """The agreement of several seeds at one size."""

    consensus: Counted
    core: Core
    contingent: dict[str, Count]
    warnings: list[str]


class StabilityContent(TypedDict):
    """stability.json."""

    seeds: list[int]
    predicted: NotRequired[Count]  # number of pairs without their own answer
    sizes: list[Agreed]
