"""The Llama family: RMSNorm, rotary positions, key-value heads shared by groups of query heads, a gated MLP.

Nothing is added for positions, so there is one embedding writer; biases are off by default but may be on.
"""

from __future__ import annotations

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.registry import adapter


@adapter
class Llama(Decoder):
    """The reference: rotary positions, grouped heads, gated MLP."""

    model_type = "llama"
    example = "meta-llama/Llama-3.1-8B", {
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
    }  # fmt: skip
