"""Rotary positions: pairs of a query's or key's numbers are rotated by an angle that grows with the position.

    (x_i, x_j) -> (x_i cos - x_j sin, x_j cos + x_i sin)

Llama pairs a number with the one half a head further on, GPT-J with its neighbour. Tables [1, p, n] come from the
Hugging Face model. If n is smaller than a head, the rest of the head is not rotated (partial rotary).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [h, b, p, e], pairing number i with number i + n / 2."""
    middle, n = cos.shape[-1] // 2, cos.shape[-1]
    return _Turn.apply(x, cos, sin, slice(middle), slice(middle, n))


def rotate_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [h, b, p, e], pairing numbers 2i and 2i + 1."""
    n = cos.shape[-1]
    return _Turn.apply(x, cos, sin, slice(0, n, 2), slice(1, n, 2))


class _Turn(Function):
    """Rotate the pairs (x[i], x[j]) for i and j in two slices; the backward pass rotates the gradient back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, i: slice, j: slice) -> Tensor:
        ctx.tables, ctx.i, ctx.j = (cos, sin), i, j
        turned = x[..., : cos.shape[-1]] * cos
        turned[..., i].addcmul_(x[..., j], sin[..., i], value=-1)
        turned[..., j].addcmul_(x[..., i], sin[..., j])
        return _whole(turned, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        g, (cos, sin), i, j = gradients[0], ctx.tables, ctx.i, ctx.j
        back = g[..., : cos.shape[-1]] * cos
        back[..., i].addcmul_(g[..., j], sin[..., j])
        back[..., j].addcmul_(g[..., i], sin[..., i], value=-1)
        return _whole(back, g), None, None, None, None


def _whole(turned: Tensor, x: Tensor) -> Tensor:
    """Append the rest of x. The result has x's dtype, because some families keep their tables in float32."""
    rest = x[..., turned.shape[-1] :]
    turned = turned.to(x.dtype)
    return torch.cat([turned, rest], -1) if rest.shape[-1] else turned
