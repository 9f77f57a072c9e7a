"""Methods that find circuits. Importing this package registers every method."""

from edge_pruning.discovery import hard_concrete, soft_top_k  # noqa: F401  (registration)
from edge_pruning.discovery.method import METHODS, Method, Observer, get_method

__all__ = ["METHODS", "Method", "Observer", "get_method"]
