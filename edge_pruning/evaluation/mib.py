"""CPR and CMD: one number for the circuits of all sizes, as the MIB benchmark defines them (Mueller and others, 2025).

With f(k) the normalised faithfulness of the best circuit of a share k of the edges, measured at ten shares,

    CPR = area under f(k),  higher is better          CMD = area of |1 - f(k)|,  0 is best

both by trapezoids that are linear in k from 0.1 % to 100 %. A perfect f of 1 everywhere gives CPR 0.999. The circuit of
share k has floor(k * edges) edges before dangling ones are removed, and stands at k all the same.

Four fifths of that area lie between 20 % and 100 % of the edges, where few would speak of a circuit. So there is a
logarithmic counterpart: the mean of f (or of |1 - f|) along ln k, where every factor of ten counts alike; a perfect f
gives 1 (or 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def mib_sizes(n_edges: int) -> tuple[int, ...]:
    """How many edges the circuits at `SHARES` have; 0 where a share is less than one edge."""
    return tuple(int(share * n_edges) for share in SHARES)


def areas(faithfulness: Sequence[float]) -> dict[str, float]:
    """`cpr`, `cmd`, and their means along ln k, `log_cpr` and `log_cmd`; of f at `SHARES`, in that order."""
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
