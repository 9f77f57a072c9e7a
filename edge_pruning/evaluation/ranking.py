"""Scores as an order of the edges: circuits of every size, each contained in the next."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from edge_pruning.circuit import EdgeScores
from edge_pruning.graph import Graph


class Ranking:
    """All edges of the graph, best first; ties in graph order, edges that were no candidates last."""

    def __init__(self, scores: EdgeScores) -> None:
        self.scores = scores
        self._counted: dict[int, int] = {}

    @property
    def graph(self) -> Graph:
        return self.scores.graph

    @cached_property
    def _order(self) -> Tensor:
        places = self.graph.edge_mask.flatten().nonzero().squeeze(1)
        return places[self.scores.values.flatten()[places].argsort(descending=True, stable=True)]

    def mask(self, edges: int) -> Tensor:
        """The best edges as a bool mask [w, r], before dangling ones are removed."""
        mask = torch.zeros(self.graph.edge_mask.numel(), dtype=torch.bool)
        return mask.index_fill_(0, self._order[:edges], True).view_as(self.graph.edge_mask)

    def connected(self, edges: int) -> Tensor:
        """The same without dangling edges."""
        return self.graph.without_dangling(self.mask(edges))

    def n_connected(self, edges: int) -> int:
        """How many of the best edges do not dangle; counted once per size."""
        if edges not in self._counted:
            self._counted[edges] = int(self.connected(edges).sum())
        return self._counted[edges]

    @cached_property
    def ties(self) -> int:
        """How many candidates have a score that another one has too, so that graph order decides between them."""
        values = self.scores.values[self.scores.values > -torch.inf]
        counts = values.unique(return_counts=True)[1]
        return int(counts[counts > 1].sum())
