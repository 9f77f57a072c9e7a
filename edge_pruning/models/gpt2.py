"""GPT-2: LayerNorm in front of every sublayer, learned positions, one fused projection for q, k and v.

Unusual: linear maps are stored transposed (`Conv1D`, weight [in, out]); scores may be divided by the layer's number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edge_pruning.graph import ModelShape
from edge_pruning.models.attention import causal_attention
from edge_pruning.models.decoder import norm_of
from edge_pruning.models.parts import Attention, Linear, Mlp, PartsAdapter, lean
from edge_pruning.models.registry import adapter


@adapter
class Gpt2(PartsAdapter):
    """Learned positions, LayerNorm, biases, one fused map for q, k and v stored transposed."""

    model_type = "gpt2"
    example = "openai-community/gpt2", {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        if config.add_cross_attention:
            return "it has cross-attention, whose reads come from another model's stream"
        return None

    @property
    def shape(self) -> ModelShape:
        return ModelShape(self.config.n_layer, self.config.n_head)

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        body = self.hf.transformer
        words = body.wte(inputs)
        positions = body.wpe(torch.arange(inputs.shape[1], device=inputs.device)).expand_as(words)
        return torch.stack([words, positions]) if split else (words + positions)[None]

    def attention(self, layer: int) -> Attention:
        block = self.hf.transformer.h[layer]
        heads, d = self.config.n_head, self.d_model
        weight = block.attn.c_attn.weight.view(d, 3 * heads, d // heads).transpose(0, 1)
        bias = block.attn.c_attn.bias.view(3 * heads, d // heads)
        q, k, v = (Linear(w, b) for w, b in zip(weight.split(heads), bias.split(heads), strict=True))
        out = block.attn.c_proj.weight.view(heads, d // heads, d)
        return Attention(norm_of(block.ln_1), q, k, v, out, block.attn.c_proj.bias)

    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        scale = q.shape[-1] ** -0.5 if self.config.scale_attn_weights else 1.0
        if self.config.scale_attn_by_inverse_layer_idx:
            scale /= layer + 1
        return causal_attention(q, k, v, scale)

    def mlp(self, layer: int) -> Mlp:
        block = self.hf.transformer.h[layer]
        activate = lean(block.mlp.act)
        inward = Linear(block.mlp.c_fc.weight[None], block.mlp.c_fc.bias[None])
        return Mlp(norm_of(block.ln_2), (inward,), lambda hidden: block.mlp.c_proj(activate(hidden)))

    def unembed(self, x: Tensor) -> Tensor:
        return self.hf.lm_head(self.hf.transformer.ln_f(x))
