"""Summed edges: any method that finds circuits ranks the parts of a model, by its edge scores summed over each node.

A head's score is the sum of the absolute scores of the edges that leave it, over all heads of its group. An MLP's score
is shared among its units in proportion to the absolute values of their first-order effects (`first_order.py`), because
a graph has no edges into single units. Parts are ranked by score per FLOP. Cost: that of the method and of
`first_order.py`. It misleads where the method does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from edge_pruning.discovery import Search, get_method
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.shrink.first_order import first_order_effects
from edge_pruning.shrink.job import Job
from edge_pruning.shrink.method import Shrinker
from edge_pruning.shrink.selection import ONLY, PartScores, part_costs


@dataclass(frozen=True)
class SummedEdges(Shrinker):
    """Rank heads and MLP units by a method that finds circuits.

    method: a name from `edge-pruning list methods`.
    settings: those of the method, and `only` (`heads` or `units`) if all parts of the other kind stay.
    """

    name: ClassVar[str] = "summed-edges"
    summary: ClassVar[str] = "scores of edges, summed over the edges of a node"

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        only = self.settings.get("only")
        if only not in ONLY:
            raise ValueError(f"method {self.method!r}: only must be heads or units, got {only!r}")
        get_method(self.method, **self._of_method)

    @property
    def _of_method(self) -> dict[str, Any]:
        return {name: value for name, value in self.settings.items() if name != "only"}

    def score(self, job: Job) -> PartScores:
        setup = job.setup
        search = Search(setup.engine, setup.train, setup.ablation)
        heads, mlps = per_node(get_method(self.method, **self._of_method).find(search), job.sizes.groups)
        effects = first_order_effects(job)[1].abs()
        shares = effects / effects.sum(1, keepdim=True).clamp_min(torch.finfo(effects.dtype).tiny)
        costs = part_costs(job.sizes, job.width)
        scores = {"heads": heads / costs["heads"], "units": mlps[:, None] * shares / costs["units"]}
        only = self.settings.get("only")
        return PartScores(**{kind: of_kind for kind, of_kind in scores.items() if only in (None, kind)})


def per_node(scores: EdgeScores, groups: int) -> tuple[Tensor, Tensor]:
    """Sums of absolute scores over the edges that leave a node: heads [layer, group] and MLPs [layer]."""
    graph = scores.graph
    sums = scores.values.abs().masked_fill(scores.values.isinf(), 0).sum(1)  # [w]
    layers = range(graph.shape.layers)
    heads = torch.stack([sums[graph.head_writers(layer)].view(groups, -1).sum(1) for layer in layers])
    return heads, torch.stack([sums[graph.mlp_writer(layer)] for layer in layers])
