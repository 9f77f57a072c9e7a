"""Shrinking: what a task does not need is cut out of a model, and the rest is saved as a smaller model."""

from edge_pruning.registry import import_files
from edge_pruning.shrink.by_name import get_shrinker
from edge_pruning.shrink.config import ShrinkConfig
from edge_pruning.shrink.folder import load_shrunk
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.method import SHRINKERS, Shrinker
from edge_pruning.shrink.original import Original
from edge_pruning.shrink.result import Shrunk, shrink_model

import_files(__name__, __path__)

__all__ = [
    "SHRINKERS",
    "Kept",
    "Original",
    "ShrinkConfig",
    "Shrinker",
    "Shrunk",
    "get_shrinker",
    "load_shrunk",
    "shrink_model",
]
