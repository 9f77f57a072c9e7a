"""Edge attribution patching: the first-order effect of removing every edge, all at once (Syed and others, 2023).

    effect(i -> j) = <y_i - c_i, dm/dx_j> at the whole model

This is the change of a write times the gradient of the metric m at the read, or in other words the gradient of the
metric in the edge's mask where all masks are 1. Cost: one ablated run, and one masked forward and one backward pass per
batch, whatever the number of edges. Reads are running sums (`whole_stream.py`).

It misleads where one step is not small, as in saturated attention and MLPs, and where the metric is flat at the whole
model. KL is refused, because the whole model is its minimum and its gradient is 0 there. Effects are averaged over the
pairs before their sign is dropped, so an edge that helps on some pairs and hurts on others can score near 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery.attribution import (
    SLOPED,
    gradients_at_ones,
    metric_of,
    metric_rule,
    pass_of_ones,
    ranked,
    refuse_init_scores,
    sign_rule,
)
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.search import Search
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.objectives import Objective


@method
@dataclass(frozen=True)
class Eap(Method):
    """Edge attribution patching.

    metric: `difference` (the task's, of right and wrong answers), or the name of an objective.
    sign: `absolute` also keeps edges that work against the task; `signed` ranks them last (see `attribution.py`).
    """

    name: ClassVar[str] = "eap"
    summary: ClassVar[str] = "edge attribution patching: the first-order effect of removing each edge, in one pass"
    one_run_ranks_all: ClassVar[bool] = True

    metric: str = "difference"
    sign: str = "absolute"

    def __post_init__(self) -> None:
        check_settings(self, {"metric": metric_rule(self.metric, SLOPED), "sign": sign_rule(self.sign)})

    def find(self, search: Search) -> EdgeScores:
        refuse_init_scores(self, search)
        effects = first_order_effects(search, metric_of(self, self.metric, SLOPED, search.data))
        return search.scores(ranked(effects[search.candidates], self.sign))

    def cost(self, search: Search) -> Cost:
        pairs = len(search.data.pairs)
        return Cost(forwards=0, frozen=pairs, step_pairs=pairs, **gradients_at_ones(search))


def first_order_effects(search: Search, objective: Objective) -> Tensor:
    """Estimate to first order by how much the objective rises if an edge is removed; mean over the pairs, [w, r]."""
    pairs = search.data.pairs
    cache = FrozenCache(search.engine, pairs, search.ablation, 0, logits=objective.compares)
    _, gradient = mask_gradient(pass_of_ones(search), cache, range(len(pairs)), search.candidates, objective)
    return -gradient.cpu()
