"""evaluation.json and report.json, which holds an evaluation with what belongs to it."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12

from edge_pruning.contents.circuit import CircuitContent
from edge_pruning.contents.seeds import StabilityContent
from edge_pruning.contents.values import Count, Json, Names, Number

Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]


class SummaryContent(TypedDict):
    """One run of an evaluation, with its size and its means."""

    standard_error: dict[str, Number]
    interval: dict[str, Pair]
    quantiles: dict[str, dict[str, Number]]
    spread: NotRequired[dict[str, Number]]
    edges: NotRequired[float]
    edges_without_dangling: NotRequired[float]
    kl: NotRequired[Number]
    accuracy: NotRequired[Number]
    exact_match: NotRequired[Number]
    faithfulness: NotRequired[Number]


class Recovered(TypedDict):
    hits: Names
    missed: Names
    extra: Names
    exact: bool
    precision: Number
    recall: Number
    auc: Number
    roc: dict[str, list[float]] | None
    random: dict[str, Number]


class RecoveredEdges(Recovered):
    true_edges: Count


class RecoveredNodes(Recovered):
    true_nodes: Count


class TruthContent(RecoveredEdges):
    """A comparison of a circuit with the true one."""

    nodes: RecoveredNodes
    by_weights: RecoveredEdges
    ablation: str
    convention: str
    same_data: bool
    other_minimal_circuits: list[Count]


class EvaluationContent(TypedDict):
    """evaluation.json."""

    task: str
    split: str
    metric: str
    data_hash: str
    examples: Count
    ablation: str
    ablation_description: str
    dtype: str
    seed: int
    loss: Literal["kl", "squared_error"]
    convention: str
    definitions: dict[str, str]
    warnings: list[str]
    model: SummaryContent
    circuit: SummaryContent
    without_dangling: SummaryContent | None
    complement: SummaryContent | None
    empty: SummaryContent | None
    random: NotRequired[SummaryContent | None]
    soft: NotRequired[SummaryContent | None]
    templates: dict[str, dict[str, Number]]
    ground_truth: TruthContent | None


class ReportContent(TypedDict):
    """report.json."""

    warnings: list[str]
    circuit: CircuitContent
    evaluation: EvaluationContent
    curve: Json | None
    minimality: Json | None
    stability: StabilityContent | None
    pairs: list[Json]
