"""Methods that find circuits. Importing this package registers every method."""

from edge_pruning.discovery import (  # noqa: F401  (registration)
    acdc,
    eap,
    eap_ig,
    hap,
    hard_concrete,
    magnitude,
    narrowing,
    node,
    random_scores,
    soft_top_k,
)
from edge_pruning.discovery.method import METHODS, Method, Observer, get_method
from edge_pruning.discovery.polish import polish
from edge_pruning.discovery.presets import PRESETS, get_preset

__all__ = ["METHODS", "PRESETS", "Method", "Observer", "get_method", "get_preset", "polish"]
