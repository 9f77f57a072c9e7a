"""Pictures as SVG text: circuits, training runs, and quality against size. Nothing here loads a model."""

from edge_pruning.drawing.circuit_svg import draw_circuit
from edge_pruning.drawing.curves import draw_size_curve, draw_training

__all__ = ["draw_circuit", "draw_size_curve", "draw_training"]
