"""The outcome of an evaluation: every run's numbers on every pair, summarised on request, as JSON or as table rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.bootstrap import Resamples
from edge_pruning.evaluation.caveats import caveats
from edge_pruning.evaluation.conditions import Conditions
from edge_pruning.evaluation.definitions import RUNS, definitions_of
from edge_pruning.evaluation.measured import Measured
from edge_pruning.evaluation.plain import plain
from edge_pruning.evaluation.summary import Summary, summarise
from edge_pruning.evaluation.yardstick import Yardstick
from edge_pruning.truth.recovery import GroundTruth

FORMAT = "edge-pruning/evaluation"
FORMAT_VERSION = 1
SIDE_BY_SIDE = ("model", "soft", "circuit", "without_dangling", "complement", "random", "empty")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A circuit's numbers beside those of the model, of no circuit and of random ones.

    `evaluation["circuit"]["kl"]` is a mean; runs are `model`, `circuit`, `without_dangling`, `complement`, `empty` and,
    where they were asked for, `random` and `soft`; numbers are `kl`, the task's metric, `accuracy`, `exact_match` and
    `faithfulness`. `runs` holds them per pair, `sizes` says how many edges each run had, `templates` which pattern each
    pair is of; `ground_truth` compares with the true circuit, where that is known.
    """

    subject: Circuit
    conditions: Conditions
    runs: Mapping[str, Measured]
    sizes: Mapping[str, Mapping[str, int | float | str]]
    templates: tuple[str, ...]
    ground_truth: GroundTruth | None = None

    def __getitem__(self, run: str) -> Summary:
        return self.summaries[run]

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        resamples = Resamples(self.conditions.examples, self.conditions.seed)
        there = (name for name in SIDE_BY_SIDE if name in self.runs)
        return {name: summarise(self.runs[name], self.yardstick, resamples) for name in there}

    @cached_property
    def yardstick(self) -> Yardstick:
        """What faithfulness is measured with."""
        return Yardstick(self.runs["model"], self.runs["empty"], self.conditions.metric)

    @property
    def discretisation_gap(self) -> float | None:
        """Loss of the circuit minus that of the soft mask it was cut from; positive: cutting lost something."""
        return self["circuit"][self.loss] - self["soft"][self.loss] if "soft" in self.runs else None

    @property
    def loss(self) -> str:
        """What says how far a run is from the model: `kl`, or `squared_error` where the output is a number."""
        return self.runs["model"].loss_name

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before quoting these numbers."""
        return tuple(caveats(self))

    @property
    def by_template(self) -> dict[str, dict[str, float]]:
        """The circuit's mean loss and accuracy, the model's accuracy, and the number of pairs, by template."""
        found = {}
        for template in sorted(set(self.templates) - {""}):
            of = torch.tensor([t == template for t in self.templates])
            found[template] = {
                "n": int(of.sum()),
                self.loss: float(self.runs["circuit"].loss[:, of].mean()),
                "accuracy": float(self.runs["circuit"].accuracy[:, of].mean()),
                "model_accuracy": float(self.runs["model"].accuracy[:, of].mean()),
            }
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is undefined (NaN) or infinite is null."""
        blocks = {name: dict(self.sizes[name]) | run.to_json() for name, run in self.summaries.items()}
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            **asdict(self.conditions),
            "loss": self.loss,
            "convention": self.subject.graph.convention,
            "definitions": self.definitions,
            "warnings": list(self.warnings),
            **dict.fromkeys(SIDE_BY_SIDE),  # a run that was not asked for is null
            **blocks,
            "discretisation_gap": self.discretisation_gap,
            "templates": self.by_template,
            "ground_truth": self.ground_truth and self.ground_truth.to_json(),
        }
        found: dict[str, Any] = plain(content)
        return found

    def rows(self) -> list[dict[str, str | float | None]]:
        """A table with one row per run: its name, how many edges it had, and its means; None where undefined."""
        rows: list[dict[str, str | float | None]] = []
        for name, run in self.summaries.items():
            rows.append(plain({"run": name, "edges": self.sizes[name]["edges"], **run.mean}))
        return rows

    @property
    def definitions(self) -> dict[str, str]:
        """What each number means, in words."""
        return {**definitions_of(self.conditions, self.yardstick), **RUNS}
