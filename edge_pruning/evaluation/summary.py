"""A run in a few numbers per metric: mean, standard error, confidence interval, quantiles over the examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edge_pruning.evaluation.bootstrap import Interval, Resamples
from edge_pruning.evaluation.measured import Measured, deviation, error_of_mean
from edge_pruning.evaluation.yardstick import Yardstick
from edge_pruning.numbers import LOSSES, measured_numbers

QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Summary:
    """`summary["kl"]` is the mean of a run's KL.

    standard_error: of the mean, over examples (what other examples of the same kind would change). interval: 95 %,
    bootstrapped over examples. quantiles: over examples, and circuits where there are several; percent -> value.
    spread: standard deviation between circuits, where there are several. Undefined numbers are NaN.
    """

    mean: Mapping[str, float]
    standard_error: Mapping[str, float]
    interval: Mapping[str, Interval]
    quantiles: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, metric: str) -> float:
        return self.mean[metric]

    def to_json(self) -> dict[str, Any]:
        """The means by metric, and beside them everything else under its own name."""
        extra = {"spread": dict(self.spread)} if self.spread else {}
        return {
            **self.mean,
            "standard_error": dict(self.standard_error),
            "interval": {name: list(found) for name, found in self.interval.items()},
            "quantiles": {name: dict(found) for name, found in self.quantiles.items()},
            **extra,
        }


def summarise(run: Measured, yardstick: Yardstick, resamples: Resamples) -> Summary:
    """A run's numbers, and where it stands on the yardstick. Faithfulness is a ratio of means, not a mean of ratios."""
    values = {
        number.name: run.values[number.name]
        for number in measured_numbers(run.metric) if number.name in ("kl", run.loss_name) or number.name not in LOSSES
    }
    values["faithfulness"] = yardstick.shares(run)
    per_example = {name: value.nanmean(0) for name, value in values.items()}
    span = yardstick.shares(yardstick.model)[0]
    interval = {name: resamples.interval(value) for name, value in per_example.items()}
    return Summary(
        {name: float(value.nanmean()) for name, value in values.items()}
        | {"faithfulness": yardstick.faithfulness(run)},
        {name: error_of_mean(value) for name, value in per_example.items()}
        | {"faithfulness": yardstick.standard_error(run)},
        interval | {"faithfulness": resamples.interval_of_ratio(per_example["faithfulness"], span)},
        {name: _quantiles(value) for name, value in values.items()},
        {name: deviation(value.nanmean(1)) for name, value in values.items()} if len(run) > 1 else {},
    )


def _quantiles(values: Tensor) -> dict[str, float]:
    at = torch.tensor(QUANTILES, dtype=values.dtype) / 100
    return dict(zip(map(str, QUANTILES), values.flatten().nanquantile(at).tolist(), strict=True))
