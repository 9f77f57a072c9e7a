"""Gemma-3, the text models: Gemma-2 with normalised queries and keys instead of a cap on the scores.

Layers with a sliding window and layers without one have rotary tables of their own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.gemma2 import Gemma2
from edge_pruning.models.registry import adapter
from edge_pruning.models.rotary import rotate_halves


@adapter
class Gemma3(Gemma2):
    """Gemma-2 with norms of q and k instead of the cap on scores, and two kinds of rotary tables."""

    model_type = "gemma3_text"
    attn_implementation = None
    example = "google/gemma-3-1b-pt", {
        "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "hidden_size": 1152,
        "head_dim": 256,
    }  # fmt: skip

    def context(self, width: int) -> dict[str, tuple[Tensor, Tensor]]:
        return {kind: self.rotary_tables(width, kind) for kind in set(self.config.layer_types)}

    def positioned(self, layer: int, q: Tensor, k: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        heads, tables = self.heads(layer), context[self.config.layer_types[layer]]
        return rotate_halves(heads.q_norm(q), *tables), rotate_halves(heads.k_norm(k), *tables)

    def attend_to(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return Decoder.attend_to(self, layer, q, k, v)  # transformers ignores the cap in its configuration, too
