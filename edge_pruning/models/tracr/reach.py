"""Which edges can matter at all, from the weights alone: a writer must write what the reader reads.

An edge w -> r is real if it lies on a path of real edges from an embedding to the logits, and if

    W_w R_r != 0      rows of W_w span what w can write; R_r is how r's node uses each dimension of the stream

R is Q K^T for queries, its transpose for keys, V O for values, the unembedding for `logits`, and for an MLP the inward
map of those hidden units that write something.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from edge_pruning.graph import Graph
from edge_pruning.models.tracr.module import TracrTransformer


class Reach:
    """The edges that are real by a transformer's weights, and the dimensions through which they act.

    moving: bool [w, d], the dimensions in which a writer's value can differ from its ablated value; None: all. An edge
    is not real under an ablation that changes nothing of what it carries.
    """

    def __init__(self, model: TracrTransformer, graph: Graph, moving: Tensor | None = None) -> None:
        self.graph, self.program = graph, model.config
        every = torch.ones(len(graph.writers), len(model.config.residual), dtype=torch.bool)
        self.moving = dict(zip(graph.writers, every if moving is None else moving, strict=True))
        self.weights = {name: weight.double() for name, weight in model.weights.items()}

    @cached_property
    def edges(self) -> Tensor:
        """The real edges, bool [w, r]."""
        real = torch.zeros_like(self.graph.edge_mask)
        for w, r in self.graph.edge_mask.nonzero().tolist():
            real[w, r] = bool((self._written(self.graph.writers[w]) @ self._read(self.graph.readers[r])).any())
        return self.graph.without_dangling(real)

    def dimensions(self, edge: str) -> list[str]:
        """The names of the residual dimensions through which an edge acts."""
        writer, _, reader = edge.partition("->")
        through = (self._written(writer) != 0).any(0) & (self._read(reader) != 0).any(1)
        return [self.program.residual[i] for i in through.nonzero().flatten().tolist()]

    def _written(self, writer: str) -> Tensor:
        """Rows [any, d] that span what a writer can write, in the dimensions that an ablation changes."""
        return self._writes(writer) * self.moving[writer]

    def _writes(self, writer: str) -> Tensor:
        weights = self.weights
        if writer in ("tok", "pos", "input"):
            parts = {"tok": ("tokens",), "pos": ("positions",), "input": ("tokens", "positions")}[writer]
            return torch.cat([weights[name] for name in parts])
        if writer.startswith("m"):
            layer = int(writer[1:])
            return torch.cat([weights["mlp_out"][layer], weights["mlp_out_bias"][layer][None]])
        layer, head = _place(writer)
        return weights["value"][layer, head] @ weights["out"][layer, head]

    def _read(self, reader: str) -> Tensor:
        """R of the module's docstring [d, any]: how the reader's node uses each dimension."""
        weights = self.weights
        if reader == "logits":
            return weights["unembed"]
        if reader.startswith("m"):
            layer = int(reader[1:])
            return weights["mlp_in"][layer] * weights["mlp_out"][layer].any(1)
        layer, head = _place(reader.partition("<")[0])
        if reader.endswith("<v>"):
            return weights["value"][layer, head] @ weights["out"][layer, head]
        meets = weights["query"][layer, head] @ weights["key"][layer, head].T
        return meets if reader.endswith("<q>") else meets.T


def _place(name: str) -> tuple[int, int]:
    """`a3.h1` is head 1 of layer 3."""
    layer, _, head = name.partition(".h")
    return int(layer[1:]), int(head)
