"""Runs: from a task and a model to a circuit, with everything about it in one folder. The mathematics is elsewhere."""

from edge_pruning.runs.bench import Bench
from edge_pruning.runs.check import curve_file, evaluate_file, report_file, report_path, write_report
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.folder import RunFolder
from edge_pruning.runs.pipeline import RunObserver, discover
from edge_pruning.runs.result import Run
from edge_pruning.runs.seeds import SeedRuns, discover_seeds

__all__ = [
    "Bench",
    "Run",
    "RunConfig",
    "RunFolder",
    "RunObserver",
    "SeedRuns",
    "curve_file",
    "discover",
    "discover_seeds",
    "evaluate_file",
    "report_file",
    "report_path",
    "write_report",
]
