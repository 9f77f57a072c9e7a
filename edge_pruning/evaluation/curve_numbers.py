"""A curve over sizes in a few numbers: the number of edges needed for a level of quality, and MIB's CPR and CMD.

**Levels** compare methods at equal quality: "95 % faithfulness takes 60 edges here and 140 there". The size is not
interpolated but found among circuits that were run: the smallest size on a grid that reaches the level, refined by
halving. Quality need not grow with size, so a larger circuit may fall below the level again; the curve reports this.

**CPR and CMD** summarise all sizes, as defined by the MIB benchmark (Mueller and others, 2025). With f(k) the
normalised faithfulness of the best circuit of a share k of the edges, measured at ten shares,

    CPR = area under f(k),  higher is better          CMD = area of |1 - f(k)|,  0 is best

both by the trapezoidal rule, linear in k, from 0.1 % to 100 %. A perfect f of 1 everywhere gives CPR 0.999. The circuit
of share k has floor(k * edges) edges before dangling ones are removed, but is plotted at k.

Four fifths of that area lie between 20 % and 100 % of the edges, which are too many to be called a circuit. Therefore a
logarithmic counterpart is also given: the mean of f (or of |1 - f|) over ln k, in which every factor of ten has the
same weight; a perfect f gives 1 (or 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edge_pruning.objectives import get_objective

PRECISION = 0.05  # relative precision of the size
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Level:
    """Faithfulness of at least `at`, or a loss (`kl` or `squared_error`) of at most `at` of the empty circuit's."""

    number: str
    at: float

    @property
    def name(self) -> str:
        return f"{self.number} {self.at:g}"

    @property
    def words(self) -> str:
        share = f"{100 * self.at:g} %"
        if self.number == "faithfulness":
            return f"faithfulness of {share}"
        return f"{get_objective(self.number).short} of {share} of the empty circuit's"

    def reached(self, means: Mapping[str, float], empty_loss: float) -> bool:
        """Return whether a run with these means reaches the level; False if the number is undefined."""
        if self.number == "faithfulness":
            return means["faithfulness"] >= self.at
        return means[self.number] <= self.at * empty_loss


def levels_of(loss: str) -> tuple[Level, ...]:
    """Return all levels. The distance from the model is `kl` or `squared_error`."""
    return (*(Level("faithfulness", at) for at in (0.85, 0.90, 0.95, 0.99)), Level(loss, 0.10), Level(loss, 0.05))


def first_reached(sizes: Sequence[int], reached: Callable[[int], bool]) -> int | None:
    """Return the smallest of the sizes (ascending) that reaches a level; None if none does."""
    return next((size for size in sizes if reached(size)), None)


def size_between(sizes: Sequence[int], reached: Callable[[int], bool]) -> int | None:
    """Return the size to run next to locate a level more precisely; None if it is precise enough."""
    high = first_reached(sizes, reached)
    if high is None:
        return None
    low = max((size for size in sizes if size < high), default=0)
    if high - low <= max(1.0, PRECISION * high):
        return None
    return min(high - 1, max(low + 1, round(math.sqrt(max(1, low) * high))))


def mib_sizes(n_edges: int) -> tuple[int, ...]:
    """Return the numbers of edges of the circuits at `SHARES`; 0 for a share of less than one edge."""
    return tuple(int(share * n_edges) for share in SHARES)


def areas(faithfulness: Sequence[float]) -> dict[str, float]:
    """Return `cpr`, `cmd`, and their means over ln k, `log_cpr` and `log_cmd`, from f at `SHARES`, in that order."""
    if len(faithfulness) != len(SHARES):
        raise ValueError(f"expected the faithfulness at {len(SHARES)} sizes ({SHARES}), got {len(faithfulness)}")
    distance = [abs(1 - f) for f in faithfulness]
    logs = [math.log(share) for share in SHARES]
    return {
        "cpr": _trapezoids(SHARES, faithfulness),
        "cmd": _trapezoids(SHARES, distance),
        "log_cpr": _trapezoids(logs, faithfulness) / (logs[-1] - logs[0]),
        "log_cmd": _trapezoids(logs, distance) / (logs[-1] - logs[0]),
    }


def _trapezoids(x: Sequence[float], y: Sequence[float]) -> float:
    steps = zip(pairwise(x), pairwise(y), strict=True)
    return sum((right - left) * (before + after) / 2 for (left, right), (before, after) in steps)
