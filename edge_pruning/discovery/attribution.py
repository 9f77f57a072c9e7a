"""What attribution methods share: the metric whose change they estimate, and how estimates become scores.

The *effect* of an edge is how much worse the metric would be without the edge, estimated to first order,

    L(without the edge) - L  ~  -dL/dz,          L lower is better (see `objectives.py`)

It is positive for an edge that helps and negative for one that hurts. With `sign="absolute"`, edges that work against
the task are kept as well; with `sign="signed"` they are removed first.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from edge_pruning.discovery.method import Method
from edge_pruning.discovery.search import Search
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.objectives import OBJECTIVES, Objective, get_objective
from edge_pruning.tasks.task import PairSet

METRICS = ("difference", "objective", *OBJECTIVES)
FLAT = ("objective", *(name for name in OBJECTIVES if OBJECTIVES[name].compares))  # no slope at the whole model
SLOPED = tuple(name for name in METRICS if name not in FLAT)
SIGNS = ("absolute", "signed")


def metric_rule(metric: str, allowed: Collection[str]) -> tuple[bool, str]:
    """The rule for `check_settings`: the metric must be one of the allowed ones."""
    flat = " (kl and the like have their minimum at the whole model, where their gradient is 0)"
    why = "" if "kl" in allowed else flat
    return metric in allowed, f"one of {', '.join(allowed)}{why}"


def sign_rule(sign: str) -> tuple[bool, str]:
    return sign in SIGNS, " or ".join(SIGNS)


def metric_of(method: Method, metric: str, allowed: Collection[str], data: PairSet) -> Objective:
    """Return the metric as an objective: the task's `difference`, the task's `objective`, or an objective by name.

    Raises ValueError if the metric needs wrong answers and the task has none.
    """
    objective = get_objective({"difference": data.metric, "objective": data.objective}.get(metric, metric))
    try:
        objective.check(data.pairs, instead=[name for name in OBJECTIVES if name in allowed])
    except ValueError as error:
        raise ValueError(f"method {method.name!r}, metric {metric!r}: {error}") from None
    return objective


def pass_of_ones(search: Search) -> MaskedPass:
    """The pass for a mask that is 1 on all candidates: a cheaper one if every edge is a candidate."""
    return search.engine.whole() if _all_are_candidates(search) else search.engine


def gradients_at_ones(search: Search, passes: int = 1) -> dict[str, int]:
    """The fields of a `Cost` for so many passes over all pairs with `pass_of_ones`."""
    gradients = passes * len(search.data.pairs)
    return {"gradients": gradients, "whole": gradients if _all_are_candidates(search) else 0}


def _all_are_candidates(search: Search) -> bool:
    return search.candidates.equal(search.graph.edge_mask)


def refuse_init_scores(method: Method, search: Search) -> None:
    if search.init_scores is not None:
        raise ValueError(
            f"method {method.name!r} computes its scores at once and cannot begin with others; leave out init_scores"
        )


def ranked(effects: Tensor, sign: str) -> Tensor:
    return effects.abs() if sign == "absolute" else effects
