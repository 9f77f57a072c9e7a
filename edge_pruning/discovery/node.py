"""Node attribution spread over edges: a null that knows which nodes matter, and nothing about how they are wired.

The first-order effect of ablating a whole node is the sum of the effects of its outgoing edges,

    effect(i) = <y_i - c_i, dm/dy_i> = sum_j effect(i -> j)

and an edge is worth as much as the less important one of its two nodes, so that cutting at a score keeps every edge
between the nodes above it. Cost: EAP's. It misleads as EAP does; a method of edges that is no better than this one has
found nodes. The logits belong to no writer and count as important.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.circuit import EdgeScores
from edge_pruning.discovery.attribution import (
    SLOPED,
    metric_of,
    metric_rule,
    ranked,
    refuse_init_scores,
    scores_of,
    sign_rule,
)
from edge_pruning.discovery.eap import first_order_effects
from edge_pruning.discovery.method import Method, Observer, candidates_of, check_settings, method
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.tasks.task import PairSet


@method
@dataclass(frozen=True)
class Node(Method):
    """`metric`, `sign`: as for `eap`."""

    name: ClassVar[str] = "node"
    summary: ClassVar[str] = "null: each edge scores as the less important one of its two nodes (node attribution)"
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
        graph, candidates = engine.graph, candidates_of(engine.graph, within)
        objective = metric_of(self, self.metric, SLOPED, data)
        effects = first_order_effects(engine, data, ablation, candidates, objective).cpu()
        writers = ranked(effects.sum(1), self.sign)  # [w]
        readers = torch.where(graph.feeds, writers, -torch.inf).amax(1)  # [r]; a key-value head feeds several heads
        readers[-1] = torch.inf
        return scores_of(graph, candidates, torch.minimum(writers[:, None], readers))
