"""Run the unmodified model sublayer by sublayer, and collect what a masked run needs from it.

Values that do not depend on a mask (`Frozen`: the clean logits, the ablated writes and their sums) are computed here,
once per example instead of once per step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.devices import OnDevices, in_its_arithmetic
from edge_pruning.models.adapter import Adapter


@dataclass(frozen=True)
class Writes:
    """The outputs of all writers in one run: embeddings [w, b, p, d], heads [layer, h, b, p, *], MLPs [layer, b, p, d].

    The last axis of `heads` is d, or e in the fused pass: there it is the head's output before its output map.
    """

    embeddings: Tensor
    heads: Tensor
    mlps: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The tensors, each [..., b, p, *]."""
        return self.embeddings, self.heads, self.mlps


@dataclass(frozen=True)
class Frozen:
    """The values of a batch that do not depend on the mask.

    logits: of the clean model [n, vocab], or [n, 0] if they were not requested.
    embedding_difference: clean minus ablated embeddings [w, b, p, d].
    embeddings: sum of the ablated embeddings [b, p, d].
    heads, mlps: ablated writes as in `Writes`.
    attention: the sum of a layer's ablated heads and the output bias [layer, b, p, d].
    """

    logits: Tensor
    embedding_difference: Tensor
    embeddings: Tensor
    heads: Tensor
    mlps: Tensor
    attention: Tensor

    def bases(self, *, parallel: bool) -> Iterator[Tensor]:
        """Yield the sums of the ablated writes [b, p, d] before each sublayer (attention, MLP) and before `logits`.

        They are running sums, computed during a pass instead of being kept.
        """
        before = self.embeddings
        for attention, mlp in zip(self.attention, self.mlps, strict=True):
            after = before + attention
            yield before
            yield before if parallel else after
            before = after + mlp
        yield before

    def final_base(self, positions: Tensor) -> Tensor:
        """The sum of the ablated writes before `logits` at some of the flattened positions, [n, d]."""
        embeddings, *sums = (x.flatten(-3, -2)[..., positions, :] for x in (self.embeddings, self.attention, self.mlps))
        return torch.cat([embeddings[None], *sums]).sum(0)


PER_POSITION = tuple(field.name for field in fields(Frozen) if field.name != "logits")  # all of them [..., b, p, *]


class UnmaskedPass(OnDevices):
    """Runs of the model without a mask, using only the five methods that every adapter has."""

    def __init__(self, adapter: Adapter, graph: Graph | None = None) -> None:
        super().__init__(adapter, graph)
        self._qkv = [self.graph.shape.heads, self.graph.kv_readers, self.graph.kv_readers]

    @property
    def head_size(self) -> int:
        """The last axis of a head's stored write: d, or e before the output map."""
        return self.adapter.d_model

    @in_its_arithmetic
    @torch.no_grad()
    def freeze(self, batch: Batch, ablated: Writes, *, logits: bool = True) -> Frozen:
        """Compute the frozen values of `batch` from its ablated writes; `logits` takes one more run of the model."""
        embeddings = self._embedded(batch.clean)
        return Frozen(
            self._unmasked_logits(embeddings, batch.positions) if logits
            else embeddings.new_empty(len(batch.positions), 0),
            embeddings - ablated.embeddings, ablated.embeddings.sum(0), ablated.heads, ablated.mlps,
            self._sums_of_heads(ablated.heads),
        )

    @in_its_arithmetic
    @torch.no_grad()
    def unmasked_run(self, inputs: Tensor) -> Writes:
        """Outputs of all writers when the unmodified model runs on token ids [b, p] (or images)."""
        embeddings = self._embedded(inputs)
        contexts, x = self.contexts(embeddings.shape[2]), embeddings.sum(0)
        heads, mlps = [], []
        for layer in range(len(self.devices)):
            x, of_heads, of_mlp = self._unmasked_layer(layer, x, contexts)
            heads.append(of_heads)
            mlps.append(of_mlp)
        return Writes(embeddings, *(torch.stack([one.to(self.home) for one in each]) for each in (heads, mlps)))

    @in_its_arithmetic
    @torch.no_grad()
    def own_logits(self, batch: Batch) -> Tensor:
        """The model's logits at the compared positions of its clean prompts, [n, vocab]."""
        return self._unmasked_logits(self._embedded(batch.clean), batch.positions)

    def _unmasked_logits(self, embeddings: Tensor, positions: Tensor) -> Tensor:
        """The model's logits at some of the flattened positions, from its embeddings [w, b, p, d]."""
        contexts, x = self.contexts(embeddings.shape[2]), embeddings.sum(0)
        for layer in range(len(self.devices)):
            x, *_ = self._unmasked_layer(layer, x, contexts)
        return self.unembed(x.flatten(0, 1)[positions.to(x.device)])

    def _unmasked_layer(
        self, layer: int, x: Tensor, contexts: dict[torch.device, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run one layer: the stream after it [b, p, d], its heads' writes and its MLP's write."""
        device = self.devices[layer]
        x = x.to(device)
        with self._weights_of(layer):
            heads = self._unmasked_heads(layer, x, contexts[device])
            after = x + self._sum_of_heads(layer, heads)
            mlp = self._unmasked_mlp(layer, x if self.graph.shape.parallel else after)
        return after + mlp, heads, mlp

    def _weights_of(self, layer: int) -> AbstractContextManager[None]:
        """A context with a layer's weights, in which those of the next layer are fetched if they are elsewhere."""
        return self.adapter.weights_of(layer, layer + 1 if layer + 1 < self.graph.shape.layers else None)

    def no_writes(self, batch: Batch) -> Writes:
        """Zeros in the shape of the writes of a run on `batch`."""
        shape, at = self.graph.shape, (batch.sequences, batch.width)
        sizes = (
            (self.graph.n_embeddings, *at, self.adapter.d_model),
            (shape.layers, shape.heads, *at, self.head_size),
            (shape.layers, *at, self.adapter.d_model),
        )
        return Writes(*(torch.zeros(size, dtype=self.dtype, device=self.adapter.device) for size in sizes))

    @in_its_arithmetic
    def _embedded(self, inputs: Tensor) -> Tensor:
        with self.adapter.weights_of(self.graph.shape.layers, ahead=0):
            return self._into_stream(self.adapter.embed(inputs, split=self.graph.embeddings == "split"))

    def _sums_of_heads(self, heads: Tensor) -> Tensor:
        """Sum each layer's heads [layer, h, b, p, *] and the output bias in the stream, [layer, b, p, d]."""
        sums = []
        for layer, (written, device) in enumerate(zip(heads, self.devices, strict=True)):
            with self._weights_of(layer):
                sums.append(self._sum_of_heads(layer, written.to(device)).to(self.home))
        return torch.stack(sums)

    def _unmasked_heads(self, layer: int, x: Tensor, context: Any) -> Tensor:
        q, k, v = (x.expand(count, *x.shape) for count in self._qkv)
        return self.adapter.attend(layer, q, k, v, context)

    def _unmasked_mlp(self, layer: int, x: Tensor) -> Tensor:
        return self.adapter.feed_forward(layer, x[None])[0]

    def _sum_of_heads(self, layer: int, heads: Tensor) -> Tensor:
        """Sum one layer's heads in the stream, and add the output bias, which belongs to no head."""
        bias = self.adapter.out_bias(layer)
        return heads.sum(0) if bias is None else heads.sum(0) + bias

    def _into_stream(self, x: Tensor) -> Tensor:
        """Transform a write for the stream's buffers."""
        return x
