"""circuit.json."""

from __future__ import annotations

from typing import Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12

from edge_pruning.contents.values import Json, Names


@with_config(ConfigDict(extra="forbid"))
class Shape(TypedDict):
    """The fields of `graph.ModelShape`, which checks their limits. No other fields are allowed."""

    layers: int
    heads: int
    kv_heads: NotRequired[int]
    parallel: NotRequired[bool]


class Counting(TypedDict):
    """The graph of a circuit."""

    shape: Shape
    embeddings: Literal["joint", "split"]
    kv: Literal["kv", "query"]


class Named(TypedDict):
    """A model, task or method in a provenance."""

    name: NotRequired[str | None]
    revision: NotRequired[str | None]
    settings: NotRequired[Json | None]


class Origin(TypedDict):
    """A provenance; files of other tools may contain names only."""

    model: NotRequired[Named | str | None]
    task: NotRequired[Named | str | None]
    method: NotRequired[Named | str | None]
    ablation: NotRequired[Named | str | None]
    data: NotRequired[Json | None]
    versions: NotRequired[Json | None]


class CircuitContent(TypedDict):
    """circuit.json; `scores` names the file with the scores beside it."""

    graph: Counting
    provenance: Origin
    edges: Names
    scores: NotRequired[str]
