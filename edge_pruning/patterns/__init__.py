"""The behaviour of heads: their attention in the model, in a circuit and on the corrupted prompt, and their direct
effects.
"""

from edge_pruning.patterns.patterns import FORMAT, MOST_HEADS, find_patterns, strongest_heads

__all__ = ["FORMAT", "MOST_HEADS", "find_patterns", "strongest_heads"]
