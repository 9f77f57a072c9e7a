"""Sweeps: grids of runs that any number of processes on any number of machines work off together."""

from edge_pruning.sweep.folder import CellState, SweepFolder, open_sweep
from edge_pruning.sweep.forecast import CellPlan, forecast
from edge_pruning.sweep.grid import Cell, Sweep
from edge_pruning.sweep.results import write_report
from edge_pruning.sweep.slurm import submit
from edge_pruning.sweep.start import run_workers
from edge_pruning.sweep.work import Worker

__all__ = [
    "Cell", "CellPlan", "CellState", "Sweep", "SweepFolder", "Worker", "forecast", "open_sweep", "run_workers",
    "submit", "write_report",
]
