"""The fast path of the masked pass, for families whose readers are a norm and a linear map.

Norm and map are one step (`folding.py`); for LayerNorm, every write is centred once. Of a head's ablated run only the
output before the output map is kept (e numbers instead of d), and the difference is mapped: (o - o_c) W_O.
Equal to `MaskedPass` up to rounding; the tests compare the two. With D_i = y_i - c_i, comments name the line of the
formula that a step computes: docs/how-it-works.md derives those of reads and masks, `folding.py` those of the norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd import Function

from edge_pruning.graph import Graph
from edge_pruning.masked_pass.devices import indices_on
from edge_pruning.masked_pass.folding import Map
from edge_pruning.masked_pass.layout import Layout
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.stream import Stream
from edge_pruning.masked_pass.weights import Weights
from edge_pruning.models.parts import PartsAdapter


@dataclass(frozen=True)
class _Chosen:
    """Which heads of a layer a pass computes, and how a restricted pass fills in what it leaves out.

    qkv: how many queries, keys and values are computed. mixed, fixed: rows of the readers that are mixed, and of those
    that read the base whatever the mask; places: where either stand among the computed ones. heads: indices of the
    computed heads; shared: which keys and values each of them uses. None stands for all, with nothing to pick or copy.
    """

    qkv: list[int]
    mixed: Tensor | None = None
    fixed: Tensor | None = None
    places: tuple[Tensor, Tensor] | None = None
    heads: Tensor | None = None
    shared: Tensor | None = None

    @classmethod
    def of(cls, layout: Layout, layer: int, device: torch.device) -> _Chosen:
        heads, kv, rows, mixed = (f(layer) for f in (layout.heads, layout.kv_heads, layout.rows, layout.mixed_rows))
        n = layout.graph.shape.heads
        qkv, all_heads = [len(heads), len(kv), len(kv)], len(heads) == n
        if all_heads and len(mixed) == len(rows):
            return cls(qkv)
        fixed = [place for place in range(len(rows)) if place not in mixed]
        at = partial(indices_on, device=device)
        shared = [kv.index(h * layout.graph.kv_readers // n) for h in heads]
        return cls(
            qkv, at([rows[place] for place in mixed]), at([rows[place] for place in fixed]) if fixed else None,
            (at(mixed), at(fixed)), None if all_heads else at(heads),
            None if all_heads or shared == [*range(len(kv))] else at(shared),
        )

    def with_fixed(self, qkv: Tensor, base: Tensor, into: Callable[[], Map]) -> Tensor:
        """Combine the mixed rows and those of the base [token, d] to [r, token, e]. into: returns the layer's maps."""
        if self.fixed is None or self.places is None:
            return qkv
        mixed, fixed = self.places
        of_base = into().rows(self.fixed)(base[None])[0]
        rows = qkv.new_empty(sum(self.qkv), *qkv.shape[1:]).index_copy_(0, fixed, of_base)
        return rows.index_copy_(0, mixed, qkv)

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split into queries, keys and values. If heads are left out, repeat keys and values per remaining head."""
        q, k, v = qkv.split(self.qkv)
        return (q, k, v) if self.shared is None else (q, k[self.shared], v[self.shared])

    def of_all(self, heads: Tensor) -> Tensor:
        """Select the computed heads from all heads [h, ...]."""
        return heads if self.heads is None else heads[self.heads]


class FusedPass(MaskedPass):
    """The masked pass with fused reads and writes; the same results as `MaskedPass`, several times faster.

    keep_maps: whether folded maps are kept (see `weights.py`); None decides by the free memory.
    """

    adapter: PartsAdapter

    def __init__(
        self,
        adapter: PartsAdapter,
        graph: Graph | None = None,
        *,
        keep_reads: bool | None = None,
        keep_maps: bool | None = None,
    ) -> None:
        super().__init__(adapter, graph, keep_reads=keep_reads)
        with adapter.weights_of(0):
            self.weights = Weights(adapter, self.graph.kv_readers, self.dtype, keep_maps)
            self._head_size = int(adapter.attention(0).out.shape[1])
        self._choices: dict[int, _Chosen] = {}

    @property
    def heads_apart(self) -> bool:
        return self.adapter.heads_apart

    @property
    def head_size(self) -> int:
        return self._head_size

    def restricted(self, candidates: Tensor, *, consistent: bool) -> Self:
        engine = super().restricted(candidates, consistent=consistent)
        engine._choices = {}  # they depend on the layout; the weights are shared
        return engine

    def in_float32(self) -> Self:
        engine = super().in_float32()
        if engine is not self:
            with self.adapter.weights_of(0):
                engine.weights = Weights(self.adapter, self.graph.kv_readers, engine.dtype, keep=False)
        return engine

    def release(self) -> None:
        super().release()
        self.weights.release()

    def _chosen(self, layer: int) -> _Chosen:
        if layer not in self._choices:
            self._choices[layer] = _Chosen.of(self.layout, layer, self.devices[layer])
        return self._choices[layer]

    def _into_stream(self, x: Tensor) -> Tensor:
        return self.weights.into_stream(x)

    # --- the masked run --------------------------------------------------------------------------------------------

    def _attention(self, layer: int, stream: Stream, base: Tensor, ablated: Tensor, context: Any) -> Tensor | None:
        layout, chosen, flat = self.layout, self._chosen(layer), base.flatten(0, 1)
        readers, writers = layout.attention_readers(layer), layout.writers_before_attention(layer)
        last, mlp = layer == self.graph.shape.layers - 1, layout.mlp_reader(layer)
        along = 0 if last else mlp.stop - mlp.start  # the last MLP reads at the compared positions only

        def into() -> Map:
            return self.weights.heads_in(layer)

        def into_mixed() -> Map:
            return into() if chosen.mixed is None else into().rows(chosen.mixed)

        def out() -> Tensor:
            return chosen.of_all(self.weights.heads_out(layer))

        qkv, seen = _ReadProject.apply(stream.order, stream, readers, writers, flat, into_mixed, along)
        q, k, v = chosen.split(chosen.with_fixed(qkv, flat, into).unflatten(1, base.shape[:2]))
        o = self.adapter.mix(layer, q, k, v, context).flatten(1, 2)
        ablated, first = chosen.of_all(ablated).flatten(1, 2), layout.head_writers(layer).start
        stream.order = _WriteHeads.apply(o, stream.order, stream, first, ablated, out)
        return seen if along else None

    def _mlp(self, layer: int, stream: Stream, base: Tensor, ablated: Tensor, seen: Tensor | None) -> None:
        layout = self.layout
        reader, before = layout.mlp_reader(layer), layout.writers_before_mlp(layer)
        if seen is not None:
            rest = slice(layout.writers_before_attention(layer), before)
            x = _ReadRest.apply(stream.order, stream, reader, rest, seen)
        else:
            x = stream.read(reader, before, base) if reader.stop > reader.start else base[None]
        stream.write(layout.mlp_writer(layer), self._centre(self._mlp_output(layer, x)), ablated)

    def _mlp_output(self, layer: int, x: Tensor) -> Tensor:
        """[1, token, d] from what the MLP reads [1, token, d]."""
        parts = self.adapter.mlp(layer)
        if parts is None:
            return self.adapter.feed_forward(layer, x[:, None])[:, 0]
        return parts.finish(_Project.apply(x, partial(self.weights.mlp_in, layer)))

    def _centre(self, x: Tensor) -> Tensor:
        return _Centre.apply(x) if self.weights.centred else x

    # --- the unmasked run ------------------------------------------------------------------------------------------

    def _unmasked_heads(self, layer: int, x: Tensor, context: Any) -> Tensor:
        qkv = self.weights.heads_in(layer)(x.flatten(0, 1)[None])[0].unflatten(1, x.shape[:2])
        q, k, v = qkv.split(self._qkv)
        return self.adapter.mix(layer, q, k, v, context)

    def _unmasked_mlp(self, layer: int, x: Tensor) -> Tensor:
        return self._centre(super()._unmasked_mlp(layer, x))

    def _sum_of_heads(self, layer: int, heads: Tensor) -> Tensor:
        out, bias = self.weights.heads_out(layer), self.weights.out_bias(layer)
        total = heads.permute(1, 2, 0, 3).flatten(2) @ out.flatten(0, 1)
        return total if bias is None else total + bias


class _ReadProject(Function):
    """Read, norm and projection of a layer's heads in one step: q [r, token, e].

    The layer's MLP, whose row comes next in the mask, reads the same writers and more. Traversing the buffers takes
    most of the time, so the MLP's share [1, token, d] is read in the same traversal (`along`: 1, or 0 without MLP). It
    is valid until the next read, and its gradient comes from `_ReadRest`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        order: Tensor,
        stream: Stream,
        readers: slice,
        writers: int,
        base: Tensor,
        fold: Callable[[], Map],
        along: int,
    ) -> tuple[Tensor, Tensor]:
        both, heads = slice(readers.start, readers.stop + along), readers.stop - readers.start
        x = stream.mix_in_place(both, writers, base)  # x_j = base_j + sum_i z_ij D_i
        q, size = fold()(x[:heads])  # q = x W' / size + b'
        ctx.set_materialize_grads(False)
        ctx.stream, ctx.both, ctx.writers, ctx.fold = stream, both, writers, fold
        ctx.x = x if stream.keep_reads else None  # a view of the stream's buffer, so autograd must not save it
        ctx.save_for_backward(q, size, base)
        seen = x[heads:]
        ctx.mark_non_differentiable(seen)
        return q, seen

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, size, base = ctx.saved_tensors
        stream, heads = ctx.stream, q.shape[0]
        x = stream.mix_in_place(ctx.both, ctx.writers, base) if ctx.x is None else ctx.x
        gradient = x if x.is_contiguous() else torch.empty_like(x, memory_format=torch.contiguous_format)
        ctx.fold().gradient(x[:heads], q, size, gradients[0], out=gradient[:heads])  # g_j = dL/dx_j
        if heads < len(gradient):
            gradient[heads:] = stream.begun.pop(ctx.both.stop - 1)
        stream.accumulate(ctx.both, slice(0, ctx.writers), gradient)  # dL/dz_ij = <g_j, D_i>, dL/dy_i += z_ij g_j
        return None, None, None, None, None, None, None


