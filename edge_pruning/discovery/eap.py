"""Edge attribution patching: the first-order effect of removing every edge, all at once (Syed and others, 2023).

    effect(i -> j) = <y_i - c_i, dm/dx_j> at the whole model

the change of a write times the gradient of the metric m at the read: the gradient of the metric in the edge's mask
where all masks are 1. Cost: the ablated run, and one masked forward and one backward pass per batch, whatever the
number of edges; the clean run is the masked one, and reads are sums (`whole_stream.py`). It misleads where one step is
not small: saturated attention and MLPs, and metrics that are flat at the whole model (KL is refused: it is 0 there, its
minimum). Effects are averaged over the pairs before their sign is dropped, so an edge that helps on some pairs and
hurts on others can look idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.circuit import EdgeScores
from edge_pruning.discovery.attribution import (
    SLOPED,
    metric_of,
    metric_rule,
    pass_with,
    ranked,
    refuse_init_scores,
    scores_of,
    sign_rule,
)
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.discovery.method import Method, Observer, candidates_of, check_settings, method
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.objectives import Objective
from edge_pruning.tasks.task import PairSet


@method
@dataclass(frozen=True)
class Eap(Method):
    """`metric`: the task's `difference` (of right and wrong answers), or an objective by name. `sign`: see above."""

    name: ClassVar[str] = "eap"
    summary: ClassVar[str] = "edge attribution patching: the first-order effect of removing each edge, in one pass"
    one_run_ranks_all: ClassVar[bool] = True

    metric: str = "difference"
    sign: str = "absolute"

    def __post_init__(self) -> None:
        check_settings(self, {"metric": metric_rule(self.metric, SLOPED), "sign": sign_rule(self.sign)})

    def find(
        self,
        engine: MaskedPass,
        data: PairSet,
        ablation: Ablation,
        *,
        sizes: Sequence[int] = (),
        within: Tensor | None = None,
        init_scores: EdgeScores | None = None,
        observer: Observer | None = None,
    ) -> EdgeScores:
        refuse_init_scores(self, init_scores)
        candidates, objective = candidates_of(engine.graph, within), metric_of(self, self.metric, SLOPED, data)
        effects = first_order_effects(engine, data, ablation, candidates, objective)
        return scores_of(engine.graph, candidates, ranked(effects, self.sign))


def first_order_effects(
    engine: MaskedPass, data: PairSet, ablation: Ablation, candidates: Tensor, objective: Objective
) -> Tensor:
    """By how much the objective rises if an edge is removed, to first order, mean over the pairs, [w, r]."""
    cache = FrozenCache(engine, data.pairs, ablation, 0, logits=objective.compares)
    _, gradient = mask_gradient(pass_with(engine, candidates), cache, range(len(data.pairs)), candidates, objective)
    return -gradient
