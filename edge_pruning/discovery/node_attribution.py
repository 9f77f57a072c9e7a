"""Node attribution: a baseline that knows which nodes matter, but not how they are connected.

The first-order effect of ablating a node is the sum of the effects of its outgoing edges,

    effect(i) = <y_i - c_i, dm/dy_i> = sum_j effect(i -> j)

and an edge scores as the less important one of its two nodes, so that a cut at any score keeps every edge between the
nodes above it. Cost: that of EAP. It misleads as EAP does. A method that scores edges and does no better than this
baseline has found nodes, not edges. The logits belong to no writer and count as important.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from edge_pruning.discovery.attribution import (
    SLOPED,
    metric_of,
    metric_rule,
    ranked,
    refuse_init_scores,
    sign_rule,
)
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.eap import Eap, first_order_effects
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.search import Search
from edge_pruning.edge_scores import EdgeScores


@method
@dataclass(frozen=True)
class NodeAttribution(Method):
    """`metric`, `sign`: as for `eap`."""

    name: ClassVar[str] = "node-attribution"
    aliases: ClassVar[tuple[str, ...]] = ("node",)
    summary: ClassVar[str] = "baseline: each edge scores as the less important one of its two nodes"
    one_run_ranks_all: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    metric: str = "difference"
    sign: str = "absolute"

    def __post_init__(self) -> None:
        check_settings(self, {"metric": metric_rule(self.metric, SLOPED), "sign": sign_rule(self.sign)})

    def find(self, search: Search) -> EdgeScores:
        refuse_init_scores(self, search)
        graph, effects = search.graph, first_order_effects(search, metric_of(self, self.metric, SLOPED, search.data))
        writers = ranked(effects.sum(1), self.sign)  # [w]
        readers = torch.where(graph.feeds, writers, -torch.inf).amax(1)  # [r]; a key-value head feeds several heads
        readers[-1] = torch.inf
        return search.scores(torch.minimum(writers[:, None], readers)[search.candidates])

    def cost(self, search: Search) -> Cost:
        return Eap().cost(search)
