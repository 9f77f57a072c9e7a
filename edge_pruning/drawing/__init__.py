"""Pictures as SVG text, and picture files, without a model: circuits, comparisons, training runs, quality and size."""

from edge_pruning.drawing.caption import title_of
from edge_pruning.drawing.circuit_svg import draw_circuit
from edge_pruning.drawing.curves import draw_size_curve
from edge_pruning.drawing.matrices import Matrix, draw_matrices
from edge_pruning.drawing.overlap import draw_overlap
from edge_pruning.drawing.picture_file import check_picture, save_picture
from edge_pruning.drawing.training import draw_training
from edge_pruning.drawing.truth import draw_against_truth

__all__ = [
    "Matrix", "check_picture", "draw_against_truth", "draw_circuit", "draw_matrices", "draw_overlap", "draw_size_curve",
    "draw_training", "save_picture", "title_of",
]
