"""The result of an evaluation, as a value: read by attribute, stored as JSON."""

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
    """The numbers of a circuit, of the model, and of the empty and random circuits.

    `evaluation.circuit.kl` is a mean, `evaluation.circuit.edges` a size. The runs are `model`, `circuit`,
    `without_dangling`, `complement`, `empty` and, if requested, `random` and `soft`; otherwise these are None. The
    numbers are those of `numbers.NUMBERS`. An evaluation can also be read like the JSON object in its file:
    `evaluation["circuit"]["kl"]`.

    protocol: the data and settings of the measurement.
    loss: the number that measures the distance from the model: `kl`, or `squared_error` if the output is a number.
    convention: how edges are counted.
    definitions: the meaning of each number.
    warnings: what to know before quoting the numbers.
    discretisation_gap: loss of the circuit minus that of the soft mask it was cut from, on the pairs of both
        measurements; positive: cutting lost something.
    templates: by template, the circuit's mean loss and accuracy, the model's accuracy, and the number of pairs.
    ground_truth: the comparison with the true circuit, if known.
    runs: the numbers of every pair; not stored, so a loaded evaluation has none.
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
        """The mean of several random circuits; its `spread` is the standard deviation between them."""
        return self.summaries.get("random")

    @property
    def soft(self) -> Summary | None:
        return self.summaries.get("soft")

    @cached_property
    def scale(self) -> FaithfulnessScale:
        """The scale of faithfulness; only available while the evaluation has its `runs`."""
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
        """Return whether the stored contents are equal; also accepts the JSON object itself."""
        return self._json == (other._json if isinstance(other, Evaluation) else other)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _json(self) -> dict[str, Any]:
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; undefined (NaN) and infinite values are null."""
        content: dict[str, Any] = json_values({
            "format": FORMAT,
            "version": FORMAT_VERSION,
            **asdict(self.protocol),
            "loss": self.loss,
            "convention": self.convention,
            "definitions": self.definitions,
            "warnings": list(self.warnings),
            **dict.fromkeys(SIDE_BY_SIDE),  # null for a run that was not requested
            **{name: run.to_json() for name, run in self.summaries.items()},
            "discretisation_gap": self.discretisation_gap,
            "templates": self.templates,
            "ground_truth": self.ground_truth and self.ground_truth.to_json(),
        })
        return content

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read evaluation.json. Raises ValueError with the file and its problem."""
        from edge_pruning.contents import EvaluationContent

        return cls.from_json(files.read_own(Path(path), FORMAT, FORMAT_VERSION, EvaluationContent))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Evaluation:
        """Read the result of `to_json`. Raises ValueError if it is not an evaluation, or has a newer version."""
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
        """Return one row per run: its name, its number of edges, and its means; None where undefined."""
        rows: list[dict[str, str | float | None]] = []
        for name, run in self.summaries.items():
            rows.append(json_values({"run": name, "edges": run.edges, **run.mean}))
        return rows
