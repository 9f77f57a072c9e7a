"""GPT-NeoX and Pythia: LayerNorm and biases, parallel (or sequential) blocks with two norms, partial rotary positions.

Unusual: one fused map in which each head's query, key and value lie side by side.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from edge_pruning.models.decoder import Decoder, split_heads, ungated_mlp
from edge_pruning.models.parts import Linear, Mlp
from edge_pruning.models.registry import adapter


@adapter
class GptNeoX(Decoder):
    """Parallel or sequential blocks, q, k, v side by side in one map, partial rotary."""

    model_type = "gpt_neox"
    example = "EleutherAI/pythia-160m", {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}

    @property
    def kv_heads(self) -> int:
        return self.config.num_attention_heads

    @property
    def parallel(self) -> bool:
        return self.config.use_parallel_residual

    @property
    def body(self) -> Any:
        return self.hf.gpt_neox

    @property
    def words(self) -> nn.Module:
        return self.body.embed_in

    @property
    def final_norm(self) -> nn.Module:
        return self.body.final_layer_norm

    def heads(self, layer: int) -> Any:
        return self.block(layer).attention

    def qkv(self, layer: int) -> tuple[Linear, Linear, Linear]:
        heads = self.heads(layer)
        return split_heads(heads.query_key_value, self.kv_heads, heads.head_size)

    def out_map(self, layer: int) -> nn.Linear:
        return self.heads(layer).dense

    def mlp(self, layer: int) -> Mlp:
        mlp = self.block(layer).mlp
        return ungated_mlp(self.mlp_norm(layer), mlp.dense_h_to_4h, mlp.act, mlp.dense_4h_to_h)
