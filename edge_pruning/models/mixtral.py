"""Mixtral: Mistral whose MLPs are mixtures of experts."""

from __future__ import annotations

from edge_pruning.models.experts import ExpertsDecoder
from edge_pruning.models.mistral import Mistral
from edge_pruning.models.registry import adapter


@adapter
class Mixtral(ExpertsDecoder, Mistral):
    """Mixtures of experts, each one node; sliding window."""

    model_type = "mixtral"
