"""Qwen3-MoE: Qwen3 whose MLPs are mixtures of experts in all layers, or in all but some."""

from __future__ import annotations

from edge_pruning.models.experts import ExpertsDecoder
from edge_pruning.models.qwen3 import Qwen3
from edge_pruning.models.registry import adapter


@adapter
class Qwen3Moe(ExpertsDecoder, Qwen3):
    """Mixtures of experts in most layers, each one node; normalised queries and keys."""

    model_type = "qwen3_moe"
    example = "Qwen/Qwen3-30B-A3B", {
        "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "hidden_size": 2048,
        "head_dim": 128,
    }  # fmt: skip
