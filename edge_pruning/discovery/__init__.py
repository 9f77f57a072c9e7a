"""Methods that find circuits. Importing this package imports all of its files, and so registers every method."""

from edge_pruning.discovery.method import METHODS, Method, get_method
from edge_pruning.discovery.observer import Observer
from edge_pruning.discovery.polish import polish
from edge_pruning.discovery.presets import PRESETS, get_preset
from edge_pruning.discovery.search import Diverged, Search
from edge_pruning.registry import import_files

import_files(__name__, __path__)

__all__ = [
    "METHODS", "PRESETS", "Diverged", "Method", "Observer", "Search", "get_method", "get_preset", "polish",
]
