"""Adapters in parts, for families whose readers are a norm and a linear map.

    attention(layer)         the norm and the linear maps around a layer's heads
    mix(layer, q, k, v)      what the heads do between those maps: rotary positions, softmax  [h, b, p, e]
    mlp(layer)               the norm, the linear map in, and the rest of the MLP

The methods `attend` and `feed_forward` follow from these, and `fused.FusedPass` makes one step of norm and map. A norm
may be missing (None); so may the parts of an MLP that is no linear map and the rest (experts): `feed_forward` is then
said by the family itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_pruning.models.adapter import Adapter


@dataclass(frozen=True)
class Norm:
    """A norm in front of a reader: the module itself, and the numbers that define it (no gain: 1; no bias: 0).

    `y = (x - mean) * rstd * gain + bias` if `centred` (LayerNorm), without the mean if not (RMSNorm).
    """

    module: nn.Module
    gain: Tensor | None
    bias: Tensor | None
    eps: float
    centred: bool


@dataclass(frozen=True)
class Linear:
    """`y = x @ weight + bias` for several heads at once: weight [h, d, e], bias [h, e] or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        y = torch.einsum("hbpd,hde->hbpe", x, self.weight)
        return y if self.bias is None else y + self.bias[:, None, None]


@dataclass(frozen=True)
class Attention:
    """A layer's heads: norm, linear maps to queries, keys and values, and out [h, e, d] back into the stream.

    The output bias [d] belongs to no head; it stays in the base sum of the masked pass.
    """

    norm: Norm | None
    q: Linear
    k: Linear
    v: Linear
    out: Tensor
    out_bias: Tensor | None


@dataclass(frozen=True)
class Mlp:
    """A layer's MLP: norm, linear maps [1, d, f] into the hidden units, `finish` from their pre-activations to [d].

    `finish` takes the outputs of all maps side by side.
    """

    norm: Norm | None
    inward: tuple[Linear, ...]
    finish: Callable[[Tensor], Tensor]


class PartsAdapter(Adapter):
    """One model family, seen in parts.

    `heads_apart`: `mix` computes each head independently and in the same way, so it also takes some of a layer's heads.
    """

    @property
    def heads_apart(self) -> bool:
        return True

    def layer_device(self, layer: int) -> torch.device:
        return self.attention(layer).out.device if self.shards is None else self.shards.device

    @abstractmethod
    def attention(self, layer: int) -> Attention: ...

    @abstractmethod
    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        """Heads' outputs before their output map: q [h, b, p, e], k and v [kv head or h, b, p, e] -> [h, b, p, e]."""

    @abstractmethod
    def mlp(self, layer: int) -> Mlp | None: ...

    def project(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reads of the heads [h or kv head, b, p, d], before the norm, to queries, keys and values [.., b, p, e]."""
        parts = self.attention(layer)
        maps = (parts.q, expanded(parts.k, k.shape[0]), expanded(parts.v, v.shape[0]))
        q, k, v = (linear(normalised(parts.norm, x)) for linear, x in zip(maps, (q, k, v), strict=True))
        return q, k, v

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        mixed = self.mix(layer, *self.project(layer, q, k, v), context)
        return torch.einsum("hbpe,hed->hbpd", mixed, self.attention(layer).out)

    def out_bias(self, layer: int) -> Tensor | None:
        return self.attention(layer).out_bias

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        parts = self.mlp(layer)
        assert parts is not None, "an MLP without parts has a verb of its own"
        read = normalised(parts.norm, x)
        return parts.finish(torch.cat([linear(read) for linear in parts.inward], -1))


def normalised(norm: Norm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm.module(x)


def expanded(linear: Linear, heads: int) -> Linear:
    """The same maps for `heads` readers: a key-value head's map, once per query head that shares it."""
    times = heads // linear.weight.shape[0]
    if times == 1:
        return linear
    bias = None if linear.bias is None else linear.bias.repeat_interleave(times, 0)
    return Linear(linear.weight.repeat_interleave(times, 0), bias)


def lean(act: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`gelu_new` written out as a formula keeps nine tensors for the backward pass; built in it keeps one."""
    from transformers.activations import NewGELUActivation  # takes seconds to import, and models have it already

    return (lambda x: functional.gelu(x, approximate="tanh")) if isinstance(act, NewGELUActivation) else act
