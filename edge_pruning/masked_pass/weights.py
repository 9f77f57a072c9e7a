"""A model's weights as the fused pass uses them: folded once and kept, or folded layer by layer in each pass.

Folded maps are copies of most of a model's weights. If memory is plentiful, they are folded once and kept. Otherwise a
layer's maps are folded when the pass reaches the layer, and again in the backward pass, which reads the weights twice.
Both give the same bits. Maps that need no folding are views of the model's own weights.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from edge_pruning.masked_pass.arithmetic import arithmetic
from edge_pruning.masked_pass.folding import Map, at_least_float32, folded
from edge_pruning.masked_pass.memory import total_and_free
from edge_pruning.models.parts import PartsAdapter, expanded

T = TypeVar("T")
KEEP_SHARE = 8  # maps are kept if they take at most one part in so many of the free memory


class Weights:
    """The maps of every layer in a dtype, for a number of key (and value) readers per layer.

    keep: whether folded maps are kept; None decides by the free memory when the first map is used.
    """

    def __init__(self, adapter: PartsAdapter, kv_readers: int, dtype: torch.dtype, keep: bool | None = None) -> None:
        self.adapter, self.kv_readers, self.dtype, self.keep = adapter, kv_readers, dtype, keep
        if adapter.shards is not None:
            self.keep = False  # or this rank would soon hold all weights
        norm = adapter.attention(0).norm
        self.centred = norm is not None and norm.centred
        self.upcast = dtype != adapter.dtype
        self._kept: dict[Hashable, Any] = {}

    def heads_in(self, layer: int) -> Map:
        """The maps to a layer's queries, keys and values, stacked in the order of the readers."""
        return self._found(("in", layer), lambda: self._fold_heads(layer))

    def heads_out(self, layer: int) -> Tensor:
        """The heads' maps back into the stream, [h, e, d]."""
        out = self.adapter.attention(layer).out if not (self.centred or self.upcast) else None
        return self._found(("out", layer), lambda: self._fold_out(layer)) if out is None else out

    def out_bias(self, layer: int) -> Tensor | None:
        """The bias of a layer's output map, which belongs to no head, [d]."""
        with torch.no_grad(), arithmetic(self.upcast):
            bias = self.adapter.attention(layer).out_bias
            return None if bias is None else self.into_stream(bias.to(self.dtype))

    def mlp_in(self, layer: int) -> Map:
        """The map into a layer's hidden units."""
        return self._found(("mlp", layer), lambda: self._fold_mlp(layer))

    def into_stream(self, x: Tensor) -> Tensor:
        """Centre a write for LayerNorm, which subtracts the mean at every read anyway."""
        if not self.centred:
            return x
        precise = at_least_float32(x)
        return (precise - precise.mean(-1, keepdim=True)).to(x.dtype)

    def release(self) -> None:
        """Free the kept maps; they are folded again when they are next used."""
        self._kept.clear()

    @property
    def bytes(self) -> int:
        """Bytes of the kept maps."""
        return sum(part.nbytes for kept in self._kept.values() for part in _tensors(kept))

    # --- folding ---------------------------------------------------------------------------------------------------

    def _found(self, key: Hashable, fold: Callable[[], T]) -> T:
        if key in self._kept:
            return cast(T, self._kept[key])
        with torch.no_grad(), arithmetic(self.upcast):
            made = fold()
        if self.keep is None:
            self.keep = self._fits(made)
        if self.keep:
            self._kept[key] = made
        return made

    def _fits(self, first: object) -> bool:
        """Whether there is memory for the maps of all layers, estimated from the first map and the MLP's weights."""
        parts = self.adapter.mlp(0)
        of_mlp = 0 if parts is None else sum(linear.weight.numel() for linear in parts.inward) * self.dtype.itemsize
        per_layer = sum(part.nbytes for part in _tensors(first)) + of_mlp
        device = self.adapter.layer_device(0)
        return self.adapter.shape.layers * per_layer <= total_and_free(device)[1] // KEEP_SHARE

    def _fold_heads(self, layer: int) -> Map:
        parts, kv = self.adapter.attention(layer), self.kv_readers
        return folded(parts.norm, (parts.q, expanded(parts.k, kv), expanded(parts.v, kv)), 0, self.dtype)

    def _fold_out(self, layer: int) -> Tensor:
        return self.into_stream(self.adapter.attention(layer).out.to(self.dtype))

    def _fold_mlp(self, layer: int) -> Map:
        parts = self.adapter.mlp(layer)
        assert parts is not None
        return folded(parts.norm, parts.inward, 2, self.dtype)


def _tensors(kept: object) -> tuple[Tensor, ...]:
    parts = (kept.weight, kept.bias) if isinstance(kept, Map) else (kept,)
    return tuple(part for part in parts if isinstance(part, Tensor))
