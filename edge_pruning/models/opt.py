"""OPT: GPT-2's layout with separate maps and ReLU. Learned positions, so embeddings can be split into two writers.

The 350m model is refused, because it normalises the stream itself after every sublayer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edge_pruning.models.decoder import Decoder, ungated_mlp
from edge_pruning.models.parts import Mlp, Norm
from edge_pruning.models.registry import RENORMALISED, adapter


@adapter
class Opt(Decoder):
    """Learned positions, LayerNorm, biases, MLP without a gate."""

    model_type = "opt"
    example = "facebook/opt-125m", {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        return None if config.do_layer_norm_before else RENORMALISED

    @property
    def kv_heads(self) -> int:
        return self.config.num_attention_heads

    @property
    def body(self) -> Any:
        return self.hf.model.decoder

    def attention_norm(self, layer: int) -> Norm:
        return self.norm(self.block(layer).self_attn_layer_norm)

    def mlp_norm(self, layer: int) -> Norm:
        return self.norm(self.block(layer).final_layer_norm)

    def out_map(self, layer: int) -> nn.Linear:
        return self.heads(layer).out_proj

    def context(self, width: int) -> None:
        return None

    def positioned(self, layer: int, q: Tensor, k: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        return q, k

    def mlp(self, layer: int) -> Mlp:
        block = self.block(layer)
        return ungated_mlp(self.mlp_norm(layer), block.fc1, block.activation_fn, block.fc2)

    def mlp_module(self, layer: int) -> Callable[[Tensor], Tensor]:
        block = self.block(layer)
        return lambda x: block.fc2(block.activation_fn(block.fc1(x)))

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        words = self.words(inputs)
        if self.body.project_in is not None:
            words = self.body.project_in(words)
        places = torch.arange(inputs.shape[1], device=inputs.device)[None]
        positions = self.body.embed_positions(None, position_ids=places).expand_as(words)
        return torch.stack([words, positions]) if split else (words + positions)[None]

    def unembed(self, x: Tensor) -> Tensor:
        x = x if self.body.final_layer_norm is None else self.body.final_layer_norm(x)
        return self.hf.lm_head(x if self.body.project_out is None else self.body.project_out(x))
