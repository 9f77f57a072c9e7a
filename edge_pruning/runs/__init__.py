"""Runs: from a task and a model to a circuit, with all results in one folder."""

from edge_pruning.runs.circuit_file import CircuitFile, open_circuit
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.folder import RunFolder
from edge_pruning.runs.inspection import Inspection, inspect
from edge_pruning.runs.judge_file import curve_file, evaluate_any, evaluate_file, report_file, report_path, write_report
from edge_pruning.runs.observer import RunObserver
from edge_pruning.runs.pipeline import discover
from edge_pruning.runs.result import Run
from edge_pruning.runs.seeds import SeedRuns, discover_seeds
from edge_pruning.runs.two_settings import Study, study

__all__ = [
    "CircuitFile",
    "Inspection",
    "Run",
    "RunConfig",
    "RunFolder",
    "RunObserver",
    "SeedRuns",
    "Study",
    "curve_file",
    "discover",
    "discover_seeds",
    "evaluate_any",
    "evaluate_file",
    "inspect",
    "open_circuit",
    "report_file",
    "report_path",
    "study",
    "write_report",
]
