"""The masked forward pass: run a transformer with a number between 0 and 1 on every edge.

All ones is the clean model, all zeros the ablated one, a 0/1 mask runs a circuit, a mask with a gradient is Edge
Pruning. Everything else is built on `MaskedPass.logits`; `stream.py` holds the equation. What does not depend on the
mask (`Frozen`: the clean logits, the ablated writes and their sums) is computed once per example, not once per step.

`MaskedPass` says everything in an adapter's verbs and serves any family; `fused.FusedPass` is the fast path. Either can
be restricted to a candidate set, and then computes only the nodes that the set needs (`layout.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import torch
from torch import Tensor

from edge_pruning.batch import Batch, Pair, sent
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.arithmetic import arithmetic
from edge_pruning.masked_pass.buffers import Buffers
from edge_pruning.masked_pass.layout import Layout
from edge_pruning.masked_pass.stream import Stream
from edge_pruning.masked_pass.whole_stream import WholeStream
from edge_pruning.models.adapter import Adapter

P = ParamSpec("P")
T = TypeVar("T")
CPU_TILE_BYTES = 14 << 20
CPU_TILE_TOKENS = 64  # at least: every micro-batch fetches all weights, which fit no cache
GPU_TILE_BYTES = 512 << 20


@dataclass(frozen=True)
class Writes:
    """What every writer writes in one run: embeddings [w, b, p, d], heads [layer, h, b, p, *], MLPs [layer, b, p, d].

    The last axis of `heads` is d; or, in the fused pass, e: the head's output before its output map.
    """

    embeddings: Tensor
    heads: Tensor
    mlps: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Every one is [..., b, p, *]."""
        return self.embeddings, self.heads, self.mlps


@dataclass(frozen=True)
class Frozen:
    """All that a batch needs and no mask changes.

    logits: of the clean model [n, vocab], or [n, 0] where they were not asked for; embedding_difference: clean minus
    ablated [w, b, p, d]; embeddings: sum of the ablated embeddings [b, p, d]; heads, mlps: ablated writes as in
    `Writes`; attention: what a layer's ablated heads add to the stream together, output bias included [layer, b, p, d].
    """

    logits: Tensor
    embedding_difference: Tensor
    embeddings: Tensor
    heads: Tensor
    mlps: Tensor
    attention: Tensor

    def bases(self, *, parallel: bool) -> Iterator[Tensor]:
        """Sums of the ablated writes [b, p, d]: before each sublayer in turn (attention, MLP), and before `logits`.

        They are running sums, so they are added up during a pass instead of being kept.
        """
        before = self.embeddings
        for attention, mlp in zip(self.attention, self.mlps, strict=True):
            after = before + attention
            yield before
            yield before if parallel else after
            before = after + mlp
        yield before

    def at(self, rows: Tensor) -> Frozen:
        """The same at some rows [n] of the flattened positions, as if each were a prompt of one position."""
        per_position = {name: getattr(self, name) for name in PER_POSITION}
        return Frozen(self.logits, **{name: x.flatten(-3, -2)[..., rows, None, :] for name, x in per_position.items()})

    def final_base(self, rows: Tensor) -> Tensor:
        """The sum of the ablated writes before `logits` at some rows of the flattened positions, [n, d]."""
        *_, final = self.at(rows).bases(parallel=False)
        return final[:, 0]


PER_POSITION = tuple(field.name for field in fields(Frozen) if field.name != "logits")  # all of them [..., b, p, *]


