"""Granite: Llama with four multipliers, on embeddings, attention scores, what sublayers write, and logits."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.registry import adapter


@adapter
class Granite(Decoder):
    """Multipliers on embeddings, scores, writes and logits."""

    model_type = "granite"
    example = "ibm-granite/granite-3.1-2b-base", {
        "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 2048,
    }  # fmt: skip

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        return super().embed(inputs, split=split) * self.config.embedding_multiplier

    def out(self, layer: int) -> Tensor:
        return super().out(layer) * self.config.residual_multiplier

    def out_bias(self, layer: int) -> Tensor | None:
        bias = super().out_bias(layer)
        return None if bias is None else bias * self.config.residual_multiplier

    def after_mlp(self, layer: int, down: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: down(x) * self.config.residual_multiplier

    def unembed(self, x: Tensor) -> Tensor:
        return super().unembed(x) / self.config.logits_scaling
