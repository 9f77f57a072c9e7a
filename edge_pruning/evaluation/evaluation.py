"""The outcome of an evaluation: every run's numbers on every pair, summarised on request, as JSON or as table rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.caveats import caveats
from edge_pruning.evaluation.measured import Measured, Summary
from edge_pruning.evaluation.yardstick import Yardstick

FORMAT = "edge-pruning/evaluation"
FORMAT_VERSION = 1
SIDE_BY_SIDE = ("model", "soft", "circuit", "without_dangling", "random", "empty")


@dataclass(frozen=True)
class Conditions:
    """What was measured on, and how."""

    task: str
    split: str
    metric: str
    data_hash: str
    examples: int
    ablation: str
    ablation_description: str
    dtype: str
    seed: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A circuit's numbers beside those of the model, of no circuit and of random ones.

    `evaluation["circuit"]["kl"]` is a mean; runs are `model`, `circuit`, `without_dangling`, `empty` and, where they
    were asked for, `random` and `soft`; numbers are `kl`, the task's metric, `accuracy`, `exact_match`, `faithfulness`.
    `runs` holds them per pair, `sizes` says how many edges each run had, `templates` which pattern each pair is of.
    """

    subject: Circuit
    conditions: Conditions
    runs: Mapping[str, Measured]
    sizes: Mapping[str, Mapping[str, int | float | str]]
    templates: tuple[str, ...]

    def __getitem__(self, run: str) -> Summary:
        return self.summaries[run]

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        return {name: self._summary(self.runs[name]) for name in SIDE_BY_SIDE if name in self.runs}

    @cached_property
    def yardstick(self) -> Yardstick:
        """What faithfulness is measured with."""
        return Yardstick(self.runs["model"], self.runs["empty"], self.conditions.metric)

    @property
    def discretisation_gap(self) -> float | None:
        """KL of the circuit minus KL of the soft mask it was cut from, in nats; positive: cutting lost something."""
        return self["circuit"]["kl"] - self["soft"]["kl"] if "soft" in self.runs else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before quoting these numbers."""
        return tuple(caveats(self))

    @property
    def by_template(self) -> dict[str, dict[str, float]]:
        """The circuit's mean KL and accuracy, the model's accuracy and the number of pairs, by the pairs' template."""
        found = {}
        for template in sorted(set(self.templates) - {""}):
            of = torch.tensor([t == template for t in self.templates])
            found[template] = {
                "n": int(of.sum()),
                "kl": float(self.runs["circuit"].kl[:, of].mean()),
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
            "convention": self.subject.graph.convention,
            "definitions": self.definitions,
            "warnings": list(self.warnings),
            **dict.fromkeys(SIDE_BY_SIDE),  # a run that was not asked for is null
            **blocks,
            "discretisation_gap": self.discretisation_gap,
            "templates": self.by_template,
        }
        plain: dict[str, Any] = _plain(content)
        return plain

    def rows(self) -> list[dict[str, str | float | None]]:
        """A table with one row per run: its name, how many edges it had, and its means; None where undefined."""
        rows: list[dict[str, str | float | None]] = []
        for name, run in self.summaries.items():
            rows.append(_plain({"run": name, "edges": self.sizes[name]["edges"], **run.mean}))
        return rows

    @property
    def definitions(self) -> dict[str, str]:
        """What each number means, in words."""
        metric = self.conditions.metric
        return {
            "kl": "KL(model || run) in nats over the vocabulary, mean over a pair's compared positions",
            metric: f"{_DIFFERENCES.get(metric, metric)}, mean over the positions with a wrong answer",
            "accuracy": f"share of pairs with {metric} > 0 at every such position; of pairs without a wrong answer, "
            "those whose most likely token is right at every position",
            "exact_match": "share of pairs whose most likely token is the model's at every position",
            "faithfulness": self.yardstick.definition,
            "standard_error": "of the mean, over pairs",
            "quantiles": "percent -> value, over pairs (random: pairs and circuits); for faithfulness, over the pairs' "
            "shares, whose mean it is",
            "spread": "standard deviation between the random circuits",
            "random": "circuits of as many edges as the circuit, drawn uniformly, counted with dangling edges",
            "discretisation_gap": "KL of the circuit minus KL of the soft mask it was cut from, in nats",
        }

    def _summary(self, run: Measured) -> Summary:
        values: dict[str, Tensor] = {
            "kl": run.kl,
            self.conditions.metric: run.difference,
            "accuracy": run.accuracy,
            "exact_match": run.exact_match,
            "faithfulness": self.yardstick.shares(run),
        }
        f, error = self.yardstick.faithfulness(run), self.yardstick.standard_error(run)
        return Summary.of(values, mean={"faithfulness": f}, standard_error={"faithfulness": error})


_DIFFERENCES = {
    "logit_difference": "mean logit of the answers minus mean logit of the wrong answers",
    "probability_difference": "probability of the answers minus probability of the wrong answers",
}


def _plain(value: Any) -> Any:
    """Numbers that JSON does not have become None."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
