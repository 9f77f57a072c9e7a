"""What heads do between their maps in and out: softmax attention, on heads first [h, b, p, e]."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Softmax attention of every position to itself and those before; [h, b, p, e], k and v maybe with fewer heads."""
    groups = q.shape[0] // k.shape[0]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
