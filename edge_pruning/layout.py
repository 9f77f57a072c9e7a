"""Which nodes of a graph a masked pass computes, and where in its buffers they stand.

A pass over all edges computes every node. A pass over a candidate set need not: a writer none of whose edges leads on
to the logits is never read, and a head or MLP that reads nothing but ablated values writes its ablated value. What is
left is packed: writers and readers keep their order, so every layer still has its own slices, only shorter ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from edge_pruning.graph import Graph


@dataclass(frozen=True, eq=False)
class Layout:
    """The writers and readers of `graph` that are computed: bool [w] and bool [r]. Embeddings and logits always are.

    A head is computed with its queries, keys and values, an MLP with its read; all slices count computed nodes only.
    """

    graph: Graph
    live_writers: Tensor
    live_readers: Tensor

    @classmethod
    def full(cls, graph: Graph) -> Layout:
        """Every node."""
        everything = torch.ones_like(graph.edge_mask)
        return cls(graph, everything[:, 0], everything[0])

    @classmethod
    def of(cls, graph: Graph, candidates: Tensor, *, consistent: bool, heads_apart: bool) -> Layout:
        """The nodes that a pass needs whose mask is zero outside `candidates`, bool [w, r].

        consistent: the ablated values are those of one run, so a node that reads only them writes its own. Under zero
        ablation, say, it does not: with all its reads cut off it still writes what its biases give. heads_apart: a
        layer can be run with some of its heads; if not, one means all.
        """
        useful = graph.without_dangling(candidates) if consistent else graph.leading_on(candidates)
        live_writers = useful.any(1)
        live_writers[: graph.n_embeddings] = True
        if not heads_apart:
            for layer in range(graph.shape.layers):
                heads = graph.head_writers(layer)
                live_writers[heads] = live_writers[heads].any()
        live_readers = graph.feeds[:, live_writers].any(1)
        live_readers[-1] = True
        return cls(graph, live_writers, live_readers)

    @property
    def is_full(self) -> bool:
        return bool(self.live_writers.all())

    # --- where in the buffers --------------------------------------------------------------------------------------

    @cached_property
    def writers(self) -> Tensor:
        """The computed writers' numbers in the graph, ascending."""
        return self.live_writers.nonzero().squeeze(1)

    @cached_property
    def readers(self) -> Tensor:
        return self.live_readers.nonzero().squeeze(1)

    @cached_property
    def n_writers(self) -> int:
        return len(self.writers)

    def packed(self, mask: Tensor) -> Tensor:
        """The part of a mask [w, r] that is computed; differentiable."""
        if self.is_full:
            return mask
        return mask[self.writers.to(mask.device)[:, None], self.readers.to(mask.device)]

    def heads(self, layer: int) -> tuple[int, ...]:
        """Numbers of the computed heads of a layer."""
        return tuple(self.live_writers[self.graph.head_writers(layer)].nonzero().squeeze(1).tolist())

    def kv_readers(self, layer: int) -> tuple[int, ...]:
        """Numbers of the computed key readers of a layer (those of the values are the same)."""
        first = self.graph.attention_readers(layer).start + self.graph.shape.heads
        return tuple(self.live_readers[first : first + self.graph.kv_readers].nonzero().squeeze(1).tolist())

    def has_mlp(self, layer: int) -> bool:
        return bool(self.live_writers[self.graph.mlp_writer(layer)])

    def attention_readers(self, layer: int) -> slice:
        return self._packed_slice(self._readers_before, self.graph.attention_readers(layer))

    def mlp_reader(self, layer: int) -> slice:
        return self._packed_slice(self._readers_before, self.graph.mlp_reader(layer))

    def head_writers(self, layer: int) -> slice:
        return self._packed_slice(self._writers_before, self.graph.head_writers(layer))

    def mlp_writer(self, layer: int) -> int:
        return self._writers_before[self.graph.mlp_writer(layer)]

    def writers_before_attention(self, layer: int) -> int:
        return self._writers_before[self.graph.writers_before_attention(layer)]

    def writers_before_mlp(self, layer: int) -> int:
        return self._writers_before[self.graph.writers_before_mlp(layer)]

    @property
    def most_readers(self) -> int:
        """Of one layer's heads."""
        rows = [self.attention_readers(layer) for layer in range(self.graph.shape.layers)]
        return max(row.stop - row.start for row in rows)

    @property
    def logits_reader(self) -> slice:
        return slice(len(self.readers) - 1, None)

    @cached_property
    def _writers_before(self) -> list[int]:
        """How many computed writers come before each writer of the graph, and before its end."""
        return [0, *self.live_writers.cumsum(0).tolist()]

    @cached_property
    def _readers_before(self) -> list[int]:
        return [0, *self.live_readers.cumsum(0).tolist()]

    @staticmethod
    def _packed_slice(before: list[int], of_graph: slice) -> slice:
        return slice(before[of_graph.start], before[of_graph.stop])
