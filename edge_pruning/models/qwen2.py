"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values; some layers may have a sliding window."""

from __future__ import annotations

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.registry import adapter


@adapter
class Qwen2(Decoder):
    """Biases on q, k and v; a sliding window in some layers."""

    model_type = "qwen2"
    example = "Qwen/Qwen2.5-0.5B", {
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 896,
    }  # fmt: skip

    def window(self, layer: int) -> int | None:
        return self.heads(layer).sliding_window
