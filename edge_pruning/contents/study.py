"""study.json: circuits of two settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12

from edge_pruning.contents.values import Count, Number


class SettingContent(TypedDict):
    name: str


class JudgedContent(TypedDict):
    """Circuits judged on the pairs of one setting: means by the name of the circuit."""

    loss: Literal["kl", "squared_error"]
    examples: Count
    runs: dict[str, dict[str, Number]]


class Mean(TypedDict):
    mean: Number


class OverlapContent(TypedDict):
    iou: Mean
    of_smaller: Mean


class OverlapsContent(TypedDict):
    """Overlaps of edges or of nodes; null for a group of one circuit, and for an unknown chance level."""

    across: OverlapContent
    within: dict[str, OverlapContent | None]
    agreed: OverlapContent
    by_chance: OverlapContent | None


class EdgesContent(TypedDict):
    edges: Count
    edges_total: Count


class ComparedContent(TypedDict):
    counts: dict[str, EdgesContent]
    edges: OverlapsContent
    nodes: OverlapsContent


class StudyContent(TypedDict):
    """study.json."""

    settings: Annotated[list[SettingContent], Field(min_length=2, max_length=2)]
    ablation: str
    convention: str
    judged: dict[str, JudgedContent]
    comparison: ComparedContent
    findings: list[str]
    warnings: list[str]