def _in_its_arithmetic(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method of a pass that calls the adapter: inside, all arithmetic is in the pass's dtype."""

    @wraps(method)
    def inside(self: MaskedPass, *arguments: P.args, **options: P.kwargs) -> T:
        with self.arithmetic():
            return method(self, *arguments, **options)

    return inside


class MaskedPass:
    """Runs one model on one graph. Masks are float32 [w, r] on the model's device; runs are in the model's dtype."""

    def __init__(self, adapter: Adapter, graph: Graph | None = None, *, keep_reads: bool = True) -> None:
        self.adapter = adapter
        self.graph = graph or Graph(adapter.shape)
        self.keep_reads = keep_reads
        self.layout = Layout.full(self.graph)
        self.stream: type[Stream] = Stream
        self.dtype = adapter.dtype  # of all arithmetic; of the weights, too, unless they are upcast
        self.buffers = Buffers()
        self.largest_tile: int | None = None  # in tokens, once a larger one has not fitted
        if self.graph.shape != adapter.shape:
            raise ValueError(f"the graph is of another model: {self.graph.shape}, this one is {adapter.shape}")
        self.home = adapter.device  # of masks, batches, what is frozen, and logits
        self.devices = [adapter.layer_device(layer) for layer in range(adapter.shape.layers)]
        self._qkv = [self.graph.shape.heads, self.graph.kv_readers, self.graph.kv_readers]

    @property
    def heads_apart(self) -> bool:
        """Whether a layer can be run with some of its heads; if not, one needed head means that all are computed."""
        return False

    @property
    def head_size(self) -> int:
        """Numbers per position that a head's write is kept as: d, or e before its output map."""
        return self.adapter.d_model

    def restricted(self, candidates: Tensor, *, consistent: bool) -> Self:
        """The same pass for masks that are zero outside `candidates`, bool [w, r]: what they exclude is not computed.

        consistent: the ablated values are those of one run (see `Layout.of`).
        """
        engine = copy.copy(self)
        engine.layout = Layout.of(self.graph, candidates.cpu(), consistent=consistent, heads_apart=self.heads_apart)
        return engine

    def in_float32(self) -> Self:
        """The same pass with float32 arithmetic on half-precision weights; itself where weights are float32 or float64.

        Nothing is loaded or copied: each operation converts the weights it uses and frees them again. Results are those
        of the same model loaded in float32. Frozen values of one dtype do not fit the other: freeze batches with the
        engine that runs them, and fit an ablation that takes data to it (`ablation.fitted(engine, pairs)`).
        """
        if self.dtype.itemsize >= 4:
            return self
        engine = copy.copy(self)
        engine.dtype = torch.float32
        return engine

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Inside, the adapter computes in `dtype`. The methods of a pass see to that themselves."""
        return arithmetic(self.dtype != self.adapter.dtype)

    def release(self) -> None:
        """Free all memory that the next pass would use again."""
        self.buffers = Buffers()

    def whole(self) -> Self:
        """The same pass for the one mask that keeps all edges: it is not looked at, and its gradient costs less."""
        assert self.layout.is_full
        engine = copy.copy(self)
        engine.stream = WholeStream
        return engine

    @property
    def tile_tokens(self) -> int:
        """Tokens per micro-batch: on a CPU a layer's reads should stay in the cache, on a GPU they should fill it.

        A large model's are too many for that, and its weights have to be worth fetching.
        """
        per_token = max(1, self.layout.most_readers) * self.adapter.d_model * self.dtype.itemsize
        on_cpu = self.home.type == "cpu"
        most = max(CPU_TILE_BYTES // per_token, CPU_TILE_TOKENS) if on_cpu else max(1, GPU_TILE_BYTES // per_token)
        return min(most, self.largest_tile or most)

    # --- pairs, side by side ---------------------------------------------------------------------------------------

    def width(self, pair: Pair) -> int:
        """How many positions of a pair are computed: under causal attention none after the last compared one."""
        return max(pair.positions) + 1 if self.adapter.causal else self.adapter.width(pair)

    def tiles(self, pairs: Sequence[Pair], max_tokens: int | None = None) -> list[list[int]]:
        """Cut pairs into micro-batches: lists of indices, at most `tile_tokens` tokens each (or one pair).

        A tile holds pairs of like length, or of equal length if the model sees what fills up the shorter ones.
        """
        cut: list[list[int]] = []
        widths = [self.width(pair) for pair in pairs]
        most = max_tokens or self.tile_tokens
        for i in sorted(range(len(pairs)), key=widths.__getitem__):
            full = not cut or (len(cut[-1]) + 1) * widths[i] > most
            if full or (not self.adapter.causal and widths[i] != widths[cut[-1][-1]]):
                cut.append([])
            cut[-1].append(i)
        return cut

    def batch(self, pairs: Sequence[Pair]) -> Batch:
        """Pairs of one tile as tensors on the model's device. Raises ValueError if one is longer than the context."""
        widths = [self.width(pair) for pair in pairs]
        if max(widths) > self.adapter.max_length:
            raise ValueError(
                f"a pair has {max(widths)} tokens, but the model's context ends at {self.adapter.max_length}"
            )
        if not self.adapter.causal and min(widths) < max(widths):
            raise ValueError(
                f"this model's attention looks to the right, so a batch holds prompts of one length; got {min(widths)} "
                f"to {max(widths)} tokens. `engine.tiles` cuts pairs into such batches"
            )
        return Batch.of(pairs, self.adapter.device, widths=widths)

    # --- the masked run --------------------------------------------------------------------------------------------

    @_in_its_arithmetic
    def logits(self, mask: Tensor, batch: Batch, frozen: Frozen, *, along: Tensor | None = None) -> Tensor:
        """Logits at the compared positions [n, vocab], with the edges weighted by `mask`.

        along: `differences` of another run. The mask's gradient is then taken along them: not the gradient
        of this run's mask, but how its reads' gradients g see another change, sum <g_j, along_i>.
        """
        stream = self.run(mask, batch, frozen, along)
        final = frozen.final_base(batch.rows).to(stream.mask.device)
        final = stream.read(self.layout.logits_reader, self.layout.n_writers, final)[0]
        stream.close()
        return self.unembed(final)

    @_in_its_arithmetic
    @torch.no_grad()
    def differences(self, mask: Tensor, batch: Batch, frozen: Frozen) -> Tensor:
        """What every computed writer writes beyond its ablated value in the run with `mask`, [w, token, d].

        The last MLP's are 0 except at the compared positions, where alone it is computed.
        """
        compared = self.run(mask, batch, frozen)
        assert compared.wide is not None
        found, last = compared.wide.differences[1:].to(self.home, copy=True), self.graph.shape.layers - 1
        if self.layout.has_mlp(last):
            mlp = self.layout.mlp_writer(last)
            found[mlp] = 0
            found[mlp, batch.rows] = compared.differences[1 + mlp].to(self.home)
        return found

    @_in_its_arithmetic
    def run(self, mask: Tensor, batch: Batch, frozen: Frozen, along: Tensor | None = None) -> Stream:
        """Every sublayer with the edges weighted by `mask`; the stream then holds differences at compared positions.

        The last MLP computes nothing but those: no other position reaches the logits through it.
        """
        packed, bases = self.layout.packed(mask), frozen.bases(parallel=self.graph.shape.parallel)
        b, p, d = frozen.embeddings.shape
        room = self._writers_at(self.home, 0)
        dtype = frozen.embeddings.dtype
        stream = self.stream.open(packed, room, (b * p, d), dtype, self.keep_reads, along, self.buffers)
        stream.slots(0, self.graph.n_embeddings).copy_(frozen.embedding_difference.flatten(1, 2))
        contexts = self.contexts(p)
        for layer, device in enumerate(self.devices):
            if device != stream.mask.device:
                stream = stream.moved(device, self._writers_at(device, layer))
            base, mlp_base, seen = next(bases).to(device), next(bases).flatten(0, 1).to(device), None
            if self.layout.heads(layer):
                seen = self._attention(layer, stream, base, frozen.heads[layer].to(device), contexts[device])
            ablated = frozen.mlps[layer].flatten(0, 1).to(device)
            if layer == self.graph.shape.layers - 1:
                at = batch.rows.to(device)
                stream, mlp_base, ablated = stream.at(at), mlp_base[at], ablated[at]
                seen = None if seen is None else seen[at]
            if self.layout.has_mlp(layer):
                self._mlp(layer, stream, mlp_base, ablated, seen)
        return stream

    def _attention(self, layer: int, stream: Stream, base: Tensor, ablated: Tensor, context: Any) -> Tensor | None:
        """A layer's heads, from the base [b, p, d] and their ablated writes [h, b, p, *].

        May return what the layer's MLP reads from the writers before them, [token, d].
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
        return base.expand(sum(self._qkv), *base.shape).index_copy(0, sent(mixed, base.device), x)

    def _mlp(self, layer: int, stream: Stream, base: Tensor, ablated: Tensor, seen: Tensor | None) -> None:
        """A layer's MLP; `seen` is what `_attention` has returned."""
        layout = self.layout
        reader = layout.mlp_reader(layer)
        mixed = reader.stop > reader.start
        x = stream.read(reader, layout.writers_before_mlp(layer), base) if mixed else base[None]
        y = self.adapter.feed_forward(layer, x[:, None])[:, 0]
        stream.write(layout.mlp_writer(layer), y, ablated)

    # --- where things are ------------------------------------------------------------------------------------------

    @_in_its_arithmetic
    def unembed(self, x: Tensor) -> Tensor:
        """Logits [n, vocab] at home, from the final residual stream [n, d] anywhere."""
        return self.adapter.unembed(x).to(self.home)

    def _writers_at(self, device: torch.device, layer: int) -> int:
        """How many writers have written when the stream leaves `device`, where it is before `layer`; or at the end."""
        away = (i for i in range(layer, len(self.devices)) if self.devices[i] != device)
        leaves = next(away, None)
        return self.layout.n_writers if leaves is None else self.layout.writers_before_attention(leaves)

    @_in_its_arithmetic
    def contexts(self, width: int) -> dict[torch.device, Any]:
        """The adapter's context for every device that has layers."""
        context = self.adapter.context(width)
        return {device: _on(device, context) for device in dict.fromkeys(self.devices)}

    # --- what no mask changes --------------------------------------------------------------------------------------

    @_in_its_arithmetic
    @torch.no_grad()
    def freeze(self, batch: Batch, ablated: Writes, *, logits: bool = True) -> Frozen:
        """Put together what a masked run on `batch` needs from the ablated writes; `logits` cost a run of the model."""
        embeddings = self._embedded(batch.clean)
        return Frozen(
            self._plain_logits(embeddings, batch.rows) if logits else embeddings.new_empty(len(batch.rows), 0),
            embeddings - ablated.embeddings, ablated.embeddings.sum(0), ablated.heads, ablated.mlps,
            self._sums_of_heads(ablated.heads),
        )

    @_in_its_arithmetic
    @torch.no_grad()
    def plain_run(self, inputs: Tensor) -> Writes:
        """What every writer writes when the model runs as it is on token ids [b, p] (or images)."""
        embeddings = self._embedded(inputs)
        contexts, x = self.contexts(embeddings.shape[2]), embeddings.sum(0)
        heads, mlps = [], []
        for layer in range(len(self.devices)):
            x, of_heads, of_mlp = self._plain_layer(layer, x, contexts)
            heads.append(of_heads)
            mlps.append(of_mlp)
        return Writes(embeddings, *(torch.stack([one.to(self.home) for one in each]) for each in (heads, mlps)))

    def _plain_logits(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """The model's logits at some rows of the flattened positions, from its embeddings [w, b, p, d]."""
        contexts, x = self.contexts(embeddings.shape[2]), embeddings.sum(0)
        for layer in range(len(self.devices)):
            x, *_ = self._plain_layer(layer, x, contexts)
        return self.unembed(x.flatten(0, 1)[rows.to(x.device)])

    def _plain_layer(
        self, layer: int, x: Tensor, contexts: dict[torch.device, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The stream after a layer [b, p, d], what its heads wrote and what its MLP wrote."""
        device = self.devices[layer]
        x = x.to(device)
        heads = self._plain_heads(layer, x, contexts[device])
        after = x + self._sum_of_heads(layer, heads)
        mlp = self._plain_mlp(layer, x if self.graph.shape.parallel else after)
        return after + mlp, heads, mlp

    def no_writes(self, batch: Batch) -> Writes:
        """As many zeros as a run on `batch` writes."""
        shape, at = self.graph.shape, (batch.size, batch.width)
        sizes = (
            (self.graph.n_embeddings, *at, self.adapter.d_model),
            (shape.layers, shape.heads, *at, self.head_size),
            (shape.layers, *at, self.adapter.d_model),
        )
        return Writes(*(torch.zeros(size, dtype=self.dtype, device=self.adapter.device) for size in sizes))

    @_in_its_arithmetic
    def _embedded(self, inputs: Tensor) -> Tensor:
        return self._into_stream(self.adapter.embed(inputs, split=self.graph.embeddings == "split"))

    def _sums_of_heads(self, heads: Tensor) -> Tensor:
        """What each layer's heads [layer, h, b, p, *] add to the stream together, [layer, b, p, d]."""
        sums = (
            self._sum_of_heads(layer, written.to(device)).to(self.home)
            for layer, (written, device) in enumerate(zip(heads, self.devices, strict=True))
        )
        return torch.stack(list(sums))

    def _plain_heads(self, layer: int, x: Tensor, context: Any) -> Tensor:
        q, k, v = (x.expand(count, *x.shape) for count in self._qkv)
        return self.adapter.attend(layer, q, k, v, context)

    def _plain_mlp(self, layer: int, x: Tensor) -> Tensor:
        return self.adapter.feed_forward(layer, x[None])[0]

    def _sum_of_heads(self, layer: int, heads: Tensor) -> Tensor:
        """What a layer's heads add to the stream together, with the output bias that belongs to none of them."""
        bias = self.adapter.out_bias(layer)
        return heads.sum(0) if bias is None else heads.sum(0) + bias

    def _into_stream(self, x: Tensor) -> Tensor:
        """How a write is kept in the stream's buffers."""
        return x


def _on(device: torch.device, context: Any) -> Any:
    """An adapter's context, whose tensors may stand in tuples and dictionaries, on a device."""
    if isinstance(context, Tensor):
        return context.to(device)
    if isinstance(context, dict):
        return {name: _on(device, value) for name, value in context.items()}
    return tuple(_on(device, value) for value in context) if isinstance(context, tuple) else context
