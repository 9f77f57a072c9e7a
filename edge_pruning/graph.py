"""The computation graph of a transformer: writers, readers, and the edges between them.

Every head and every MLP *reads* the residual stream (a head three times: for its queries, keys and values) and
*writes* its output back into it. The edge `a0.h1->a5.h7<q>` means that the output of head 1 of layer 0 is part of the
input to the queries of head 7 of layer 5. The graph holds names, their order and the edges; it holds no model.

Axis letters, the same everywhere in this package:

    w writer    r reader    b example in the batch    p position    d d_model    h head    e head dimension
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

LARGEST = 1_000  # layers, or heads per layer; no model has more
MOST_ENTRIES = 10**9  # of a matrix [writer, reader]; larger graphs are refused before any allocation
EMBEDDING_WRITERS = {"joint": ("input",), "split": ("tok", "pos")}


@dataclass(frozen=True)
class ModelShape:
    """The properties of a transformer that determine its graph: layers, heads, and the wiring of its blocks.

    `kv_heads` is the number of key-value heads (grouped-query attention; defaults to `heads`). In a `parallel` block
    the MLP reads the same stream as the heads of its layer, and therefore not their outputs.
    """

    layers: int
    heads: int
    kv_heads: int = 0
    parallel: bool = False

    def __post_init__(self) -> None:
        if not self.kv_heads:
            object.__setattr__(self, "kv_heads", self.heads)
        sizes = self.layers, self.heads, self.kv_heads
        if min(sizes) < 1 or self.heads % self.kv_heads:
            raise ValueError(
                f"expected at least one layer and one head, and heads divisible by kv_heads; "
                f"got layers={self.layers}, heads={self.heads}, kv_heads={self.kv_heads}"
            )
        if max(sizes) > LARGEST:
            raise ValueError(f"expected at most {LARGEST:,} layers and heads, got {self.layers:,} and {self.heads:,}")


@dataclass(frozen=True)
class Site:
    """One sublayer of a graph: the readers that read at the same time, and the writers of their nodes.

    before: the readers can read the writers `[:before]`. `logits` is the last site: it has no writers, and its layer is
        the number of layers.
    """

    layer: int
    is_mlp: bool
    readers: slice
    before: int
    writers: slice


@dataclass(frozen=True)
class Graph:
    """All edges of a transformer's computation graph, under a stated counting convention.

    `embeddings="joint"` has one writer `input`; `"split"` has `tok` and `pos` (as Edge Pruning's authors count).
    `kv="kv"` has one key and one value reader per key-value head, which is what the model computes; `"query"` has one
    per query head (as EAP-IG and MIB count). The size of a circuit depends on the convention. If every head has its
    own keys and values, both conventions agree, and `kv` is always set to `"kv"` so that equal graphs compare equal.
    """

    shape: ModelShape
    embeddings: Literal["joint", "split"] = "joint"
    kv: Literal["kv", "query"] = "kv"

    def __post_init__(self) -> None:
        if self.embeddings not in EMBEDDING_WRITERS or self.kv not in ("kv", "query"):
            raise ValueError(
                f"expected embeddings 'joint' or 'split' and kv 'kv' or 'query', "
                f"got {self.embeddings!r} and {self.kv!r}"
            )
        if self.shape.kv_heads == self.shape.heads:
            object.__setattr__(self, "kv", "kv")
        entries = self.writers_before_attention(self.shape.layers) * (self.shape.layers * self._readers_per_layer + 1)
        if entries > MOST_ENTRIES:
            raise ValueError(
                f"a graph of {self.shape} has {entries:,} pairs of a writer and a reader; expected at most "
                f"{MOST_ENTRIES:,}"
            )

    # --- names and order -------------------------------------------------------------------------------------------

    @property
    def kv_readers(self) -> int:
        """Number of key readers (and of value readers) per layer."""
        return self.shape.kv_heads if self.kv == "kv" else self.shape.heads

    @property
    def n_embeddings(self) -> int:
        return len(EMBEDDING_WRITERS[self.embeddings])

    @cached_property
    def writers(self) -> tuple[str, ...]:
        """All writers: the embeddings, then the heads and the MLP of each layer."""
        blocks = ([*(f"a{i}.h{h}" for h in range(self.shape.heads)), f"m{i}"] for i in range(self.shape.layers))
        return (*EMBEDDING_WRITERS[self.embeddings], *(name for block in blocks for name in block))

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """All readers: queries, keys, values and MLP of each layer, then `logits`."""
        names = []
        for i in range(self.shape.layers):
            for kind, count in (("q", self.shape.heads), ("k", self.kv_readers), ("v", self.kv_readers)):
                names += [f"a{i}.h{h}<{kind}>" for h in range(count)]
            names.append(f"m{i}")
        return (*names, "logits")

    def attention_readers(self, layer: int) -> slice:
        """Indices of a layer's query, key and value readers, in that order."""
        start = layer * self._readers_per_layer
        return slice(start, start + self._readers_per_layer - 1)

    def head_readers(self, layer: int, head: int) -> tuple[int, int, int]:
        """Indices of one head's query, key and value readers; heads may share key and value readers."""
        q = layer * self._readers_per_layer + head
        k = layer * self._readers_per_layer + self.shape.heads + head * self.kv_readers // self.shape.heads
        return q, k, k + self.kv_readers

    def mlp_reader(self, layer: int) -> slice:
        end = (layer + 1) * self._readers_per_layer
        return slice(end - 1, end)

    def head_writers(self, layer: int) -> slice:
        start = self.writers_before_attention(layer)
        return slice(start, start + self.shape.heads)

    def mlp_writer(self, layer: int) -> int:
        return self.writers_before_attention(layer + 1) - 1

    def writers_before_attention(self, layer: int) -> int:
        """Number of writers that the queries, keys and values of a layer can read."""
        return self.n_embeddings + layer * (self.shape.heads + 1)

    def writers_before_mlp(self, layer: int) -> int:
        return self.writers_before_attention(layer) + (0 if self.shape.parallel else self.shape.heads)

    @property
    def _readers_per_layer(self) -> int:
        return self.shape.heads + 2 * self.kv_readers + 1

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """All sublayers in the order of computation: the heads and the MLP of each layer, then `logits`."""
        sites = []
        for i in range(self.shape.layers):
            mlp = self.mlp_writer(i)
            sites += [
                Site(i, False, self.attention_readers(i), self.writers_before_attention(i), self.head_writers(i)),
                Site(i, True, self.mlp_reader(i), self.writers_before_mlp(i), slice(mlp, mlp + 1)),
            ]
        readers, writers = len(self.readers), len(self.writers)
        logits = Site(self.shape.layers, False, slice(readers - 1, readers), writers, slice(writers, writers))
        return (*sites, logits)

    # --- edges -----------------------------------------------------------------------------------------------------

    @cached_property
    def edge_mask(self) -> Tensor:
        """True where an edge exists; bool [writer, reader]."""
        mask = torch.zeros(len(self.writers), len(self.readers), dtype=torch.bool)
        for site in self.sites:
            mask[: site.before, site.readers] = True
        return mask

    @cached_property
    def n_edges(self) -> int:
        return int(self.edge_mask.count_nonzero())

    @property
    def convention(self) -> str:
        """The counting convention in words; always printed beside a count."""
        embeddings = "one embedding writer" if self.embeddings == "joint" else "tok and pos as two writers"
        heads = "key-value head" if self.kv == "kv" else "query head"
        return f"{embeddings}; q per head, k and v per {heads}"

    def names(self, mask: Tensor) -> list[str]:
        """Return the names of the edges in a bool mask [writer, reader], in graph order."""
        return [f"{self.writers[w]}->{self.readers[r]}" for w, r in mask.nonzero().tolist()]

    def mask(self, names: Iterable[str]) -> Tensor:
        """Return the bool mask [writer, reader] of the named edges. Raises ValueError listing all unknown names."""
        mask = torch.zeros_like(self.edge_mask)
        mask[self.places(names).unbind(1)] = True
        return mask

    def places(self, names: Iterable[str]) -> Tensor:
        """Return the indices (writer, reader) of the named edges, [name, 2]. Raises ValueError listing all unknown
        names.
        """
        names = list(names)
        pairs = [name.partition("->") for name in names]
        writers = [self._writer_index.get(writer, -1) for writer, _, _ in pairs]
        readers = [self._reader_index.get(reader, -1) for _, _, reader in pairs]
        places = torch.tensor([writers, readers], dtype=torch.long).T
        known = (places >= 0).all(1)
        known[known.clone()] = self.edge_mask[places[known].unbind(1)]
        if not known.all():
            raise ValueError(self._describe_unknown([names[i] for i in (~known).nonzero().flatten().tolist()]))
        return places

    def place(self, name: str) -> tuple[int, int] | None:
        """Return the writer and reader of an edge, or None if there is no such edge."""
        writer, _, reader = name.partition("->")
        w, r = self._writer_index.get(writer), self._reader_index.get(reader)
        return None if w is None or r is None or not self.edge_mask[w, r] else (w, r)

    @cached_property
    def _writer_index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.writers)}

    @cached_property
    def _reader_index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.readers)}

    def _describe_unknown(self, unknown: list[str]) -> str:
        lines = []
        for name in unknown[:10]:
            writer, _, reader = name.partition("->")
            near = [*difflib.get_close_matches(writer, self.writers, 1)]
            near += difflib.get_close_matches(reader, self.readers, 1)
            if writer in self._writer_index and reader in self._reader_index:
                lines.append(f"{name} (the writer does not come before the reader)")
            else:
                lines.append(f"{name} (nearest names: {', '.join(near) or 'none'})")
        more = f", and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        return f"{len(unknown)} names are not edges of this graph: {'; '.join(lines)}{more}"

    # --- reachability ----------------------------------------------------------------------------------------------

    @cached_property
    def feeds(self) -> Tensor:
        """True where a reader is an input of the writer's node; bool [reader, writer]."""
        of_a_layer = torch.zeros(self._readers_per_layer - 1, self.shape.heads, dtype=torch.bool)
        for head in range(self.shape.heads):
            of_a_layer[list(self.head_readers(0, head)), head] = True
        feeds = torch.zeros(len(self.readers), len(self.writers), dtype=torch.bool)
        for i in range(self.shape.layers):
            feeds[self.attention_readers(i), self.head_writers(i)] = of_a_layer
            feeds[self.mlp_reader(i), self.mlp_writer(i)] = True
        return feeds

    @cached_property
    def feeds_together(self) -> Tensor:
        """Like `feeds`, for layers whose heads depend on each other, for example through a shared norm."""
        feeds = torch.zeros_like(self.feeds)
        for site in self.sites:
            feeds[site.readers, site.writers] = True
        return feeds

    def leading_on(self, mask: Tensor, feeds: Tensor | None = None) -> Tensor:
        """Return the edges of `mask` whose reader reaches the logits along edges of `mask`; bool [writer, reader].

        Costs one sweep from the last layer to the first, which visits each edge once.
        """
        edges, inputs = mask.numpy(), (self.feeds if feeds is None else feeds).numpy()
        to_logits = np.zeros(len(self.readers), dtype=bool)
        to_logits[-1] = True
        for site in reversed(self.sites[:-1]):
            after = site.readers.stop
            useful = np.any(edges[site.writers, after:] & to_logits[after:], axis=1)
            to_logits[site.readers] = np.any(inputs[site.readers, site.writers][:, useful], axis=1)
        return mask & torch.from_numpy(to_logits)

    def reached(self, mask: Tensor, feeds: Tensor | None = None) -> Tensor:
        """Return the edges of `mask` whose writer is reachable from the embeddings along edges of `mask`; bool [w, r].

        Costs one sweep from the first layer to the last, which visits each edge once.
        """
        edges, inputs = mask.numpy(), (self.feeds if feeds is None else feeds).numpy()
        from_input = np.zeros(len(self.writers), dtype=bool)
        from_input[: self.n_embeddings] = True
        for site in self.sites[:-1]:
            arrived = np.any(edges[: site.before, site.readers][from_input[: site.before]], axis=0)
            from_input[site.writers] = np.any(inputs[site.readers, site.writers][arrived], axis=0)
        return mask & torch.from_numpy(from_input)[:, None]

    def without_dangling(self, mask: Tensor, feeds: Tensor | None = None) -> Tensor:
        """Return the edges of `mask` that lie on a path from an embedding to the logits; bool [writer, reader].

        An edge dangles if its writer cannot be reached from the embeddings, or if its reader cannot reach the logits.
        Under patch ablation, removing dangling edges changes nothing: an unreachable writer carries its ablated value.
        feeds: which readers are inputs of which writers (default: `self.feeds`). If heads share a norm, an edge that
            dangles by the default can still matter; pass `feeds_together` in that case.
        """
        return self.reached(mask, feeds) & self.leading_on(mask, feeds)
