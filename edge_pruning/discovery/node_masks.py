"""Masks over nodes: one number per writer, shared by all of its edges."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edge_pruning.graph import Graph


@dataclass(frozen=True)
class WriterOfEdge:
    """The index of each candidate edge's writer [edge], out of `n` writers."""

    index: Tensor
    n: int

    @classmethod
    def of(cls, graph: Graph, candidates: Tensor, device: torch.device) -> WriterOfEdge:
        return cls(candidates.nonzero()[:, 0].to(device), len(graph.writers))

    def expand(self, values: Tensor) -> Tensor:
        """Turn one value per writer [w] into one per edge [edge]."""
        return values[self.index]
