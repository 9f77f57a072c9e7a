"""What heads do: where they look in the model, in a circuit and on the corrupted prompt, and what they write."""

from edge_pruning.patterns.patterns import FORMAT, MOST_HEADS, find_patterns, strongest_heads

__all__ = ["FORMAT", "MOST_HEADS", "find_patterns", "strongest_heads"]
