"""The fast path of the masked pass, for families whose readers are a norm and a linear map.

Norm and map become one step (`folding.py`), and for LayerNorm every write is centred once. Heads keep only their
outputs before the output map (e numbers instead of d) from the ablated run; the difference is mapped: (o - o_c) W_O.
Equal to `MaskedPass` up to rounding; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd import Function

from edge_pruning.batch import sent
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.folding import Map, bias_of, folded
from edge_pruning.masked_pass.layout import Layout
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.stream import Stream
from edge_pruning.models.parts import Linear, PartsAdapter, expanded


@dataclass(frozen=True)
class _Chosen:
    """The computed heads of a layer: their maps, and how what is left out of a restricted pass is filled in.

    mixed, fixed: the maps of the readers that are mixed, and of those that read the base whatever the mask; places:
    where either stand among all. heads: which of all heads; shared: which keys and values each of them uses. In a full
    pass the last four are None, and nothing is picked or copied.
    """

    mixed: Map
    out: Tensor
    qkv: list[int]
    fixed: Map | None = None
    places: tuple[Tensor, Tensor] | None = None
    heads: Tensor | None = None
    shared: Tensor | None = None

    @classmethod
    def of(cls, into: Map, out: Tensor, layout: Layout, layer: int) -> _Chosen:
        heads, kv, rows, mixed = (f(layer) for f in (layout.heads, layout.kv_heads, layout.rows, layout.mixed_rows))
        qkv, of_all = [len(heads), len(kv), len(kv)], len(heads) == len(out)
        if of_all and len(mixed) == len(rows):
            return cls(into, out, qkv)
        fixed = [place for place in range(len(rows)) if place not in mixed]
        at = partial(sent, device=out.device)
        shared = [kv.index(h * layout.graph.kv_readers // len(out)) for h in heads]
        return cls(
            into.rows(at([rows[place] for place in mixed])), out if of_all else out[at(heads)], qkv,
            into.rows(at([rows[place] for place in fixed])) if fixed else None, (at(mixed), at(fixed)),
            None if of_all else at(heads), None if of_all or shared == [*range(len(kv))] else at(shared),
        )

    def with_fixed(self, qkv: Tensor, base: Tensor) -> Tensor:
        """All rows [r, token, e] from the mixed ones and the base [token, d]."""
        if self.fixed is None or self.places is None:
            return qkv
        mixed, fixed = self.places
        rows = qkv.new_empty(sum(self.qkv), *qkv.shape[1:]).index_copy_(0, fixed, self.fixed(base[None])[0])
        return rows.index_copy_(0, mixed, qkv)

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values; where heads are missing, keys and values once per head that is left."""
        q, k, v = qkv.split(self.qkv)
        return (q, k, v) if self.shared is None else (q, k[self.shared], v[self.shared])

    def of_all(self, heads: Tensor) -> Tensor:
        """The computed ones of all heads [h, ...]."""
        return heads if self.heads is None else heads[self.heads]


