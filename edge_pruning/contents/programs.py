"""The files of compiled programs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12

from edge_pruning.contents.circuit import Shape
from edge_pruning.contents.values import Count, Json, Names

Size = Annotated[int, Field(ge=1, le=10_000)]
Value = str | int | float | bool | list[Any]


class ProgramContent(TypedDict):
    """config.json of a compiled program."""

    name: str
    vocabulary: list[Value]
    max_length: Size
    tokens: Annotated[list[Value], Field(min_length=1)]
    outputs: list[Value] | None
    residual: Annotated[list[str], Field(min_length=1)]
    layers: Size
    heads: Size
    key_size: Size
    hidden: Size
    origin: NotRequired[Json]


class OneTruth(TypedDict):
    ablation: str
    embeddings: Literal["joint", "split"]
    heads: Literal["kv", "query"]
    data_hash: str
    by_ablation: Names
    by_weights: Names
    other_sizes: list[Count]


class TruthsContent(TypedDict):
    """truth.json."""

    program: str
    fingerprint: str
    shape: Shape
    truths: Annotated[list[OneTruth], Field(min_length=1)]
