"""Mistral: Llama whose heads see only a window of the last positions, if the configuration sets one."""

from __future__ import annotations

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.registry import adapter


@adapter
class Mistral(Decoder):
    """Heads see a sliding window."""

    model_type = "mistral"
    example = "mistralai/Mistral-7B-v0.1", {
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
    }  # fmt: skip

    def window(self, layer: int) -> int | None:
        return self.config.sliding_window
