"""Bootstrap confidence intervals: by how much a mean would move if the examples had been others of the same kind.

Examples are drawn with replacement, as many as there are, many times over; the middle 95 % of the means are the
interval (the percentile method; Efron, 1979). All runs share the draws, so ratios of runs keep what they have in
common. It says nothing about other templates or tasks: only about other pairs of this kind.
"""

from __future__ import annotations

import torch
from torch import Tensor

RESAMPLES = 1000
CONFIDENCE = 0.95
Interval = tuple[float, float]


class Resamples:
    """How often each of `n` examples is drawn in each resample: [resample, b]. A function of n and the seed."""

    def __init__(self, n: int, seed: int = 0, resamples: int = RESAMPLES) -> None:
        drawn = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed))
        self.counts = torch.zeros(resamples, n, dtype=torch.float64)
        self.counts.scatter_add_(1, drawn, torch.ones_like(self.counts))

    def means(self, values: Tensor) -> Tensor:
        """The mean of values [b] in every resample, [resample]; NaN entries are left out."""
        present = ~values.isnan()
        return self.counts @ values.double().where(present, 0) / (self.counts @ present.double())

    def interval(self, values: Tensor) -> Interval:
        """Of the mean of values [b]; NaN for fewer than two."""
        return _middle(self.means(values)) if int((~values.isnan()).sum()) > 1 else (float("nan"), float("nan"))

    def interval_of_ratio(self, top: Tensor, bottom: Tensor) -> Interval:
        """Of mean(top) / mean(bottom), both [b]."""
        enough = int((~(top + bottom).isnan()).sum()) > 1
        return _middle(self.means(top) / self.means(bottom)) if enough else (float("nan"), float("nan"))


def _middle(means: Tensor) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = means.nanquantile(torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    return low, high
