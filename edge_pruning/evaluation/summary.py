"""A run in a few numbers: size, means, standard errors, confidence intervals, and quantiles over the examples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edge_pruning.evaluation.bootstrap import Interval, Resamples
from edge_pruning.evaluation.faithfulness_scale import FaithfulnessScale
from edge_pruning.evaluation.measure import Measurements, deviation, error_of_mean
from edge_pruning.numbers import LOSSES, measured_numbers
from edge_pruning.registry import nearest_in_words

QUANTILES = (5, 25, 50, 75, 95)
SIZE = ("edges", "edges_without_dangling", "edges_total", "convention", "circuits", "examples")


@dataclass(frozen=True, repr=False)
class Summary(Mapping[str, Any]):
    """The scores of a run: `summary.kl` (or `summary["kl"]`) is its mean KL, `summary.edges` its size.

    mean: by the names in `numbers.NUMBERS`.
    standard_error: of the mean, over examples; the variation expected with other examples of the same kind.
    interval: 95 %, bootstrapped over examples.
    quantiles: over examples, and over circuits if there are several; percent -> value.
    spread: standard deviation between circuits, if there are several.
    size: the numbers of edges, of edges in the graph, of circuits and of examples.

    Undefined numbers are NaN.
    """

    mean: Mapping[str, float]
    standard_error: Mapping[str, float]
    interval: Mapping[str, Interval]
    quantiles: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, float] = field(default_factory=dict)
    size: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        for values in ("mean", "size"):
            if name in vars(self).get(values, {}):
                return vars(self)[values][name]
        raise AttributeError(f"there is no number {name!r}; {nearest_in_words(name, vars(self).get('mean', {}))}")

    def __getitem__(self, name: str) -> Any:
        return self.mean[name] if name in self.mean else self.to_json()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_json())

    def __len__(self) -> int:
        return len(self.to_json())

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.mean.items())
        return f"Summary({self.size.get('edges', 0):,} edges: {numbers})"

    def to_json(self) -> dict[str, Any]:
        """Return size and means by name, together with all other fields under their own names."""
        extra = {"spread": dict(self.spread)} if self.spread else {}
        return {
            **self.size,
            **self.mean,
            "standard_error": dict(self.standard_error),
            "interval": {name: list(values) for name, values in self.interval.items()},
            "quantiles": {name: dict(values) for name, values in self.quantiles.items()},
            **extra,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Summary:
        """Read the result of `to_json` from a file; null is NaN."""
        parts = ("standard_error", "interval", "quantiles", "spread")
        size = {name: value for name, value in content.items() if name in SIZE}
        return cls(
            {name: _number(value) for name, value in content.items() if name not in (*SIZE, *parts)},
            {name: _number(value) for name, value in content["standard_error"].items()},
            {name: (_number(low), _number(high)) for name, (low, high) in content["interval"].items()},
            {name: {p: _number(v) for p, v in values.items()} for name, values in content["quantiles"].items()},
            {name: _number(value) for name, value in content.get("spread", {}).items()},
            size,
        )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def summarise(
    run: Measurements,
    scale: FaithfulnessScale,
    resamples: Resamples,
    size: Mapping[str, Any] | None = None,
) -> Summary:
    """Summarise a run. Its faithfulness, measured on `scale`, is a ratio of means, not a mean of ratios."""
    values = {
        number.name: run.values[number.name]
        for number in measured_numbers(run.metric) if number.name in ("kl", run.loss_name) or number.name not in LOSSES
    }
    values["faithfulness"] = scale.shares(run)
    per_example = {name: value.nanmean(0) for name, value in values.items()}
    span = scale.shares(scale.model.on(run.ids))[0]
    interval = {name: resamples.interval(value) for name, value in per_example.items()}
    return Summary(
        {name: float(value.nanmean()) for name, value in values.items()}
        | {"faithfulness": scale.faithfulness(run)},
        {name: error_of_mean(value) for name, value in per_example.items()}
        | {"faithfulness": scale.standard_error(run)},
        interval | {"faithfulness": resamples.interval_of_ratio(per_example["faithfulness"], span)},
        {name: _quantiles(value) for name, value in values.items()},
        {name: deviation(value.nanmean(1)) for name, value in values.items()} if len(run) > 1 else {},
        {**(size or {}), "examples": run.examples},
    )


def _quantiles(values: Tensor) -> dict[str, float]:
    at = torch.tensor(QUANTILES, dtype=values.dtype) / 100
    return dict(zip(map(str, QUANTILES), values.flatten().nanquantile(at).tolist(), strict=True))
