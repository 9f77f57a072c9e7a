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
from edge_pruning.discovery.method import METHODS, Method, get_method
from edge_pruning.discovery.observer import Observer
from edge_pruning.discovery.polish import polish
from edge_pruning.discovery.presets import PRESETS, get_preset
from edge_pruning.discovery.search import Diverged, Search

__all__ = [
    "METHODS", "PRESETS", "Diverged", "Method", "Observer", "Search", "get_method", "get_preset", "polish",
]
