"""The outcome of an evaluation, as a value: read by attribute, written as JSON and read from there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.evaluation.faithfulness_scale import FaithfulnessScale
from edge_pruning.evaluation.measure import Measurements
from edge_pruning.evaluation.protocol import EvaluationProtocol
from edge_pruning.evaluation.summary import Summary
from edge_pruning.files import json_values
from edge_pruning.truth.recovery import TruthComparison

FORMAT = "edge-pruning/evaluation"
FORMAT_VERSION = 1
SIDE_BY_SIDE = ("model", "soft", "circuit", "without_dangling", "complement", "random", "empty")


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Mapping[str, Any]):
    """A circuit's numbers beside those of the model, of no circuit and of random ones.

    `evaluation.circuit.kl` is a mean, `evaluation.circuit.edges` a size. The runs are `model`, `circuit`,
    `without_dangling`, `complement`, `empty` and, where they were asked for, `random` and `soft`; the others are None.
    The numbers are those of `numbers.NUMBERS`. `evaluation["circuit"]["kl"]` works as well: an evaluation also reads
    like the JSON object that it is stored as.

    protocol: what was measured on, and how. loss: the number that says how far a run is from the model: `kl`, or
    `squared_error` where the output is a number. convention: how edges are counted. definitions: what each number
    means. warnings: what to know before quoting them. discretisation_gap: loss of the circuit minus that of the soft
    mask it was cut from, on the pairs that both were measured on; positive: cutting lost something. templates: the
    circuit's mean loss and accuracy, the model's accuracy, and the number of pairs, by template. ground_truth: the
    comparison with the true circuit, where that is known. runs: the numbers of every pair; they are not stored, so a
    loaded evaluation has none.
    """

    protocol: EvaluationProtocol
    loss: str
    convention: str
    summaries: Mapping[str, Summary]
    definitions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    discretisation_gap: float | None = None
    templates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ground_truth: TruthComparison | None = None
    runs: Mapping[str, Measurements] = field(default_factory=dict)

    # --- runs ------------------------------------------------------------------------------------------------------

    @property
    def model(self) -> Summary:
        return self.summaries["model"]

    @property
    def circuit(self) -> Summary:
        return self.summaries["circuit"]

    @property
    def without_dangling(self) -> Summary:
        return self.summaries["without_dangling"]

    @property
    def complement(self) -> Summary:
        return self.summaries["complement"]

    @property
    def empty(self) -> Summary:
        return self.summaries["empty"]

    @property
    def random(self) -> Summary | None:
        """The mean of several random circuits; its `spread` is between them."""
        return self.summaries.get("random")

    @property
    def soft(self) -> Summary | None:
        return self.summaries.get("soft")

    @cached_property
    def scale(self) -> FaithfulnessScale:
        """What faithfulness is measured with; only of an evaluation that still has its `runs`."""
        return FaithfulnessScale(self.runs["model"], self.runs["empty"], self.protocol.metric)

    # --- as JSON and as table rows ---------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        return self.summaries[name] if name in self.summaries else self._json[name]

    def __len__(self) -> int:
        return len(self._json)

    def __contains__(self, name: object) -> bool:
        return name in self._json

    def __repr__(self) -> str:
        about, own = self.protocol, self.circuit
        return (
            f"Evaluation({about.task}, {about.examples} {about.split} pairs: {own.edges:,} edges, {self.loss} "
            f"{own.mean[self.loss]:.3g}, accuracy {own.mean['accuracy']:.3g}, faithfulness "
            f"{own.mean['faithfulness']:.3g})"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._json)

    def __eq__(self, other: object) -> bool:
        """Whether the stored contents are equal; also to the JSON object itself."""
        return self._json == (other._json if isinstance(other, Evaluation) else other)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _json(self) -> dict[str, Any]:
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is undefined (NaN) or infinite is null."""
        content: dict[str, Any] = json_values({
            "format": FORMAT,
            "version": FORMAT_VERSION,
            **asdict(self.protocol),
            "loss": self.loss,
            "convention": self.convention,
            "definitions": self.definitions,
            "warnings": list(self.warnings),
            **dict.fromkeys(SIDE_BY_SIDE),  # a run that was not asked for is null
            **{name: run.to_json() for name, run in self.summaries.items()},
            "discretisation_gap": self.discretisation_gap,
            "templates": self.templates,
            "ground_truth": self.ground_truth and self.ground_truth.to_json(),
        })
        return content

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read evaluation.json. Raises ValueError that names the file and what is wrong with it."""
        from edge_pruning.contents import EvaluationContent

        return cls.from_json(files.read_own(Path(path), FORMAT, FORMAT_VERSION, EvaluationContent))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Evaluation:
        """What `to_json` gave. Raises ValueError if it is not an evaluation, or one of a newer version."""
        if content.get("format") != FORMAT or content.get("version", 0) > FORMAT_VERSION:
            raise ValueError(
                f"expected an evaluation (format {FORMAT!r}, version up to {FORMAT_VERSION}), got "
                f"{content.get('format')!r}, version {content.get('version')}"
            )
        known = content["ground_truth"]
        return cls(
            EvaluationProtocol.from_json(content),
            content["loss"],
            content["convention"],
            {name: Summary.from_json(content[name]) for name in SIDE_BY_SIDE if content.get(name) is not None},
            content["definitions"],
            tuple(content["warnings"]),
            content.get("discretisation_gap"),
            {t: {n: math.nan if v is None else v for n, v in row.items()} for t, row in content["templates"].items()},
            None if known is None else TruthComparison.from_json(known),
        )

    def rows(self) -> list[dict[str, str | float | None]]:
        """A table with one row per run: its name, how many edges it had, and its means; None where undefined."""
        rows: list[dict[str, str | float | None]] = []
        for name, run in self.summaries.items():
            rows.append(json_values({"run": name, "edges": run.edges, **run.mean}))
        return rows