class _ReadRest(Function):
    """Finish a read that `_ReadProject` has begun: add a reader's share of further writers to `seen` [1, token, d]."""

    @staticmethod
    def forward(ctx: Any, order: Tensor, stream: Stream, reader: slice, writers: slice, seen: Tensor) -> Tensor:
        ctx.stream, ctx.reader, ctx.writers = stream, reader, writers
        return stream.mix_more(reader, writers, seen)  # x_j + sum_i z_ij D_i

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.stream.accumulate(ctx.reader, ctx.writers, gradients[0])  # dL/dz_ij = <g_j, D_i>, dL/dy_i += z_ij g_j
        ctx.stream.begun[ctx.reader.start] = gradients[0]
        return None, None, None, None, None


class _Centre(Function):
    """Subtract the mean: a projection, which is its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] - gradients[0].mean(-1, keepdim=True)


class _Project(Function):
    """Norm and projection: q [r, token, e] of x [r, token, d]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fold: Callable[[], Map]) -> Tensor:
        q, size = fold()(x)  # q = x W' / size + b'
        ctx.fold = fold
        ctx.save_for_backward(x, q, size)
        return q

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, q, size = ctx.saved_tensors
        return ctx.fold().gradient(x, q, size, gradients[0], out=torch.empty_like(x)), None  # g_j = dL/dx_j


class _WriteHeads(Function):
    """Map the differences of a layer's heads into the stream: D_i = (o - o_c) W_O."""

    @staticmethod
    def forward(
        ctx: Any,
        o: Tensor,
        order: Tensor,
        stream: Stream,
        first: int,
        ablated: Tensor,
        out: Callable[[], Tensor],
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.stream, ctx.first, ctx.count, ctx.out = stream, first, o.shape[0], out
        torch.bmm(o - ablated, out(), out=stream.slots(first, ctx.count))  # D_i = (o_i - o_c_i) W_O
        return order.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        gradient = ctx.stream.gradient_of(ctx.first, ctx.count)  # dL/dy_i = sum_j z_ij g_j
        return torch.bmm(gradient, ctx.out().mT), None, None, None, None, None  # dL/do_i = dL/dy_i W_O^T
