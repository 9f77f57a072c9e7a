"""The stages of a run: their names on the progress bar, and their work."""

from __future__ import annotations

from collections.abc import Sequence

from edge_pruning.discovery import Search
from edge_pruning.evaluation.faithfulness import expected_passes
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.sizes import choosing_passes, default_sizes
from edge_pruning.setup import Setup

GRADIENT_PASS, WHOLE_GRADIENT, FROZEN_PASS = 3.0, 2.0, 1.0  # in masked forward passes, roughly
CHOOSING = "choosing the size"


def searching(sizes: Sequence[int]) -> str:
    """Return the name of the search. sizes: the size that the search aims at, if any."""
    return "finding the circuit" + (f" of {sizes[0]:,} edges" if sizes else "")


def evaluating(size: int) -> str:
    """Return the name of the evaluation. size: 0 if it was left open."""
    return f"evaluating {size:,} edges" if size else "evaluating the circuit"


def planned_work(config: RunConfig, setup: Setup, sizes: Sequence[int]) -> dict[str, float]:
    """Return the work of each stage of a run by its name: masked forward passes of one pair, approximately."""
    graph, method = setup.graph, config.method_value
    offered = len(default_sizes(graph, graph.n_edges)) if method.one_run_ranks_all else 1
    tried = len(sizes) or offered
    passes = expected_passes(graph.n_edges, len(setup.pairs.pairs))
    judging = {evaluating(size): passes for size in sizes or (0,)}
    cost = method.cost(Search(setup.engine, setup.train, config.ablation_value))
    search = cost.weighed(gradient=GRADIENT_PASS, whole=WHOLE_GRADIENT, forward=1, frozen=FROZEN_PASS)
    search = sum(judging.values()) if search is None else max(1.0, search)  # unknown: half of the run
    once = method.one_run_ranks_all or len(sizes) <= 1
    work = {searching(()) if once else searching((k,)): search for k in ([0] if once else sizes)}
    if tried > 1:
        pairs = len(setup.validation.pairs)
        work[CHOOSING] = choosing_passes(graph.n_edges, tried, pairs, halve=not sizes)
    return work | judging
