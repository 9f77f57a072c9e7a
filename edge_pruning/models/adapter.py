"""What the masked pass needs to know about a model family: one small adapter per family, on untouched modules.

An adapter answers five questions about a Hugging Face model, with its own weights and modules:

    embed(tokens)            what the embeddings write                              [writer, b, p, d]
    attention(layer)         the norm and the linear maps around a layer's heads
    mix(layer, q, k, v)      what the heads do between those maps: rotary, softmax  [h, b, p, e]
    mlp(layer)               the norm, the linear map in, and the rest of the MLP
    unembed(x)               logits from the final residual stream

The verbs `attend` and `feed_forward` follow from these. Parameters of masks never live in a Hugging Face module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_pruning.graph import ModelShape


@dataclass(frozen=True)
class Norm:
    """A norm in front of a reader: the module itself, and the numbers that define it.

    `y = (x - mean) * rstd * gain + bias` if `centred` (LayerNorm), without the mean if not (RMSNorm).
    """

    module: nn.Module
    gain: Tensor
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

    norm: Norm
    q: Linear
    k: Linear
    v: Linear
    out: Tensor
    out_bias: Tensor | None


@dataclass(frozen=True)
class Mlp:
    """A layer's MLP: norm, linear map [1, d, f] into the hidden units, `finish` from their pre-activations to [d]."""

    norm: Norm
    inward: Linear
    finish: Callable[[Tensor], Tensor]


class Adapter(ABC):
    """One model family, seen through the five questions. `hf` stays as it was and works as before afterwards."""

    model_type: ClassVar[str]

    def __init__(self, hf: Any) -> None:
        self.hf = hf
        self.config = hf.config

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        """Why a model with this configuration cannot be run exactly, or None."""
        return None

    @property
    @abstractmethod
    def shape(self) -> ModelShape: ...

    @property
    def d_model(self) -> int:
        return int(self.config.hidden_size)

    @property
    def max_length(self) -> int:
        """The longest text in tokens."""
        return int(self.config.max_position_embeddings)

    @property
    def vocabulary(self) -> int:
        return int(self.config.vocab_size)

    @property
    def device(self) -> torch.device:
        return next(self.hf.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.hf.parameters()).dtype

    @abstractmethod
    def embed(self, tokens: Tensor, *, split: bool) -> Tensor:
        """What the embedding writers write: [1, b, p, d], or with `split` tokens and positions apart [2, b, p, d]."""

    def context(self, width: int) -> Any:
        """What attention needs to know about `width` positions (rotary tables, say); the same for every layer."""
        return None

    @abstractmethod
    def attention(self, layer: int) -> Attention: ...

    @abstractmethod
    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        """Heads' outputs before their output map: q [h, b, p, e], k and v [kv head or h, b, p, e] -> [h, b, p, e]."""

    @abstractmethod
    def mlp(self, layer: int) -> Mlp: ...

    @abstractmethod
    def unembed(self, x: Tensor) -> Tensor:
        """Logits [n, vocab] from the final residual stream [n, d], before its norm."""

    def project(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reads of the heads [h or kv head, b, p, d], before the norm, to queries, keys and values [.., b, p, e]."""
        parts, norm = self.attention(layer), self.attention(layer).norm.module
        return parts.q(norm(q)), expanded(parts.k, k.shape[0])(norm(k)), expanded(parts.v, v.shape[0])(norm(v))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        """One write per head [h, b, p, d] from the heads' reads [h or kv head, b, p, d]."""
        mixed = self.mix(layer, *self.project(layer, q, k, v), context)
        return torch.einsum("hbpe,hed->hbpd", mixed, self.attention(layer).out)

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        """The MLP's write [1, b, p, d] from its read [1, b, p, d]."""
        parts = self.mlp(layer)
        return parts.finish(parts.inward(parts.norm.module(x)))


def expanded(linear: Linear, heads: int) -> Linear:
    """The same maps for `heads` readers: a key-value head's map, once per query head that shares it."""
    times = heads // linear.weight.shape[0]
    if times == 1:
        return linear
    bias = None if linear.bias is None else linear.bias.repeat_interleave(times, 0)
    return Linear(linear.weight.repeat_interleave(times, 0), bias)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Softmax attention of every position to itself and those before; [h, b, p, e], k and v maybe with fewer heads."""
    groups = q.shape[0] // k.shape[0]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
