"""What runs scored on every example, before anything is averaged.

Axis letters: c circuit (several where random ones are reported together), b example.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Measured:
    """The numbers of `numbers.measured_numbers`, per circuit and example: float64 [c, b] on the CPU.

    values: by name; each is an attribute as well (`run.kl`). NaN where a number is undefined: `kl` where the output is
    a number, `squared_error` where it is not, the task's metric where a pair has no wrong answer. metric: the
    task's. ids: which of the evaluation's examples these are, [b]; None: all of them.
    """

    values: Mapping[str, Tensor]
    metric: str
    ids: Tensor | None = None

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name not in self.values:
            raise AttributeError(name)
        return self.values[name]

    def __len__(self) -> int:
        """How many circuits."""
        return len(self.values["kl"])

    def __getitem__(self, circuits: slice) -> Measured:
        return replace(self, values={name: value[circuits] for name, value in self.values.items()})

    @property
    def examples(self) -> int:
        return self.values["kl"].shape[1]

    def on(self, ids: Tensor | None) -> Measured:
        """On some of the examples only; None: on all of them."""
        return self if ids is None else Measured({n: v[:, ids] for n, v in self.values.items()}, self.metric, ids)

    @property
    def difference(self) -> Tensor:
        """The task's metric."""
        return self.values[self.metric]

    @property
    def loss(self) -> Tensor:
        """How far from the model: KL, or the squared error of numbers."""
        return self.values[self.loss_name]

    @property
    def loss_name(self) -> str:
        """`kl`, or `squared_error` where the output is a number."""
        return "kl" if self.values["squared_error"].isnan().all() else "squared_error"

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
