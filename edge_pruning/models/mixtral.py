"""Mixtral: Mistral whose MLPs are mixtures of experts."""

from __future__ import annotations

from edge_pruning.models.experts import ExpertsDecoder
from edge_pruning.models.mistral import Mistral
from edge_pruning.models.registry import adapter


@adapter
class Mixtral(ExpertsDecoder, Mistral):
    """Mixtures of experts, each one node; sliding window."""

    model_type = "mixtral"
    example = "mistralai/Mixtral-8x7B-v0.1", {
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
    }  # fmt: skip
