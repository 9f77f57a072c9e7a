"""Gemma-2: norms before and behind every sublayer, soft caps on scores and logits, windows in every other layer."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from edge_pruning.models.attention import explicit_attention
from edge_pruning.models.gemma import Gemma
from edge_pruning.models.parts import Norm
from edge_pruning.models.post_norm import PostNormDecoder
from edge_pruning.models.registry import adapter


@adapter
class Gemma2(PostNormDecoder, Gemma):
    """Pre- and post-norms, soft caps, a sliding window in every other layer, scaled embeddings."""

    model_type = "gemma2"
    attn_implementation: ClassVar[str | None] = "eager"  # some versions choose a kernel that has no soft cap
    example = "google/gemma-2-2b", {
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "hidden_size": 2304,
        "head_dim": 256,
    }  # fmt: skip

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        if getattr(config, "use_bidirectional_attention", False):
            return "its attention also sees later positions, which this family's adapter does not do"
        return super().refusal(config)

    def mlp_norm(self, layer: int) -> Norm | None:
        return self.norm(self.block(layer).pre_feedforward_layernorm)

    def window(self, layer: int) -> int | None:
        return self.heads(layer).sliding_window

    def attend_to(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cap = self.config.attn_logit_softcapping
        if cap is None:
            return super().attend_to(layer, q, k, v)
        return explicit_attention(q, k, v, self.heads(layer).scaling, window=self.window(layer), cap=cap)

    def unembed(self, x: Tensor) -> Tensor:
        logits, cap = super().unembed(x), self.config.final_logit_softcapping
        return logits if cap is None else cap * torch.tanh(logits / cap)
