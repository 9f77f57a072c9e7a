"""What the library keeps of a run, to compare the page with."""

from __future__ import annotations

from pathlib import Path

from edge_pruning.circuit import Circuit


def cut(folder: Path, size: int) -> list[str]:
    """The edges that the library keeps of a run's ranking at a size, without dangling ones."""
    circuit = Circuit.load(folder / "circuit.json")
    assert circuit.scores is not None
    return circuit.graph.names(circuit.graph.without_dangling(circuit.scores.top(size)))
