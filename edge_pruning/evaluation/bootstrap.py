"""Bootstrap confidence intervals: how much a mean would vary with other examples of the same kind.

Examples are drawn with replacement, as many as there are, many times over; the middle 95 % of the means are the
interval (the percentile method; Efron, 1979). All runs share the draws, so that ratios of runs keep their correlation.
The intervals cover other pairs of the same kind only, not other templates or tasks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

RESAMPLES = 1000
CONFIDENCE = 0.95
MOST_KEPT = 4_000_000  # counts in memory at once: 32 MB
Interval = tuple[float, float]


class Resamples:
    """How often each of `n` examples is drawn in each resample. A function of n and the seed.

    A small table of counts is kept; a large one is drawn again in chunks on each use.
    """

    def __init__(self, n: int, seed: int = 0, resamples: int = RESAMPLES) -> None:
        self.n, self.seed, self.resamples = n, seed, resamples
        self._kept = torch.cat([*self._drawn()]) if n * resamples <= MOST_KEPT else None

    @property
    def chunks(self) -> Iterator[Tensor]:
        """Yield the counts, float64 [some resamples, b], a few resamples at a time."""
        yield from self._drawn() if self._kept is None else [self._kept]

    def _drawn(self) -> Iterator[Tensor]:
        generator, together = torch.Generator().manual_seed(self.seed), max(1, MOST_KEPT // self.n)
        for first in range(0, self.resamples, together):
            drawn = torch.randint(self.n, (min(together, self.resamples - first), self.n), generator=generator)
            counts = torch.zeros(drawn.shape, dtype=torch.float64)
            yield counts.scatter_add_(1, drawn, torch.ones_like(counts))

    def means(self, values: Tensor) -> Tensor:
        """Return the mean of values [b] in every resample, [resample], without NaN entries."""
        present = ~values.isnan()
        known, ones = values.double().where(present, 0), present.double()
        return torch.cat([counts @ known / (counts @ ones) for counts in self.chunks])

    def interval(self, values: Tensor) -> Interval:
        """Return the interval of the mean of values [b]; NaN for fewer than two."""
        return _middle(self.means(values)) if int((~values.isnan()).sum()) > 1 else (float("nan"), float("nan"))

    def interval_of_ratio(self, top: Tensor, bottom: Tensor) -> Interval:
        """Return the interval of mean(top) / mean(bottom), both [b]."""
        enough = int((~(top + bottom).isnan()).sum()) > 1
        return _middle(self.means(top) / self.means(bottom)) if enough else (float("nan"), float("nan"))


def _middle(means: Tensor) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = means.nanquantile(torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    return low, high
