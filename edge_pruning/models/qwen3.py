"""Qwen3: Qwen2 whose heads normalise their queries and keys, each over its own numbers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edge_pruning.models.qwen2 import Qwen2
from edge_pruning.models.registry import adapter


@adapter
class Qwen3(Qwen2):
    """Queries and keys are normalised per head."""

    model_type = "qwen3"
    example = "Qwen/Qwen3-0.6B", {
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "hidden_size": 1024,
        "head_dim": 128,
    }  # fmt: skip

    def positioned(self, layer: int, q: Tensor, k: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        heads = self.heads(layer)
        return super().positioned(layer, heads.q_norm(q), heads.k_norm(k), context)
