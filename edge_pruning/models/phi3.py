"""Phi-3: Llama with one fused map to queries, keys and values, and one to both inputs of the MLP's gate.

Rotary positions may cover a part of each head; heads may see a sliding window.
"""

from __future__ import annotations

from torch import Tensor

from edge_pruning.models.decoder import into_hidden
from edge_pruning.models.mistral import Mistral
from edge_pruning.models.parts import Linear, Mlp
from edge_pruning.models.registry import adapter


@adapter
class Phi3(Mistral):
    """Fused maps for q, k, v and for the gated MLP; sliding window, partial rotary."""

    model_type = "phi3"
    example = "microsoft/Phi-3-mini-4k-instruct", {
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_size": 3072,
    }  # fmt: skip

    def qkv(self, layer: int) -> tuple[Linear, Linear, Linear]:
        heads = self.heads(layer)
        sizes = [self.config.num_attention_heads, self.kv_heads, self.kv_heads]
        weight = heads.qkv_proj.weight.unflatten(0, (-1, heads.head_dim)).transpose(1, 2)
        q, k, v = (Linear(part, None) for part in weight.split(sizes))
        return q, k, v

    def mlp(self, layer: int) -> Mlp:
        mlp = self.block(layer).mlp

        def finish(hidden: Tensor) -> Tensor:
            gate, up = hidden.chunk(2, -1)
            return mlp.down_proj(up * mlp.activation_fn(gate))

        return Mlp(self.mlp_norm(layer), (into_hidden(mlp.gate_up_proj),), finish)
