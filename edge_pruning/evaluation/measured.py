"""One run's numbers on every example, and their summary: mean, standard error, quantiles.

Axis letters: c circuit (1, or several random ones that are reported together), b example.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Measured:
    """What was measured, per circuit and example: float64 [c, b] on the CPU.

    kl in nats; difference: by the task's metric, NaN where a pair has no wrong answer; accuracy, exact_match: 0 or 1.
    """

    kl: Tensor
    difference: Tensor
    accuracy: Tensor
    exact_match: Tensor


@dataclass(frozen=True)
class Summary:
    """A run in a few numbers per metric; `summary["kl"]` is the mean.

    standard_error: of the mean, over examples (what other examples of the same kind would change). quantiles: over
    examples, and circuits where there are several; percent -> value. spread: standard deviation between circuits, where
    there are several. Undefined numbers are NaN.
    """

    mean: Mapping[str, float]
    standard_error: Mapping[str, float]
    quantiles: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, metric: str) -> float:
        return self.mean[metric]

    @classmethod
    def of(
        cls, values: Mapping[str, Tensor], *, mean: Mapping[str, float], standard_error: Mapping[str, float]
    ) -> Summary:
        """Summarise values [c, b] by metric. `mean` and `standard_error` replace those of ratios, known better."""
        several = any(value.shape[0] > 1 for value in values.values())
        return cls(
            {name: float(value.nanmean()) for name, value in values.items()} | dict(mean),
            {name: error_of_mean(value.nanmean(0)) for name, value in values.items()} | dict(standard_error),
            {name: _quantiles(value) for name, value in values.items()},
            {name: _deviation(value.nanmean(1)) for name, value in values.items()} if several else {},
        )

    def to_json(self) -> dict[str, object]:
        """The means by metric, and beside them everything else under its own name."""
        extra = {"spread": dict(self.spread)} if self.spread else {}
        return {
            **self.mean,
            "standard_error": dict(self.standard_error),
            "quantiles": {name: dict(found) for name, found in self.quantiles.items()},
            **extra,
        }


def error_of_mean(values: Tensor) -> float:
    """Standard deviation over the square root of their number; NaN entries are left out, NaN for fewer than two."""
    present = values[~values.isnan()]
    return _deviation(present) / math.sqrt(max(1, len(present)))


def _deviation(values: Tensor) -> float:
    return float(values.std()) if len(values) > 1 else float("nan")


def _quantiles(values: Tensor) -> dict[str, float]:
    at = torch.tensor(QUANTILES, dtype=values.dtype) / 100
    return dict(zip(map(str, QUANTILES), values.flatten().nanquantile(at).tolist(), strict=True))
