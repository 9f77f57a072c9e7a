"""Gemma: Llama with embeddings scaled up, norms whose gain is 1 + weight, and a head size independent of the width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.parts import Norm
from edge_pruning.models.registry import adapter


@adapter
class Gemma(Decoder):
    """Scaled embeddings, norms with gain 1 + weight."""

    model_type = "gemma"
    example = "google/gemma-2b", {
        "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "hidden_size": 2048,
        "head_dim": 256,
    }  # fmt: skip

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        words = super().embed(inputs, split=split)
        if hasattr(self.words, "embed_scale"):
            return words
        return words * torch.tensor(self.d_model**0.5, dtype=words.dtype)  # older transformers scale outside the module

    def norm(self, module: Any) -> Norm:
        return Norm(module, 1 + module.weight, None, module.eps, centred=False)
