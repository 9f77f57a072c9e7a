"""Attention to some of the positions: keys and values are computed at these only, queries everywhere.

For models whose inputs always have the same positions, such as the patches of an image.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.models.vit.modeling_vit import ALL_ATTENTION_FUNCTIONS, eager_attention_forward


class FewerKeys(nn.Module):
    """A vision transformer's attention module with keys and values at some positions only. positions: indices [n]."""

    positions: Tensor

    def __init__(self, attention: Any, positions: Tensor) -> None:
        super().__init__()
        self.attention = attention
        self.register_buffer("positions", positions)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """[b, p, d] -> [b, p, d], and the attention map [b, h, p, n], or None where it is not computed."""
        inner, attended = self.attention, hidden_states.index_select(1, self.positions)
        q, k, v = (
            linear(x).unflatten(-1, (-1, inner.head_dim)).transpose(1, 2)
            for linear, x in ((inner.q_proj, hidden_states), (inner.k_proj, attended), (inner.v_proj, attended))
        )
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(inner.config._attn_implementation, eager_attention_forward)
        mixed, weights = attend(inner, q, k, v, None, dropout=0.0, scaling=inner.scaling, **kwargs)
        return inner.o_proj(mixed.flatten(2)), weights
