"""Decoders in Llama's layout: what most families share, with one method for each thing in which they differ.

    x += heads(norm(x)),  x += mlp(norm(x))        or, in a parallel block, both read the same x

A family is a subclass that overrides the methods it needs: the names of modules, how heads are split out of a fused
map, what happens to queries and keys, what the MLP computes. The defaults are Llama's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edge_pruning.graph import ModelShape
from edge_pruning.models.attention import causal_attention
from edge_pruning.models.parts import Attention, Linear, Mlp, Norm, PartsAdapter, lean, normalised
from edge_pruning.models.rotary import rotate_halves


class Decoder(PartsAdapter):
    """A family in Llama's layout. Subclasses override the methods in which they differ."""

    # --- where things are ------------------------------------------------------------------------------------------

    @property
    def shape(self) -> ModelShape:
        config = self.config
        return ModelShape(config.num_hidden_layers, config.num_attention_heads, self.kv_heads, self.parallel)

    @property
    def kv_heads(self) -> int:
        return self.config.num_key_value_heads or self.config.num_attention_heads

    @property
    def parallel(self) -> bool:
        """Whether the MLP reads the same stream as the heads of its layer."""
        return False

    @property
    def body(self) -> Any:
        return self.hf.model

    def block(self, layer: int) -> Any:
        return self.body.layers[layer]

    def heads(self, layer: int) -> Any:
        """The attention module of a layer."""
        return self.block(layer).self_attn

    @property
    def words(self) -> nn.Module:
        return self.body.embed_tokens

    @property
    def final_norm(self) -> nn.Module:
        return self.body.norm

    def attention_norm(self, layer: int) -> Norm | None:
        return self.norm(self.block(layer).input_layernorm)

    def mlp_norm(self, layer: int) -> Norm | None:
        return self.norm(self.block(layer).post_attention_layernorm)

    def norm(self, module: Any) -> Norm:
        """A norm module of this family, with the numbers that define it."""
        return norm_of(module)

    # --- the heads -------------------------------------------------------------------------------------------------

    def qkv(self, layer: int) -> tuple[Linear, Linear, Linear]:
        """The maps to queries, keys and values."""
        heads = self.heads(layer)
        q, k, v = (per_head(m, heads.head_dim) for m in (heads.q_proj, heads.k_proj, heads.v_proj))
        return q, k, v

    def out_map(self, layer: int) -> nn.Linear:
        """The linear map from all heads of a layer back into the stream."""
        return self.heads(layer).o_proj

    def out(self, layer: int) -> Tensor:
        """The output map per head [h, e, d], times every factor that the family applies to what heads write."""
        weight = self.out_map(layer).weight
        return weight.T.view(self.config.num_attention_heads, -1, weight.shape[0])

    def out_bias(self, layer: int) -> Tensor | None:
        return self.out_map(layer).bias

    def attention(self, layer: int) -> Attention:
        return Attention(self.attention_norm(layer), *self.qkv(layer), self.out(layer), self.out_bias(layer))

    def context(self, width: int) -> Any:
        return self.rotary_tables(width)

    def rotary_tables(self, width: int, *which: Any) -> tuple[Tensor, Tensor]:
        """Cosines and sines [1, p, n] from the model's own module."""
        positions = torch.arange(width, device=self.device)[None]
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        return self.body.rotary_emb(like, positions, *which)

    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        return self.attend_to(layer, *self.positioned(layer, q, k, context), v)

    def positioned(self, layer: int, q: Tensor, k: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        """Queries and keys as attention compares them: normalised, if the family does so, and rotated by position."""
        return rotate_halves(q, *context), rotate_halves(k, *context)

    def attend_to(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return causal_attention(q, k, v, self.heads(layer).scaling, window=self.window(layer))

    def window(self, layer: int) -> int | None:
        """How many positions a head sees, itself included; None: all earlier ones."""
        return None

    # --- the MLP ---------------------------------------------------------------------------------------------------

    def mlp(self, layer: int) -> Mlp | None:
        mlp, norm = self.block(layer).mlp, self.mlp_norm(layer)
        return gated_mlp(norm, mlp.gate_proj, mlp.up_proj, mlp.act_fn, self.after_mlp(layer, mlp.down_proj))

    def mlp_module(self, layer: int) -> Callable[[Tensor], Tensor]:
        """The whole MLP of a layer, as a function of its norm's output."""
        return self.block(layer).mlp

    def after_mlp(self, layer: int, down: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """`down`, followed by whatever the family does before the MLP's output is added to the stream."""
        return down

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        return self.after_mlp(layer, self.mlp_module(layer))(normalised(self.mlp_norm(layer), x))

    # --- both ends -------------------------------------------------------------------------------------------------

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        if split:
            raise ValueError("this model has rotary positions, so no node writes positions; use embeddings='joint'")
        return self.words(inputs)[None]

    def unembed(self, x: Tensor) -> Tensor:
        return self.hf.get_output_embeddings()(self.final_norm(x))


# --- parts out of modules --------------------------------------------------------------------------------------------


def norm_of(module: Any) -> Norm:
    """The numbers of a LayerNorm or of Llama's RMSNorm."""
    if isinstance(module, nn.LayerNorm):
        return Norm(module, module.weight, module.bias, module.eps, centred=True)
    return Norm(module, module.weight, None, module.variance_epsilon, centred=False)


def per_head(linear: nn.Linear, e: int) -> Linear:
    """Split a map whose outputs are the heads, one after the other: weight [h, d, e]."""
    weight = linear.weight.view(-1, e, linear.in_features).transpose(1, 2)
    return Linear(weight, None if linear.bias is None else linear.bias.view(-1, e))


def split_heads(linear: nn.Linear, groups: int, e: int) -> tuple[Linear, Linear, Linear]:
    """Split a fused map whose outputs are, group by group: the queries of some heads, their key, their value."""
    weights = _cut(linear.weight.view(groups, -1, e, linear.in_features).transpose(2, 3))
    biases = [None] * 3 if linear.bias is None else _cut(linear.bias.view(groups, -1, e))
    q, k, v = (Linear(weight, bias) for weight, bias in zip(weights, biases, strict=True))
    return q, k, v


def _cut(groups: Tensor) -> list[Tensor]:
    """The queries [h, *], keys and values [kv head, *] of maps [kv head, queries + 2, *]."""
    return [groups[:, :-2].flatten(0, 1), groups[:, -2], groups[:, -1]]


def gated_mlp(
    norm: Norm | None, gate: nn.Linear, up: nn.Linear, act: Callable[[Tensor], Tensor], down: Callable[[Tensor], Tensor]
) -> Mlp:
    """down(act(gate(x)) * up(x))."""

    def finish(hidden: Tensor) -> Tensor:
        gated, upward = hidden.chunk(2, -1)
        return down(act(gated) * upward)

    return Mlp(norm, (into_hidden(gate), into_hidden(up)), finish)


def ungated_mlp(
    norm: Norm | None, first: nn.Linear, act: Callable[[Tensor], Tensor], last: Callable[[Tensor], Tensor]
) -> Mlp:
    """last(act(first(x)))."""
    act = lean(act)
    return Mlp(norm, (into_hidden(first),), lambda hidden: last(act(hidden)))


def into_hidden(linear: nn.Linear) -> Linear:
    """A map [1, d, f] into hidden units."""
    return Linear(linear.weight.T[None], None if linear.bias is None else linear.bias[None])
