"""Bloom: ALiBi instead of positions, a LayerNorm right after the embeddings, q, k, v side by side in one map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edge_pruning.models.attention import causal_attention
from edge_pruning.models.decoder import split_heads, ungated_mlp
from edge_pruning.models.parts import Linear, Mlp
from edge_pruning.models.registry import RENORMALISED, adapter
from edge_pruning.models.transformer_h import TransformerH


@adapter
class Bloom(TransformerH):
    """ALiBi, normalised embeddings, q, k, v side by side in one map."""

    model_type = "bloom"
    example = "bigscience/bloom-560m", {"num_hidden_layers": 24, "num_attention_heads": 16, "hidden_size": 1024}

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        return RENORMALISED if config.apply_residual_connection_post_layernorm else None

    @property
    def kv_heads(self) -> int:
        return self.config.num_attention_heads

    @property
    def heads_apart(self) -> bool:
        return False

    @property
    def max_length(self) -> int:
        """ALiBi sets no limit; this is the length that the model was trained on."""
        return int(getattr(self.config, "seq_length", 2048))

    def heads(self, layer: int) -> Any:
        return self.block(layer).self_attention

    def qkv(self, layer: int) -> tuple[Linear, Linear, Linear]:
        heads = self.heads(layer)
        return split_heads(heads.query_key_value, self.kv_heads, heads.head_dim)

    def out_map(self, layer: int) -> nn.Linear:
        return self.heads(layer).dense

    def context(self, width: int) -> Tensor:
        """The bias that ALiBi adds to the scores [h, 1, 1, p]."""
        present = torch.ones(1, width, dtype=torch.long, device=self.device)
        return self.body.build_alibi_tensor(present, self.config.num_attention_heads, self.dtype)[:, None]

    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        return causal_attention(q, k, v, self.heads(layer).inv_norm_factor, bias=context)

    def mlp(self, layer: int) -> Mlp:
        mlp = self.block(layer).mlp
        return ungated_mlp(self.mlp_norm(layer), mlp.dense_h_to_4h, mlp.gelu_impl, mlp.dense_4h_to_h)

    def mlp_module(self, layer: int) -> Callable[[Tensor], Tensor]:
        mlp = self.block(layer).mlp  # its own `forward` would add the residual stream
        return lambda x: mlp.dense_4h_to_h(mlp.gelu_impl(mlp.dense_h_to_4h(x)))

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        if split:
            raise ValueError("this model has ALiBi, so no node writes positions; use embeddings='joint'")
        return self.body.word_embeddings_layernorm(self.body.word_embeddings(inputs))[None]
