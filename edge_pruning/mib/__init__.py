"""Submissions to the circuit track of MIB, the Mechanistic Interpretability Benchmark (Mueller and others 2025)."""

from edge_pruning.mib.cells import CELLS, MODELS, TASKS, Cell, cells_of
from edge_pruning.mib.rules import problems_of
from edge_pruning.mib.submission import Submission, submit

__all__ = ["CELLS", "MODELS", "TASKS", "Cell", "Submission", "cells_of", "problems_of", "submit"]
