"""What runs scored on every example, before anything is averaged.

Axis letters: c circuit (several where random ones are reported together), b example.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """What was measured, per circuit and example: float64 [c, b] on the CPU.

    kl in nats, NaN where the output is a number; squared_error only there, NaN elsewhere.
    difference: by the task's metric, NaN where a pair has no wrong answer; accuracy, exact_match: 0 or 1.
    """

    kl: Tensor
    squared_error: Tensor
    difference: Tensor
    accuracy: Tensor
    exact_match: Tensor

    def __len__(self) -> int:
        """How many circuits."""
        return len(self.kl)

    def __getitem__(self, circuits: slice) -> Measured:
        return Measured(*(getattr(self, field.name)[circuits] for field in fields(self)))

    @property
    def loss(self) -> Tensor:
        """How far from the model: KL, or the squared error of numbers."""
        found: Tensor = getattr(self, self.loss_name)
        return found

    @property
    def loss_name(self) -> str:
        """`kl`, or `squared_error` where the output is a number."""
        return "kl" if self.squared_error.isnan().all() else "squared_error"

    @property
    def mean_loss(self) -> float:
        return float(self.loss.mean())

    def one(self, circuit: int) -> Measured:
        """A single circuit's, [1, b]."""
        return self[circuit : circuit + 1]


def error_of_mean(values: Tensor) -> float:
    """Standard deviation over the square root of their number; NaN entries are left out, NaN for fewer than two."""
    present = values[~values.isnan()]
    return deviation(present) / math.sqrt(max(1, len(present)))


def deviation(values: Tensor) -> float:
    return float(values.std()) if len(values) > 1 else float("nan")
