"""Softmax attention, the part of a head between its maps in and out. Tensors have heads first, [h, b, p, e].

    scores = scale * q k^T + bias          bias: ALiBi's penalty on distance, [h, 1, 1, p]
    scores = cap * tanh(scores / cap)      Gemma's soft cap
    weights = softmax(scores)              over the last `window` positions up to this one (or over all positions)
    weights = softmax([scores, sink])      sink: a learned logit per head without a value, [h]

Keys and values may have fewer heads than queries: each then serves a group of neighbouring query heads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SHORT = 128  # tokens: see `_written_out`


def causal_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, window: int | None = None, bias: Tensor | None = None
) -> Tensor:
    """Attention of every position to itself and earlier ones.

    window: how many positions a head sees, itself included; None: all earlier ones.
    bias: added to the scores, [h, 1, 1, p].
    """
    width = q.shape[-2]
    if bias is None and _written_out(q):
        return _in_float32(q, k, v, scale, window=window)
    k, v = for_every_query(k, q), for_every_query(v, q)
    if bias is None and (window is None or window >= width):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    mask = visible(width, window, q.device)
    if bias is not None:
        mask = bias.to(q.dtype).masked_fill(~mask, -torch.inf)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def full_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attention of every position to all positions."""
    if _written_out(q):
        return _in_float32(q, k, v, scale, causal=False)
    return functional.scaled_dot_product_attention(q, for_every_query(k, q), for_every_query(v, q), scale=scale)


def explicit_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool = True, window: int | None = None,
    cap: float | None = None, sink: Tensor | None = None,
) -> Tensor:
    """Attention written out, for what torch's fused kernel does not have: a soft cap on the scores, or a sink.

    causal: whether a position sees only itself and earlier ones. window: then, how many; None: all of them.
    """
    k, v = for_every_query(k, q), for_every_query(v, q)
    scores = scale * (q @ k.mT)
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    if causal:
        scores = scores.masked_fill(~visible(q.shape[-2], window, q.device), -torch.inf)
    if sink is not None:
        scores = torch.cat([scores, sink[:, None, None, None].expand(*scores.shape[:-1], 1)], -1)
    weights = scores.softmax(-1)
    return weights[..., : k.shape[-2]] @ v


def _written_out(q: Tensor) -> bool:
    """Whether attention takes less time written out than in torch's fused kernel: short sequences in half precision on
    a CPU, where the kernel calls a library for every head and sequence. Backward, that takes 8 times as long for 18
    tokens, and as long for 400; but the kernel keeps no weights [h, b, p, p].
    """
    return q.device.type == "cpu" and q.dtype.itemsize < 4 and q.shape[-2] <= SHORT


def _in_float32(q: Tensor, k: Tensor, v: Tensor, scale: float, **options: Any) -> Tensor:
    """Attention written out, with scores in float32 as in the fused kernel."""
    return explicit_attention(q.float(), k.float(), v.float(), scale, **options).to(q.dtype)


def for_every_query(x: Tensor, q: Tensor) -> Tensor:
    """Repeat the keys or values of key-value heads, once per query head."""
    groups = q.shape[0] // x.shape[0]
    return x if groups == 1 else x.repeat_interleave(groups, 0)


@cache
def visible(width: int, window: int | None, device: torch.device) -> Tensor:
    """True where a query position (row) sees a key position (column)."""
    seen = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    return seen if window is None else seen.triu(1 - window)
