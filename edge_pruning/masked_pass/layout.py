"""Layouts: which nodes a masked pass computes, which reads it mixes, and their indices in its buffers.

A pass over all edges computes every node. A pass over a candidate set can skip nodes. If none of a writer's edges leads
to the logits, the writer is never read. If a head or MLP reads only ablated values, it writes its ablated value. If a
reader has no candidates, it reads the ablated sum under every mask. The remaining writers and readers are packed in
their order, so every layer still has contiguous slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from edge_pruning.graph import Graph
from edge_pruning.masked_pass.devices import indices_on


@dataclass(frozen=True, eq=False)
class Layout:
    """The writers of `graph` that are computed, bool [w], and the readers that are mixed, bool [r].

    Embeddings and logits are always included. All slices and counts refer to the packed writers and readers.
    """

    graph: Graph
    computed: Tensor
    mixed: Tensor

    @classmethod
    def full(cls, graph: Graph) -> Layout:
        """The layout that computes every writer and mixes every reader."""
        everything = torch.ones_like(graph.edge_mask)
        return cls(graph, everything[:, 0], everything[0])

    @classmethod
    def of(cls, graph: Graph, candidates: Tensor, *, consistent: bool, heads_apart: bool) -> Layout:
        """The layout of a pass whose mask is zero outside `candidates`, bool [w, r].

        consistent: all ablated values come from one run, so a node that reads only ablated values writes its ablated
            value. Under zero ablation this is false: a node without reads still writes what its biases give.
        heads_apart: a layer's heads are independent, so a subset can be computed; if not, one head requires all.
        """
        feeds = graph.feeds if heads_apart else graph.feeds_together
        useful = graph.without_dangling(candidates, feeds) if consistent else graph.leading_on(candidates, feeds)
        computed, mixed = useful.any(1), useful.any(0)
        computed[: graph.n_embeddings] = True
        mixed[-1] = True
        if not heads_apart:
            for layer in range(graph.shape.layers):
                heads = graph.head_writers(layer)
                computed[heads] = computed[heads].any()
        return cls(graph, computed, mixed)

    @cached_property
    def is_full(self) -> bool:
        return all(self._computed) and all(self._mixed)

    def packed(self, mask: Tensor) -> Tensor:
        """Select the packed part of a mask [w, r]; differentiable."""
        if self.is_full:
            return mask
        if mask.device not in self._indices:
            self._indices[mask.device] = [
                indices_on([i for i, left in enumerate(which) if left], mask.device)
                for which in (self._computed, self._mixed)
            ]
        rows, columns = self._indices[mask.device]
        return mask[rows[:, None], columns]

    # --- nodes -----------------------------------------------------------------------------------------------------

    def heads(self, layer: int) -> list[int]:
        """Indices of the computed heads of a layer."""
        writers = self.graph.head_writers(layer)
        return [h for h, computed in enumerate(self._computed[writers]) if computed]

    def kv_heads(self, layer: int) -> list[int]:
        """Indices of the key (and value) readers that these heads use."""
        return sorted({h * self.graph.kv_readers // self.graph.shape.heads for h in self.heads(layer)})

    def has_mlp(self, layer: int) -> bool:
        return self._computed[self.graph.mlp_writer(layer)]

    def rows(self, layer: int) -> list[int]:
        """Indices of the computed heads' queries, keys and values among those of the whole layer."""
        n, kv, shared = self.graph.shape.heads, self.graph.kv_readers, self.kv_heads(layer)
        return [*self.heads(layer), *(n + i for i in shared), *(n + kv + i for i in shared)]

    def mixed_rows(self, layer: int) -> list[int]:
        """Indices into `rows` of the readers that have candidates, in the order of `attention_readers`."""
        mixed = self._mixed[self.graph.attention_readers(layer)]
        return [place for place, row in enumerate(self.rows(layer)) if mixed[row]]

    # --- where in the buffers --------------------------------------------------------------------------------------

    @property
    def n_writers(self) -> int:
        return self._computed_before[-1]

    @property
    def n_readers(self) -> int:
        return self._mixed_before[-1]

    @property
    def most_readers(self) -> int:
        """The largest number of mixed head readers in one layer."""
        rows = [self.attention_readers(layer) for layer in range(self.graph.shape.layers)]
        return max(row.stop - row.start for row in rows)

    @property
    def logits_reader(self) -> slice:
        return self._left(self._mixed_before, slice(len(self.graph.readers) - 1, len(self.graph.readers)))

    def attention_readers(self, layer: int) -> slice:
        return self._left(self._mixed_before, self.graph.attention_readers(layer))

    def mlp_reader(self, layer: int) -> slice:
        """The slice of a layer's MLP reader; empty if the MLP reads ablated values only."""
        return self._left(self._mixed_before, self.graph.mlp_reader(layer))

    def head_writers(self, layer: int) -> slice:
        return self._left(self._computed_before, self.graph.head_writers(layer))

    def mlp_writer(self, layer: int) -> int:
        return self._computed_before[self.graph.mlp_writer(layer)]

    def writers_before_attention(self, layer: int) -> int:
        return self._computed_before[self.graph.writers_before_attention(layer)]

    def writers_before_mlp(self, layer: int) -> int:
        return self._computed_before[self.graph.writers_before_mlp(layer)]

    @cached_property
    def _computed_before(self) -> list[int]:
        """Cumulative counts of computed writers: before each writer of the graph, and in total."""
        return [0, *accumulate(self._computed)]

    @cached_property
    def _mixed_before(self) -> list[int]:
        return [0, *accumulate(self._mixed)]

    @cached_property
    def _indices(self) -> dict[torch.device, list[Tensor]]:
        """Indices of the computed writers and of the mixed readers on the devices of masks."""
        return {}

    @cached_property
    def _computed(self) -> list[bool]:
        computed: list[bool] = self.computed.tolist()
        return computed

    @cached_property
    def _mixed(self) -> list[bool]:
        mixed: list[bool] = self.mixed.tolist()
        return mixed

    @staticmethod
    def _left(before: list[int], of_graph: slice) -> slice:
        return slice(before[of_graph.start], before[of_graph.stop])
