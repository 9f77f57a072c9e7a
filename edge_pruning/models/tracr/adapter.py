"""Compiled RASP programs with the five methods of an adapter, which `module.TracrTransformer` already has.

They are no Hugging Face family, so they are not registered as one.

Unusual: attention in both directions, so pairs are run whole beside others of equal length; no norm; one-hot residual
dimensions, and heads and MLPs whose weights are all zero where a layer has nothing to compute.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edge_pruning.graph import ModelShape
from edge_pruning.models.adapter import Adapter
from edge_pruning.models.tracr.program import Program


class Tracr(Adapter):
    model_type = Program.model_type
    causal = False

    @property
    def shape(self) -> ModelShape:
        return ModelShape(self.config.layers, self.config.heads)

    @property
    def d_model(self) -> int:
        return len(self.config.residual)

    @property
    def max_length(self) -> int:
        """The longest input with BOS in front."""
        return int(self.config.max_length) + 1

    @property
    def vocabulary(self) -> int:
        return len(self.config.tokens)

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        written: Tensor = self.hf.embed(inputs)
        return written if split else written.sum(0, keepdim=True)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        written: Tensor = self.hf.attend(layer, q, k, v)
        return written

    def out_bias(self, layer: int) -> Tensor:
        bias: Tensor = self.hf.weights["out_bias"][layer]
        return bias

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        written: Tensor = self.hf.feed_forward(layer, x)
        return written

    def unembed(self, x: Tensor) -> Tensor:
        logits: Tensor = x @ self.hf.weights["unembed"]
        return logits

    def own_logits(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.hf(inputs)
        return logits
