"""StarCoder2: Llama's grouped rotary heads with LayerNorm, biases, a sliding window, and an MLP without a gate."""

from __future__ import annotations

from edge_pruning.models.decoder import ungated_mlp
from edge_pruning.models.mistral import Mistral
from edge_pruning.models.parts import Mlp
from edge_pruning.models.registry import adapter


@adapter
class Starcoder2(Mistral):
    """LayerNorm, biases, MLP without a gate, sliding window."""

    model_type = "starcoder2"
    example = "bigcode/starcoder2-3b", {
        "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2, "hidden_size": 3072,
    }  # fmt: skip

    def mlp(self, layer: int) -> Mlp:
        mlp = self.block(layer).mlp
        return ungated_mlp(self.mlp_norm(layer), mlp.c_fc, mlp.act, mlp.c_proj)
