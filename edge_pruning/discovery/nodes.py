"""Masks over nodes: one number per writer, shared by all its edges."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edge_pruning.graph import Graph


@dataclass(frozen=True)
class EdgesOfNodes:
    """Which writer each candidate edge comes from: writer [edge], out of `n`."""

    writer: Tensor
    n: int

    @classmethod
    def of(cls, graph: Graph, candidates: Tensor, device: torch.device) -> EdgesOfNodes:
        return cls(candidates.nonzero()[:, 0].to(device), len(graph.writers))

    def spread(self, values: Tensor) -> Tensor:
        """One value per writer [w] to one per edge [edge]."""
        return values[self.writer]


