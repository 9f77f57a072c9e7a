"""Phi-1 and Phi-2: parallel blocks whose heads and MLP share one LayerNorm, biases everywhere, partial rotary."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edge_pruning.models.decoder import Decoder, ungated_mlp
from edge_pruning.models.parts import Mlp, Norm
from edge_pruning.models.registry import adapter


@adapter
class Phi(Decoder):
    """Parallel blocks with one shared LayerNorm, biases, partial rotary."""

    model_type = "phi"
    example = "microsoft/phi-2", {
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_size": 2560,
    }  # fmt: skip
    parallel = True

    @property
    def final_norm(self) -> nn.Module:
        return self.body.final_layernorm

    def mlp_norm(self, layer: int) -> Norm | None:
        return self.attention_norm(layer)

    def out_map(self, layer: int) -> nn.Linear:
        return self.heads(layer).dense

    def positioned(self, layer: int, q: Tensor, k: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        heads = self.heads(layer)
        if self.config.qk_layernorm:
            q, k = heads.q_layernorm(q), heads.k_layernorm(k)
        return super().positioned(layer, q, k, context)

    def mlp(self, layer: int) -> Mlp:
        mlp = self.block(layer).mlp
        return ungated_mlp(self.mlp_norm(layer), mlp.fc1, mlp.activation_fn, mlp.fc2)
