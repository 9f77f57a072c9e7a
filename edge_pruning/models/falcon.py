"""Falcon in its three layouts: parallel blocks with one norm (7B) or two (40B), sequential ones with ALiBi (RW).

Unusual: one fused map whose groups are the queries of some heads, then their key, then their value. There is one group
(7B: all heads share a key), or one per key-value head (40B), or one per head (RW). With ALiBi, transformers' "eager"
attention adds the bias twice, which is not the model that was trained; the check at load time refuses it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_pruning.models.attention import causal_attention
from edge_pruning.models.decoder import split_heads, ungated_mlp
from edge_pruning.models.parts import Linear, Mlp, Norm
from edge_pruning.models.registry import adapter
from edge_pruning.models.transformer_h import TransformerH


@adapter
class Falcon(TransformerH):
    """Fused groups of q, k, v; one or two norms in parallel blocks; rotary positions or ALiBi."""

    model_type = "falcon"
    example = "tiiuae/falcon-7b", {"num_hidden_layers": 32, "num_attention_heads": 71, "hidden_size": 4544}

    @property
    def kv_heads(self) -> int:
        config = self.config
        if config.new_decoder_architecture:
            return config.num_kv_heads
        return 1 if config.multi_query else config.num_attention_heads

    @property
    def parallel(self) -> bool:
        return self.config.new_decoder_architecture or self.config.parallel_attn

    @property
    def heads_apart(self) -> bool:
        return not self.config.alibi

    @property
    def words(self) -> nn.Module:
        return self.body.word_embeddings

    def heads(self, layer: int) -> Any:
        return self.block(layer).self_attention

    def attention_norm(self, layer: int) -> Norm:
        block = self.block(layer)
        return self.norm(block.ln_attn if hasattr(block, "ln_attn") else block.input_layernorm)

    def mlp_norm(self, layer: int) -> Norm:
        block = self.block(layer)
        if not self.parallel:
            return self.norm(block.post_attention_layernorm)
        return self.norm(block.ln_mlp if hasattr(block, "ln_mlp") else block.input_layernorm)

    def qkv(self, layer: int) -> tuple[Linear, Linear, Linear]:
        heads = self.heads(layer)
        return split_heads(heads.query_key_value, self.kv_heads, heads.head_dim)

    def out_map(self, layer: int) -> nn.Linear:
        return self.heads(layer).dense

    def context(self, width: int) -> Any:
        """Rotary tables, or the bias [h, 1, 1, p] that ALiBi adds to the scores before they are scaled."""
        if not self.config.alibi:
            return super().context(width)
        from transformers.models.falcon.modeling_falcon import build_alibi_tensor

        present = torch.ones(1, width, dtype=torch.long, device=self.device)
        return build_alibi_tensor(present, self.config.num_attention_heads, self.dtype)[:, None]

    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        scale = self.heads(layer).inv_norm_factor
        if self.config.alibi:
            return causal_attention(q, k, v, scale, bias=context * scale)
        return causal_attention(*self.positioned(layer, q, k, context), v, scale)

    def mlp(self, layer: int) -> Mlp:
        mlp = self.block(layer).mlp
        return ungated_mlp(self.mlp_norm(layer), mlp.dense_h_to_4h, mlp.act, mlp.dense_4h_to_h)