class FusedPass(MaskedPass):
    """The masked pass with fused reads and writes; the same results as `MaskedPass`, several times faster."""

    adapter: PartsAdapter

    def __init__(self, adapter: PartsAdapter, graph: Graph | None = None, *, keep_reads: bool = True) -> None:
        super().__init__(adapter, graph, keep_reads=keep_reads)
        norm = adapter.attention(0).norm
        self.centred = norm is not None and norm.centred
        self._heads_in = cache(self._fold_heads)
        self._heads_out = cache(self._fold_out)
        self._mlp_parts = cache(self._fold_mlp)
        self._chosen_heads = cache(self._choose_heads)

    @property
    def heads_apart(self) -> bool:
        return self.adapter.heads_apart

    @property
    def head_size(self) -> int:
        return self._heads_out(0)[0].shape[1]

    def restricted(self, candidates: Tensor, *, consistent: bool) -> Self:
        engine = super().restricted(candidates, consistent=consistent)
        engine._chosen_heads = cache(engine._choose_heads)  # all other weights are shared
        return engine

    # --- weights, folded once --------------------------------------------------------------------------------------

    @torch.no_grad()
    def _fold_heads(self, layer: int) -> Map:
        """Queries, keys and values of a layer as one stack of maps, in the order of the readers."""
        parts, kv = self.adapter.attention(layer), self.graph.kv_readers
        maps = (parts.q, expanded(parts.k, kv), expanded(parts.v, kv))
        stack = Linear(torch.cat([linear.weight for linear in maps]), torch.cat([bias_of(linear) for linear in maps]))
        return folded(parts.norm, stack)

    @torch.no_grad()
    def _fold_out(self, layer: int) -> tuple[Tensor, Tensor | None]:
        parts = self.adapter.attention(layer)
        bias = None if parts.out_bias is None else self._into_stream(parts.out_bias)
        return self._into_stream(parts.out).contiguous(), bias

    @torch.no_grad()
    def _fold_mlp(self, layer: int) -> tuple[Map, Callable[[Tensor], Tensor]] | None:
        """The way into the hidden units and the way out of them; None if the MLP has no such parts."""
        parts = self.adapter.mlp(layer)
        return None if parts is None else (folded(parts.norm, parts.inward), parts.finish)

    def _choose_heads(self, layer: int) -> _Chosen:
        return _Chosen.of(self._heads_in(layer), self._heads_out(layer)[0], self.layout, layer)

    def _into_stream(self, x: Tensor) -> Tensor:
        """LayerNorm takes the mean away wherever the stream is read, so it need not be written."""
        return (x.double() - x.double().mean(-1, keepdim=True)).to(x.dtype) if self.centred else x

    # --- the masked run --------------------------------------------------------------------------------------------

    def _attention(self, layer: int, stream: Stream, base: Tensor, ablated: Tensor, context: Any) -> Tensor | None:
        layout, chosen = self.layout, self._chosen_heads(layer)
        readers, writers = layout.attention_readers(layer), layout.writers_before_attention(layer)
        mlp = layout.mlp_reader(layer)
        along = mlp.stop - mlp.start
        qkv, seen = _ReadProject.apply(
            stream.order, stream, readers, writers, base.flatten(0, 1), chosen.mixed, along
        )
        q, k, v = chosen.split(chosen.with_fixed(qkv, base.flatten(0, 1)).unflatten(1, base.shape[:2]))
        o = self.adapter.mix(layer, q, k, v, context).flatten(1, 2)
        ablated, first = chosen.of_all(ablated).flatten(1, 2), layout.head_writers(layer).start
        stream.order = _WriteHeads.apply(o, stream.order, stream, first, ablated, chosen.out)
        return seen[0] - base.flatten(0, 1) if along else None

    def _mlp(self, layer: int, stream: Stream, base: Tensor, ablated: Tensor, seen: Tensor | None) -> None:
        layout = self.layout
        reader = layout.mlp_reader(layer)
        rest = slice(layout.writers_before_attention(layer), layout.writers_before_mlp(layer))
        if seen is None:  # no head of this layer is computed, so nothing has been read along
            seen, rest = torch.zeros_like(base), slice(0, rest.stop)
        mixed = reader.stop > reader.start
        x = _ReadRest.apply(seen + base, stream.order, stream, reader, rest) if mixed else base[None]
        stream.write(layout.mlp_writer(layer), self._centre(self._mlp_output(layer, x)), ablated)

    def _mlp_output(self, layer: int, x: Tensor) -> Tensor:
        """[1, token, d] from what the MLP reads [1, token, d]."""
        parts = self._mlp_parts(layer)
        if parts is None:
            return self.adapter.feed_forward(layer, x[:, None])[:, 0]
        inward, finish = parts
        return finish(_Project.apply(x, inward))

    def _centre(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if self.centred else x

    # --- the plain run ---------------------------------------------------------------------------------------------

    def _plain_heads(self, layer: int, x: Tensor, context: Any) -> Tensor:
        qkv = self._heads_in(layer)(x.flatten(0, 1)[None])[0].unflatten(1, x.shape[:2])
        q, k, v = qkv.split(self._qkv)
        return self.adapter.mix(layer, q, k, v, context)

    def _plain_mlp(self, layer: int, x: Tensor) -> Tensor:
        return self._centre(super()._plain_mlp(layer, x))

    def _sum_of_heads(self, layer: int, heads: Tensor) -> Tensor:
        out, bias = self._heads_out(layer)
        total = heads.permute(1, 2, 0, 3).flatten(2) @ out.flatten(0, 1)
        return total if bias is None else total + bias


class _ReadProject(Function):
    """Read, norm and projection of a layer's heads in one: q [r, token, e].

    The MLP of the layer, whose row comes next in the mask, reads the same writers and more; going through the buffers
    takes most of the time, so its share [1, token, d] is read on the way (`along` is 1; 0 where it is not computed).
    """

    @staticmethod
    def forward(
        ctx: Any, order: Tensor, stream: Stream, readers: slice, writers: int, base: Tensor, folded: Map, along: int
    ) -> tuple[Tensor, Tensor]:
        both, heads = slice(readers.start, readers.stop + along), readers.stop - readers.start
        x = stream.mix_in_place(both, writers, base)
        q, rstd = folded(x[:heads])
        ctx.stream, ctx.readers, ctx.both, ctx.writers, ctx.folded = stream, readers, both, writers, folded
        ctx.x = x if stream.keep_reads else None  # in the stream's buffer, so autograd must not watch it
        ctx.save_for_backward(q, rstd, base)
        return q, x[heads:].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, rstd, base = ctx.saved_tensors
        stream, heads, (of_heads, of_mlp) = ctx.stream, q.shape[0], gradients
        x = stream.mix_in_place(ctx.both, ctx.writers, base) if ctx.x is None else ctx.x
        gradient = x if x.is_contiguous() else torch.empty_like(x, memory_format=torch.contiguous_format)
        ctx.folded.gradient(x[:heads], q, rstd, of_heads, out=gradient[:heads])
        gradient[heads:] = of_mlp
        stream.accumulate(ctx.both, slice(0, ctx.writers), gradient)
        return stream.mask.new_empty(0), None, None, None, None, None, None


class _ReadRest(Function):
    """What a reader gets from some more writers, on top of x [token, d]: [1, token, d]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, stream: Stream, reader: slice, writers: slice) -> Tensor:
        ctx.stream, ctx.reader, ctx.writers = stream, reader, writers
        return stream.mix_more(reader, writers, x[None])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.stream.accumulate(ctx.reader, ctx.writers, gradients[0])
        return gradients[0][0], ctx.stream.mask.new_empty(0), None, None, None


class _Project(Function):
    """Norm and projection: q [r, token, e] of x [r, token, d]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, folded: Map) -> Tensor:
        q, rstd = folded(x)
        ctx.folded = folded
        ctx.save_for_backward(x, q, rstd)
        return q

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, q, rstd = ctx.saved_tensors
        return ctx.folded.gradient(x, q, rstd, gradients[0], out=torch.empty_like(x)), None


class _WriteHeads(Function):
    """The difference of a layer's heads, mapped into the stream: (o - o_c) W_O."""

    @staticmethod
    def forward(
        ctx: Any, o: Tensor, order: Tensor, stream: Stream, first: int, ablated: Tensor, out: Tensor
    ) -> Tensor:
        ctx.stream, ctx.first, ctx.out = stream, first, out
        torch.bmm(o - ablated, out, out=stream.slots(first, o.shape[0]))
        return order.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = ctx.stream.gradient_of(ctx.first, ctx.out.shape[0])
        return torch.bmm(gradient, ctx.out.mT), gradients[0], None, None, None, None
