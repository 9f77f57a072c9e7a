"""Post-norms: a sublayer's output is normalised before it is added to the stream.

    x += gain * a / |a|_rms,     a = sum_h o_h W_O,h

The norm acts on the sum of all heads, yet every head has its own edges. This is still exact: head h writes
`gain * s * o_h W_O,h` with the scale `s = 1 / |a|_rms` that all heads of the layer share, and the writes add up to the
sublayer's output. The scale is that of the current run, so a head's write depends a little on the other heads of its
layer: cutting an edge into one of them rescales all, as it would in the model. So even a dangling edge can matter here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.parts import Norm


class PostNormDecoder(Decoder):
    """A decoder whose sublayers' outputs are normalised before they are added to the stream."""

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        if config.attention_bias:
            return "the bias of its heads' output map goes through a norm, so it belongs to no head and is no constant"
        return super().refusal(config)

    @property
    def heads_apart(self) -> bool:
        return False

    def post_attention_norm(self, layer: int) -> Norm:
        return self.norm(self.block(layer).post_attention_layernorm)

    def post_mlp_norm(self, layer: int) -> nn.Module:
        return self.block(layer).post_feedforward_layernorm

    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        mixed = super().mix(layer, q, k, v, context)
        total = torch.einsum("hbpe,hed->bpd", mixed, super().out(layer))
        return mixed * _rstd(total, self.post_attention_norm(layer).eps)

    def out(self, layer: int) -> Tensor:
        gain = self.post_attention_norm(layer).gain
        return super().out(layer) if gain is None else super().out(layer) * gain

    def after_mlp(self, layer: int, down: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: self.post_mlp_norm(layer)(down(x))


def _rstd(x: Tensor, eps: float) -> Tensor:
    """The reciprocal root mean square over the last axis [..., 1]; half precision is squared in float32."""
    x_float = x.float() if x.dtype.itemsize < 4 else x
    return (x_float.square().mean(-1, keepdim=True) + eps).rsqrt().to(x.dtype)
