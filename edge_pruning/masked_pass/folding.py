"""Fold a norm and the linear map behind it into one step, so that the normalised read is never formed.

The norm's gain and bias are folded into the map (W', b'). LayerNorm's mean is subtracted when the stream is written, so
a read needs only its reciprocal root mean square:

    rstd = (|x|^2 / d + eps)^(-1/2)          q = rstd * (x W') + b'

Backward, with g the gradient of q, the norm costs one inner product per row:

    dL/dx = rstd * g W'^T - x * rstd^2 <g, q - b'> / d
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from edge_pruning.models.parts import Linear, Norm


@dataclass(frozen=True)
class Map:
    """A linear map of the stream without a norm: q = x @ weight + bias; weight [r, d, e], bias [r, 1, e]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """q [r, token, e] of reads x [r, token, d], or of one read [1, token, d]."""
        return torch.matmul(x, self.weight) + self.bias, None

    def gradient(self, x: Tensor, q: Tensor, rstd: Tensor | None, g: Tensor, *, out: Tensor) -> Tensor:
        """Write dL/dx [r, token, d], computed from g = dL/dq, into `out`, which may be x."""
        return torch.bmm(g, self.weight.mT, out=out)

    def rows(self, which: Tensor) -> Self:
        """The maps of a subset of the readers."""
        return replace(self, weight=self.weight[which], bias=self.bias[which])


@dataclass(frozen=True)
class Folded(Map):
    """A norm and the linear map behind it: q = rstd(x) * (x @ weight) + bias."""

    eps: Tensor  # one number, on the device of the weight

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """q [r, token, e] and rstd [r or 1, token, 1] of reads x [r, token, d], or of one read [1, token, d]."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # |x|
        rstd = torch.addcmul(self.eps, length, length, value=1 / x.shape[-1]).rsqrt_()
        return torch.addcmul(self.bias, torch.matmul(x, self.weight), rstd), rstd

    def gradient(self, x: Tensor, q: Tensor, rstd: Tensor | None, g: Tensor, *, out: Tensor) -> Tensor:
        assert rstd is not None
        scaled = g * rstd
        along_x = (q - self.bias).mul_(scaled).sum(-1, keepdim=True).mul_(rstd)  # rstd^2 <g, q - b'>
        out = torch.mul(x, along_x, out=out)
        return out.baddbmm_(scaled, self.weight.mT, beta=-1 / x.shape[-1])  # -1/d ... * x + rstd * g W'^T


def folded(norm: Norm | None, linears: Sequence[Linear], dim: int, dtype: torch.dtype) -> Map:
    """Fold a norm into the linear maps behind it, concatenated along `dim` of their weights [r, d, e].

    weight * gain is rounded once, so the result equals the float64 product rounded to `dtype`.
    """
    weight = _joined(linears, dim, None if norm is None else norm.gain, dtype)
    biases = [_bias_behind(norm, linear, dtype) for linear in linears]
    bias = torch.cat(biases, dim if dim == 0 else -1)[:, None]
    if norm is None:
        return Map(weight, bias)
    precise = torch.promote_types(dtype, torch.float32)
    return Folded(weight, bias, torch.full((), norm.eps, dtype=precise, device=weight.device))


def at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < 4 else x


def _joined(linears: Sequence[Linear], dim: int, gain: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Concatenate weights [r, d, e] along `dim` and multiply by the gain [d]; one pass, in memory order."""
    by_columns = linears[0].weight.stride(-1) != 1  # as in nn.Linear, whose weight is [e, d]
    weights = [linear.weight.mT if by_columns else linear.weight for linear in linears]
    along = {0: 0, 2: 1 if by_columns else 2}[dim]
    sizes = [weight.shape[along] for weight in weights]
    shape = [*weights[0].shape]
    shape[along] = sum(sizes)
    joined = torch.empty(shape, dtype=dtype, device=weights[0].device)
    factor = None if gain is None else at_least_float32(gain) if by_columns else at_least_float32(gain)[:, None]
    for weight, part in zip(weights, joined.split(sizes, along), strict=True):
        part.copy_(weight) if factor is None else torch.mul(weight, factor, out=part)
    return joined.mT if by_columns else joined


def _bias_behind(norm: Norm | None, linear: Linear, dtype: torch.dtype) -> Tensor:
    """b' = b + beta W, [r, e]; beta is the bias of the norm."""
    heads, d, e = linear.weight.shape
    bias = linear.weight.new_zeros(heads, e, dtype=dtype) if linear.bias is None else linear.bias.to(dtype)
    if norm is None or norm.bias is None:
        return bias
    beta, weight = at_least_float32(norm.bias), at_least_float32(linear.weight)
    return (bias + torch.einsum("d,rde->re", beta, weight)).to(dtype)
