"""The content of this library's JSON files, as types that `files.read_json` checks a file against.

Only the fields that are read are listed; a file may contain more.
"""

from __future__ import annotations

import base64
import math
import zlib
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, FailFast, Field, with_config
from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12

Count = Annotated[int, Field(ge=0, lt=2**63)]
Names = Annotated[list[str], FailFast()]
Number = Annotated[float, Field(allow_inf_nan=False)] | None  # null: undefined, or not finite
Json = dict[str, Any]


# --- circuit.json -----------------------------------------------------------------------------------------------------


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


# --- evaluation.json --------------------------------------------------------------------------------------------------

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


# --- the other files of a run folder ----------------------------------------------------------------------------------


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


class Effect(TypedDict):
    node: str
    effect: Number
    effect_by_pair: list[Number]


PICTURE = r"data:image/png;base64,[A-Za-z0-9+/=]+"
Picture = Annotated[str, Field(pattern=f"^{PICTURE}$")]


class ShownImages(TypedDict):
    """What a pair of images has besides. grid: rows and columns of patches. queries: how many positions attend, from
    the first on; they see all positions."""

    pictures: Annotated[list[Picture], Field(min_length=2, max_length=2)]
    grid: Annotated[list[Count], Field(min_length=2, max_length=2)]
    queries: Count


class ShownPair(TypedDict):
    """A pair of texts as tokens, or of images as the names of patches."""

    clean: list[str]
    corrupted: list[str]
    position: Count
    answer: list[str]
    wrong: list[str]
    images: NotRequired[ShownImages]


class Patterns(TypedDict):
    metric: str
    definition: str
    runs: list[str]
    pairs: list[ShownPair]
    heads: list[Effect]
    weights: str


def _fitting(content: Patterns) -> Patterns:
    """Raise ValueError unless the weights have the size that the heads, runs and pairs imply. Does not unpack more than
    that.
    """
    lengths = [len(pair["clean"]) for pair in content["pairs"]]
    expected = len(content["heads"]) * len(content["runs"]) * sum(map(_stored_weights, content["pairs"]))
    try:
        packed = base64.b64decode(content["weights"], validate=True)
        found = len(zlib.decompressobj().decompress(packed, expected + 1))
    except (ValueError, zlib.error):
        raise ValueError("weights: expected zlib-compressed bytes in base64") from None
    if found != expected:
        raise ValueError(f"weights: expected {expected:,} bytes for its heads, runs and pairs, got another number")
    if any(len(head["effect_by_pair"]) != len(lengths) for head in content["heads"]):
        raise ValueError("heads: expected one effect for each pair")
    if any(pair["position"] >= len(pair["clean"]) for pair in content["pairs"]):
        raise ValueError("pairs: expected a position within the tokens")
    grids = [(len(pair["clean"]), pair["images"]["grid"]) for pair in content["pairs"] if "images" in pair]
    if any(math.prod(grid) >= n for n, grid in grids):
        raise ValueError("pairs: expected a position for each patch of the grid, behind at least one other position")
    return content


def _stored_weights(pair: ShownPair) -> int:
    """Weights of one head in one run: those of earlier tokens, or for images those of all positions."""
    n = len(pair["clean"])
    return min(pair["images"]["queries"], n) * n if "images" in pair else n * (n + 1) // 2


PatternsContent = Annotated[Patterns, AfterValidator(_fitting)]
"""patterns.json."""


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


# --- study.json -------------------------------------------------------------------------------------------------------


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


# --- sweeps -----------------------------------------------------------------------------------------------------------


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


# --- compiled programs ------------------------------------------------------------------------------------------------

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


# --- report.json ------------------------------------------------------------------------------------------------------


class ReportContent(TypedDict):
    """report.json."""

    warnings: list[str]
    circuit: CircuitContent
    evaluation: EvaluationContent
    curve: Json | None
    minimality: Json | None
    stability: StabilityContent | None
    pairs: list[Json]
