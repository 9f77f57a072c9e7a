"""How good a circuit is. All circuits are judged alike, whatever their origin; this package is independent of the
methods.
"""

from edge_pruning.evaluation.curve import Curve, evaluate_curve
from edge_pruning.evaluation.evaluation import Evaluation
from edge_pruning.evaluation.faithfulness import evaluate
from edge_pruning.evaluation.minimality import Minimality, evaluate_minimality
from edge_pruning.evaluation.report import Report, report_on
from edge_pruning.evaluation.stability import Stability

__all__ = [
    "Curve",
    "Evaluation",
    "Minimality",
    "Report",
    "Stability",
    "evaluate",
    "evaluate_curve",
    "evaluate_minimality",
    "report_on",
]
