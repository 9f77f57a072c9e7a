"""GPT-OSS: mixtures of experts with biases, attention sinks, and a sliding window in every other layer.

Unusual: each head has an attention sink, a learned logit in its softmax that no value belongs to, so that its attention
weights can sum to less than 1. Rotary tables hold one angle per pair of numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_pruning.models.attention import explicit_attention
from edge_pruning.models.experts import ExpertsDecoder
from edge_pruning.models.registry import adapter


@adapter
class GptOss(ExpertsDecoder):
    """Mixtures of experts, attention sinks, a sliding window in every other layer, biases."""

    model_type = "gpt_oss"
    example = "openai/gpt-oss-20b", {
        "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 2880,
        "head_dim": 64,
    }  # fmt: skip

    @property
    def heads_apart(self) -> bool:
        return False

    def context(self, width: int) -> tuple[Tensor, Tensor]:
        cos, sin = self.rotary_tables(width)
        return torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)

    def window(self, layer: int) -> int | None:
        return self.heads(layer).sliding_window

    def attend_to(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = self.heads(layer)
        return explicit_attention(q, k, v, heads.scaling, window=self.window(layer), sink=heads.sinks)
