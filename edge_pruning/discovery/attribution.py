"""What attribution methods share: the metric whose change they estimate, and how estimates become scores.

An *effect* is by how much the metric would get worse if the edge were removed, estimated to first order,

    L(without the edge) - L  ~  -dL/dz,          L lower is better (see `objectives.py`)

positive where the edge helps, negative where it hurts. Ranked by `sign="absolute"`, edges that work against the task
are kept as well; by `sign="signed"` they go first.
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
    """For `check_settings`: is it one of the allowed metrics?"""
    flat = " (kl and the like are smallest at the whole model, where their gradient is 0 and says nothing)"
    why = "" if "kl" in allowed else flat
    return metric in allowed, f"one of {', '.join(allowed)}{why}"


def sign_rule(sign: str) -> tuple[bool, str]:
    return sign in SIGNS, " or ".join(SIGNS)


def metric_of(method: Method, metric: str, allowed: Collection[str], data: PairSet) -> Objective:
    """The metric as an objective: the task's `difference`, what the task is fitted with (`objective`), or one by name.

    Raises ValueError for a metric that needs wrong answers where the task has none.
    """
    objective = get_objective({"difference": data.metric, "objective": data.objective}.get(metric, metric))
    try:
        objective.check(data.pairs, instead=[name for name in OBJECTIVES if name in allowed])
    except ValueError as error:
        raise ValueError(f"method {method.name!r}, metric {metric!r}: {error}") from None
    return objective


def pass_of_ones(search: Search) -> MaskedPass:
    """The pass for a mask that is 1 on all candidates: a cheaper one if every edge is a candidate."""
    return search.engine.whole() if search.candidates.equal(search.graph.edge_mask) else search.engine


def refuse_init_scores(method: Method, search: Search) -> None:
    if search.init_scores is not None:
        raise ValueError(
            f"method {method.name!r} computes its scores at once and cannot begin with others; leave out init_scores"
        )


def ranked(effects: Tensor, sign: str) -> Tensor:
    return effects.abs() if sign == "absolute" else effects
