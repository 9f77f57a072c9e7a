"""Mistral: Llama whose heads see only the last few positions, where the configuration says so."""

from __future__ import annotations

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.registry import adapter


@adapter
class Mistral(Decoder):
    """Heads see a sliding window."""

    model_type = "mistral"

    def window(self, layer: int) -> int | None:
        return self.config.sliding_window
