"""StableLM: LayerNorm, and rotary positions in a quarter of each head.

Optional: parallel blocks, in which heads and MLP share one norm; normalised queries and keys, with a norm for each head
(queries) and each key-value head (keys).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.parts import Norm
from edge_pruning.models.registry import adapter


@adapter
class StableLm(Decoder):
    """LayerNorm, partial rotary; optional: parallel blocks, a norm per head for queries and keys."""

    model_type = "stablelm"
    example = "stabilityai/stablelm-2-1_6b", {
        "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_size": 2048,
    }  # fmt: skip

    @property
    def parallel(self) -> bool:
        return self.config.use_parallel_residual

    @property
    def heads_apart(self) -> bool:
        return not self.config.qk_layernorm

    def mlp_norm(self, layer: int) -> Norm | None:
        return self.attention_norm(layer) if self.parallel else super().mlp_norm(layer)

    def positioned(self, layer: int, q: Tensor, k: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        if self.config.qk_layernorm:
            heads = self.heads(layer)
            q, k = _by_own_norm(heads.q_layernorm.norms, q), _by_own_norm(heads.k_layernorm.norms, k)
        return super().positioned(layer, q, k, context)


def _by_own_norm(norms: Any, x: Tensor) -> Tensor:
    """Normalise each head of x [h, b, p, e] with its own norm; all readers of a key-value head share its norm."""
    return torch.stack([norms[i * len(norms) // len(x)](head) for i, head in enumerate(x)])
