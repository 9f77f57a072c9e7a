"""What GPT-J, Falcon and Bloom share: blocks are `transformer.h`, and the last norm is `transformer.ln_f`."""

from __future__ import annotations

from typing import Any

from torch import nn

from edge_pruning.models.decoder import Decoder


class TransformerH(Decoder):
    """A decoder whose modules have GPT-2's names."""

    @property
    def body(self) -> Any:
        return self.hf.transformer

    @property
    def final_norm(self) -> nn.Module:
        return self.body.ln_f

    def block(self, layer: int) -> Any:
        return self.body.h[layer]
