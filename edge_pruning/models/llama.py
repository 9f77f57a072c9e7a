"""The Llama family: RMSNorm, rotary positions, key-value heads shared by groups of query heads, a gated MLP.

Unusual: nothing is added for positions, so there is one embedding writer; biases are off by default but may be on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_pruning.graph import ModelShape
from edge_pruning.models.attention import causal_attention
from edge_pruning.models.parts import Attention, Linear, Mlp, Norm, PartsAdapter
from edge_pruning.models.registry import adapter


@adapter
class Llama(PartsAdapter):
    model_type = "llama"

    @property
    def shape(self) -> ModelShape:
        return ModelShape(
            self.config.num_hidden_layers, self.config.num_attention_heads, self.config.num_key_value_heads
        )

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        if split:
            raise ValueError("this model has rotary positions, nothing is written for them; use embeddings='joint'")
        return self.hf.model.embed_tokens(inputs)[None]

    def context(self, width: int) -> tuple[Tensor, Tensor]:
        positions = torch.arange(width, device=self.device)[None]
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        return self.hf.model.rotary_emb(like, positions)

    def attention(self, layer: int) -> Attention:
        block = self.hf.model.layers[layer]
        heads, e = self.config.num_attention_heads, block.self_attn.head_dim
        q, k, v = (_per_head(m, e) for m in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj))
        out = block.self_attn.o_proj
        return Attention(_norm(block.input_layernorm), q, k, v, out.weight.T.view(heads, e, -1), out.bias)

    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        cos, sin = context
        return causal_attention(
            _rotate(q, cos, sin), _rotate(k, cos, sin), v, self.hf.model.layers[layer].self_attn.scaling
        )

    def mlp(self, layer: int) -> Mlp:
        block = self.hf.model.layers[layer]
        gate, up = block.mlp.gate_proj, block.mlp.up_proj
        bias = None if gate.bias is None else torch.cat([gate.bias, up.bias])[None]
        inward = Linear(torch.cat([gate.weight, up.weight]).T[None], bias)

        def finish(hidden: Tensor) -> Tensor:
            gated, upward = hidden.chunk(2, -1)
            return block.mlp.down_proj(block.mlp.act_fn(gated) * upward)

        return Mlp(_norm(block.post_attention_layernorm), inward, finish)

    def unembed(self, x: Tensor) -> Tensor:
        return self.hf.lm_head(self.hf.model.norm(x))


def _norm(module: Any) -> Norm:
    return Norm(module, module.weight, None, module.variance_epsilon, centred=False)


def _per_head(linear: nn.Linear, e: int) -> Linear:
    weight = linear.weight.view(-1, e, linear.in_features).transpose(1, 2)
    return Linear(weight, None if linear.bias is None else linear.bias.view(-1, e))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i + e/2}) by its position's angle."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * cos + turned * sin
