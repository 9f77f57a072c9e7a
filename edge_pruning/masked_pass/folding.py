"""A norm and the linear map behind it as one step, so that the normalised read is never formed.

Gain and bias of the norm are folded into the map (W', b'). LayerNorm's mean is taken away where the stream is written,
so that a read needs only its reciprocal root mean square:

    rstd = (|x|^2 / d + eps)^(-1/2)          q = rstd * (x W') + b'

Backward, with g the gradient of q, the norm costs one inner product per row:

    dL/dx = rstd * g W'^T - x * rstd^2 <g, q - b'> / d
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from edge_pruning.models.parts import Linear, Norm


@dataclass(frozen=True)
class Map:
    """A linear map of the stream as it is: q = x @ weight + bias; weight [r, d, e], bias [r, 1, e]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """q [r, token, e] of reads x [r, token, d], or of one read [1, token, d]."""
        return torch.matmul(x, self.weight) + self.bias, None

    def gradient(self, x: Tensor, q: Tensor, rstd: Tensor | None, g: Tensor, *, out: Tensor) -> Tensor:
        """dL/dx [r, token, d] from g = dL/dq, into `out`, which may be x."""
        return torch.bmm(g, self.weight.mT, out=out)

    def rows(self, which: Tensor) -> Self:
        """Some of the readers."""
        return replace(self, weight=self.weight[which].contiguous(), bias=self.bias[which])


@dataclass(frozen=True)
class Folded(Map):
    """A norm and the linear map behind it: q = rstd(x) * (x @ weight) + bias."""

    eps: float

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """q [r, token, e] and rstd [r or 1, token, 1] of reads x [r, token, d], or of one read [1, token, d]."""
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        rstd = square.div_(x.shape[-1]).add_(self.eps).rsqrt_()
        return torch.addcmul(self.bias, torch.matmul(x, self.weight), rstd), rstd

    def gradient(self, x: Tensor, q: Tensor, rstd: Tensor | None, g: Tensor, *, out: Tensor) -> Tensor:
        assert rstd is not None
        inner = (g * (q - self.bias)).sum(-1, keepdim=True).mul_(rstd.square()).div_(x.shape[-1])
        return torch.mul(x, inner.neg_(), out=out).baddbmm_(g * rstd, self.weight.mT)


def folded(norm: Norm | None, linear: Linear) -> Map:
    """Folded in float64: once, and exact."""
    weight, bias, dtype = linear.weight.double(), bias_of(linear).double(), linear.weight.dtype
    if norm is not None and norm.bias is not None:
        bias = bias + norm.bias.double() @ weight
    if norm is not None and norm.gain is not None:
        weight = weight * norm.gain.double()[:, None]
    weight, bias = weight.to(dtype).contiguous(), bias[:, None].to(dtype)
    return Map(weight, bias) if norm is None else Folded(weight, bias, norm.eps)


def bias_of(linear: Linear) -> Tensor:
    """The bias [r, e], zeros if there is none."""
    heads, _, e = linear.weight.shape
    return linear.weight.new_zeros(heads, e) if linear.bias is None else linear.bias
