"""Rotary positions: pairs of a query's or key's numbers are turned by an angle that grows with the position.

    (x_i, x_j) -> (x_i cos - x_j sin, x_j cos + x_i sin)

Llama pairs a number with the one half a head further, GPT-J with its neighbour. Tables [1, p, n] come from the Hugging
Face model; if they are narrower than a head, the rest of it is passed on as it is (partial rotary).
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x [h, b, p, e], pairing number i with number i + n / 2."""
    turning, rest = _split(x, cos)
    first, second = turning.chunk(2, -1)
    return _joined(turning * cos + torch.cat([-second, first], -1) * sin, rest)


def rotate_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x [h, b, p, e], pairing numbers 2i and 2i + 1."""
    turning, rest = _split(x, cos)
    even, odd = turning[..., ::2], turning[..., 1::2]
    return _joined(turning * cos + torch.stack([-odd, even], -1).flatten(-2) * sin, rest)


def _split(x: Tensor, cos: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]


def _joined(turned: Tensor, rest: Tensor) -> Tensor:
    """In the head's own dtype: some families keep their tables in float32."""
    turned = turned.to(rest.dtype)
    return torch.cat([turned, rest], -1) if rest.shape[-1] else turned
