"""Fold a norm and the linear map behind it into one step, so that the normalised read is never formed.

The norm's gain and bias are folded into the map (W', b'), and so is the square root of d. LayerNorm's mean is
subtracted when the stream is written, so a read is only divided by its size:

    size = sqrt(|x|^2 + d eps)          q = x W' / size + b'          W' = sqrt(d) gain W

Backward, with g the gradient of q, the norm costs one inner product per row:

    dL/dx = (g / size) W'^T - x <g, q - b'> / size^2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from edge_pruning.models.parts import Linear, Norm


@dataclass(frozen=True)
class Map:
    """A linear map of the stream without a norm: q = x @ weight + bias; weight [r, d, e], bias [r, 1, e] or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """q [r, token, e] of reads x [r, token, d], or of one read [1, token, d]."""
        q = torch.matmul(x, self.weight)
        return q if self.bias is None else q.add_(self.bias), None

    def gradient(self, x: Tensor, q: Tensor, size: Tensor | None, g: Tensor, *, out: Tensor) -> Tensor:
        """Write dL/dx [r, token, d], computed from g = dL/dq, into `out`, which may be x."""
        return torch.bmm(g, self.weight.mT, out=out)

    def rows(self, which: Tensor) -> Self:
        """The maps of a subset of the readers."""
        return replace(self, weight=self.weight[which], bias=None if self.bias is None else self.bias[which])


@dataclass(frozen=True)
class Folded(Map):
    """A norm and the linear map behind it: q = (x @ weight) / size(x) + bias."""

    least: Tensor  # sqrt(d eps), the smallest size; one number, on the device of the weight

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """q [r, token, e] and size [r or 1, token, 1] of reads x [r, token, d], or of one read [1, token, d]."""
        size = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.least)
        q = torch.matmul(x, self.weight)
        return q.div_(size) if self.bias is None else torch.addcdiv(self.bias, q, size), size

    def gradient(self, x: Tensor, q: Tensor, size: Tensor | None, g: Tensor, *, out: Tensor) -> Tensor:
        assert size is not None
        scaled = g / size
        products = q * scaled if self.bias is None else (q - self.bias).mul_(scaled)
        along_x = products.sum(-1, keepdim=True).div_(size)  # <g, q - b'> / size^2
        return torch.mul(x, along_x, out=out).baddbmm_(scaled, self.weight.mT, beta=-1)


def folded(norm: Norm | None, linears: Sequence[Linear], dim: int, dtype: torch.dtype) -> Map:
    """Fold a norm into the linear maps behind it, concatenated along `dim` of their weights [r, d, e]."""
    d = linears[0].weight.shape[1]
    weight = _joined(linears, dim, None if norm is None else _scale(norm, d, linears[0].weight), dtype)
    bias = None
    if any(linear.bias is not None for linear in linears) or (norm is not None and norm.bias is not None):
        bias = torch.cat([_bias_behind(norm, linear, dtype) for linear in linears], dim if dim == 0 else -1)[:, None]
    if norm is None:
        return Map(weight, bias)
    precise = torch.promote_types(dtype, torch.float32)
    return Folded(weight, bias, torch.full((), math.sqrt(d * norm.eps), dtype=precise, device=weight.device))


def _scale(norm: Norm, d: int, like: Tensor) -> Tensor:
    """sqrt(d) gain, [d or 1], at least in float32."""
    gain = like.new_ones(1) if norm.gain is None else norm.gain
    return at_least_float32(gain) * math.sqrt(d)


def at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < 4 else x


def _joined(linears: Sequence[Linear], dim: int, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Concatenate weights [r, d, e] along `dim` and multiply by a scale [d or 1]; one pass, in memory order."""
    by_columns = linears[0].weight.stride(-1) != 1  # as in nn.Linear, whose weight is [e, d]
    weights = [linear.weight.mT if by_columns else linear.weight for linear in linears]
    along = {0: 0, 2: 1 if by_columns else 2}[dim]
    sizes = [weight.shape[along] for weight in weights]
    shape = [*weights[0].shape]
    shape[along] = sum(sizes)
    joined = torch.empty(shape, dtype=dtype, device=weights[0].device)
    factor = scale if by_columns or scale is None else scale[:, None]
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
