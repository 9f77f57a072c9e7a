"""The content of this library's JSON files, as types that `files.read_json` checks a file against.

Only the fields that are read are listed; a file may contain more.
"""

from edge_pruning.contents.circuit import CircuitContent
from edge_pruning.contents.evaluation import EvaluationContent, ReportContent
from edge_pruning.contents.patterns import PICTURE, PatternsContent
from edge_pruning.contents.programs import ProgramContent, TruthsContent
from edge_pruning.contents.run_folder import ConfigContent, CurveContent, FoundContent, Row, Sizes, Step
from edge_pruning.contents.seeds import StabilityContent
from edge_pruning.contents.study import StudyContent
from edge_pruning.contents.sweep import ClaimContent, FailureContent, SweepContent

__all__ = [
    "CircuitContent",
    "ClaimContent",
    "ConfigContent",
    "CurveContent",
    "EvaluationContent",
    "FailureContent",
    "FoundContent",
    "PICTURE",
    "PatternsContent",
    "ProgramContent",
    "ReportContent",
    "Row",
    "Sizes",
    "StabilityContent",
    "Step",
    "StudyContent",
    "SweepContent",
    "TruthsContent",
]
