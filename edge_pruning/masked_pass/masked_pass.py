"""The masked forward pass: run a transformer with a number between 0 and 1 on every edge.

A mask of ones runs the clean model, a mask of zeros the ablated model, a 0/1 mask a circuit; Edge Pruning trains a mask
by its gradient. Everything else is built on `MaskedPass.logits`; `stream.py` holds the equation. Values that do not
depend on the mask (`Frozen`: clean logits, ablated writes and their sums) are computed once per example.

`MaskedPass` uses only the five methods that every adapter has, so it serves any family; `fused.FusedPass` is the fast
path. Both can be restricted to a candidate set and then compute only the nodes that the set needs (`layout.py`).
"""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.buffers import Buffers
from edge_pruning.masked_pass.devices import in_its_arithmetic, indices_on
from edge_pruning.masked_pass.layout import Layout
from edge_pruning.masked_pass.stream import Stream
from edge_pruning.masked_pass.tiles import Tiles
from edge_pruning.masked_pass.unmasked_pass import Frozen, UnmaskedPass
from edge_pruning.masked_pass.whole_stream import WholeStream
from edge_pruning.models.adapter import Adapter


class MaskedPass(UnmaskedPass, Tiles):
    """Run one model on one graph. Masks are float32 [w, r] on the model's device; runs are in the model's dtype.

    keep_reads: whether reads are kept for the backward pass or computed again in it; None decides by the free memory.
    cuda_graph: whether searches capture micro-batches as CUDA graphs (`captured.py`): auto (if possible), on or off.
    """

    cuda_graph: str = "auto"

    def __init__(self, adapter: Adapter, graph: Graph | None = None, *, keep_reads: bool | None = None) -> None:
        super().__init__(adapter, graph)
        self.keep_reads = keep_reads
        self.layout = Layout.full(self.graph)
        self.stream: type[Stream] = Stream
        self.buffers = Buffers()

    @property
    def heads_apart(self) -> bool:
        """Whether a subset of a layer's heads can be computed; if not, one needed head requires all heads."""
        return False

    def restricted(self, candidates: Tensor, *, consistent: bool) -> Self:
        """Return a pass for masks that are zero outside `candidates`, bool [w, r]; it skips unneeded nodes.

        consistent: the ablated values are those of one run (see `Layout.of`).
        """
        engine = copy.copy(self)
        engine.layout = Layout.of(self.graph, candidates.cpu(), consistent=consistent, heads_apart=self.heads_apart)
        return engine

    def in_float32(self) -> Self:
        """Return a pass with float32 arithmetic on half-precision weights; itself if weights are float32 or float64.

        No model is loaded or copied: each operation converts the weights it uses and frees the copy. Results are those
        of the same model loaded in float32. Frozen values belong to one dtype: freeze batches with the engine that runs
        them, and fit an ablation that needs data with that engine (`ablation.fitted(engine, pairs)`).
        """
        if self.dtype.itemsize >= 4:
            return self
        engine = copy.copy(self)
        engine.dtype = torch.float32
        engine.tables = {}
        engine.buffers = Buffers()  # buffers in half precision say that they are float32 inside `Upcasting`
        return engine

    def release(self) -> None:
        """Free all memory that is kept for the next pass."""
        super().release()
        self.buffers = Buffers()

    def whole(self) -> Self:
        """Return a pass for the mask of all ones only: it ignores the mask's values, and their gradient costs less."""
        assert self.layout.is_full
        engine = copy.copy(self)
        engine.stream = WholeStream
        return engine

    # --- the masked run --------------------------------------------------------------------------------------------

    @in_its_arithmetic
    def logits(self, mask: Tensor, batch: Batch, frozen: Frozen, *, along: Tensor | None = None) -> Tensor:
        """Logits at the compared positions [n, vocab], with the edges weighted by `mask`.

        along: `differences` of another run. They replace this run's differences in the mask's gradient, which is then
        the sum of <g_j, along_i> over tokens, with g_j the gradient of read j in this run.
        """
        stream = self.run(mask, batch, frozen, along)
        final = frozen.final_base(batch.positions).to(stream.mask.device)
        final = stream.read(self.layout.logits_reader, self.layout.n_writers, final).squeeze(0)
        stream.close()
        return self.unembed(final)

    @in_its_arithmetic
    @torch.no_grad()
    def differences(self, mask: Tensor, batch: Batch, frozen: Frozen) -> Tensor:
        """Differences y - c of every computed writer in the run with `mask`, [w, token, d].

        The last MLP is computed at the compared positions only; elsewhere its differences are 0.
        """
        compared = self.run(mask, batch, frozen)
        assert compared.all_tokens is not None
        values, last = compared.all_tokens.differences[1:].to(self.home, copy=True), self.graph.shape.layers - 1
        if self.layout.has_mlp(last):
            mlp = self.layout.mlp_writer(last)
            values[mlp] = 0
            values[mlp, batch.positions] = compared.differences[1 + mlp].to(self.home)
        return values

    @in_its_arithmetic
    def run(self, mask: Tensor, batch: Batch, frozen: Frozen, along: Tensor | None = None) -> Stream:
        """Run every sublayer with the edges weighted by `mask`; the stream ends at the compared positions.

        The last MLP is computed at those positions only, because no other position reaches the logits through it.
        """
        packed, bases = self.layout.packed(mask), frozen.bases(parallel=self.graph.shape.parallel)
        b, p, d = frozen.embeddings.shape
        room = self._writers_at(self.home, 0)
        dtype = frozen.embeddings.dtype
        stream = self.stream.open(packed, room, (b * p, d), dtype, self.keeps_reads, along, self.buffers)
        stream.slots(0, self.graph.n_embeddings).copy_(frozen.embedding_difference.flatten(1, 2))
        contexts, shards = self.contexts(p), self.adapter.shards
        for layer, device in enumerate(self.devices):
            if device != stream.mask.device:
                stream = stream.moved(device, self._writers_at(device, layer))
            if shards is not None:
                stream.order = shards.enter(layer, stream.order, ahead=layer + 1)
            base, mlp_base, seen = next(bases).to(device), next(bases).flatten(0, 1).to(device), None
            if self.layout.heads(layer):
                seen = self._attention(layer, stream, base, frozen.heads[layer].to(device), contexts[device])
                if seen is not None and not self.graph.shape.parallel:
                    seen = seen + frozen.attention[layer].flatten(0, 1).to(device)
            ablated = frozen.mlps[layer].flatten(0, 1).to(device)
            if layer == self.graph.shape.layers - 1:
                at, seen = batch.positions.to(device), None
                stream, mlp_base, ablated = stream.at(at), mlp_base[at], ablated[at]
            if self.layout.has_mlp(layer):
                self._mlp(layer, stream, mlp_base, ablated, seen)
            if shards is not None:
                stream.order = shards.leave(layer, stream.order, ahead=layer - 1)
        return stream

    def _attention(self, layer: int, stream: Stream, base: Tensor, ablated: Tensor, context: Any) -> Tensor | None:
        """Run a layer's heads, given the base [b, p, d] and their ablated writes [h, b, p, *].

        May return the MLP's read of this base and of the writers before these heads, [1, token, d].
        """
        layout = self.layout
        x = stream.read(layout.attention_readers(layer), layout.writers_before_attention(layer), base.flatten(0, 1))
        q, k, v = self._all_rows(layer, x.unflatten(1, base.shape[:2]), base).split(self._qkv)
        y = self.adapter.attend(layer, q, k, v, context)
        stream.write(layout.head_writers(layer).start, y.flatten(1, 2), ablated.flatten(1, 2))
        return None

    def _all_rows(self, layer: int, x: Tensor, base: Tensor) -> Tensor:
        """The mixed reads of a layer's heads [r, b, p, d], and the base for all others."""
        mixed = self.layout.mixed_rows(layer)
        if len(mixed) == sum(self._qkv):
            return x
        return base.expand(sum(self._qkv), *base.shape).index_copy(0, indices_on(mixed, base.device), x)

    def _mlp(self, layer: int, stream: Stream, base: Tensor, ablated: Tensor, seen: Tensor | None) -> None:
        """Run a layer's MLP, given its base [token, d] and ablated write [token, d].

        seen: what its read contains before the layer's heads are added, [1, token, d]; None if it is not read yet.
        """
        layout = self.layout
        reader = layout.mlp_reader(layer)
        mixed = reader.stop > reader.start
        x = stream.read(reader, layout.writers_before_mlp(layer), base) if mixed else base[None]
        y = self.adapter.feed_forward(layer, x[:, None])[:, 0]
        stream.write(layout.mlp_writer(layer), y, ablated)

    def _writers_at(self, device: torch.device, layer: int) -> int:
        """The number of writers before the stream next leaves `device`, counted from `layer`; or all writers."""
        away = (i for i in range(layer, len(self.devices)) if self.devices[i] != device)
        leaves = next(away, None)
        return self.layout.n_writers if leaves is None else self.layout.writers_before_attention(leaves)
