"""The second half of a run: cut circuits from scores, choose one, evaluate it on held-out pairs.

Splits are kept apart: scores come from training pairs, a size that was left open is chosen on validation pairs, and
test pairs are for the report only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.circuit import Circuit
from edge_pruning.discovery import polish
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import Evaluation, evaluate
from edge_pruning.evaluation.measure import LARGE, LARGE_PAIRS, Measurements, measure
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.observer import RunObserver
from edge_pruning.runs.result import Cut, Run, circuit_file
from edge_pruning.runs.search import SearchResult, describe
from edge_pruning.runs.sizes import EXACT_RULE, FAITHFUL, RULE, evaluated_row, scanned_row, smallest_faithful
from edge_pruning.runs.stages import CHOOSING, evaluating
from edge_pruning.setup import Setup
from edge_pruning.tasks import PairSet


def cut_circuits(
    config: RunConfig, setup: Setup, searches: Sequence[SearchResult], sizes: Sequence[int], folder: Path | None
) -> list[Cut]:
    """A circuit of every size, not judged yet; in the run folder, if there is one, before anything can go wrong."""
    provenance = {**describe(config, setup), "requested": list(sizes)}
    if not sizes and searches[0].scores.natural_size is None:
        provenance["size_rule"] = EXACT_RULE if config.task_value.exact else RULE
    cuts = [
        Cut(Circuit.from_scores(part.scores, edges=size, provenance=provenance), None, {}, part.part)
        for part in searches for size in part.sizes
    ]
    if folder is not None and not config.polish:
        for cut in cuts:
            path = folder / circuit_file(cut if len(cuts) > 1 else None)
            cut.circuit.save(path, scores_file=cut.scores_file, write_scores=False)
    return cuts


def judge(
    config: RunConfig,
    setup: Setup,
    searches: Sequence[SearchResult],
    sizes: Sequence[int],
    folder: Path | None,
    watch: RunObserver,
) -> Run:
    """Judge the circuits cut from the scores, in float32. sizes: those that were asked for; all of them are evaluated.

    Where the size was left open, only the chosen circuit is evaluated.
    """
    setup = setup.judging
    cuts = cut_circuits(config, setup, searches, sizes, folder)
    circuits, scores = [cut.circuit for cut in cuts], [part.scores for part in searches for _ in part.sizes]
    if config.polish and sizes:
        circuits = [_polished(setup, circuit, watch) for circuit in circuits]
    if not sizes and len(circuits) > 1 and setup.graph.n_edges > LARGE:
        kept, scanned, chosen = _choose_by_halving(setup, circuits, watch)
        cuts, circuits, scores = [cuts[i] for i in kept], [circuits[i] for i in kept], [scores[i] for i in kept]
    else:
        scanned, chosen = _choose(setup, circuits, watch)
    if config.polish and not sizes:  # all of them would cost more than the search
        circuits[chosen] = _polished(setup, circuits[chosen], watch)
        scanned[chosen : chosen + 1] = (
            _scan(setup, [circuits[chosen].mask], setup.validation, watch) if scanned else []
        )
    done = []
    for i, circuit in enumerate(circuits):
        judged = sizes or i == chosen
        evaluation = _evaluate(config, setup, circuit, scores[i], watch) if judged else None
        row = scanned_row(circuit, scanned[i]) if scanned and not sizes else None
        if row is None and evaluation is not None:
            row = evaluated_row(evaluation, scanned[i] if scanned else None)
        done.append(Cut(circuit, evaluation, row or {}, cuts[i].part))
    training = {part.part: part.records for part in searches}
    content = {"settings": config.to_json(), **describe(config, setup)}
    return Run(tuple(done), chosen, training, content, setup.train.notices)


def _choose(setup: Setup, circuits: Sequence[Circuit], watch: RunObserver) -> tuple[list[Measurements], int]:
    """What every circuit scores on validation pairs, and which of them is the run's; one needs no choice."""
    if len(circuits) == 1:
        return [], 0
    masks = [*(circuit.mask for circuit in circuits), torch.zeros_like(circuits[0].mask)]
    *scanned, empty = _scan(setup, masks, setup.validation, watch)
    return scanned, smallest_faithful([run.mean_loss for run in scanned], empty.mean_loss)


def _choose_by_halving(
    setup: Setup, circuits: Sequence[Circuit], watch: RunObserver
) -> tuple[list[int], list[Measurements], int]:
    """The same where each look is expensive: by halving, because the loss falls with size, and on some of the pairs.

    Returns which circuits were looked at, what they score, and which of these is the run's. All looks share the frozen
    values of the pairs.
    """
    pairs = setup.validation.sample(LARGE_PAIRS, setup.seed)
    cache = FrozenCache(setup.engine, pairs.pairs, setup.ablation)
    (empty,) = _scan(setup, [torch.zeros_like(circuits[0].mask)], pairs, watch, cache)
    seen: dict[int, Measurements] = {}
    low, high = -1, len(circuits) - 1
    while high - low > 1 or high not in seen:
        middle = (low + high) // 2 if high - low > 1 else high
        (seen[middle],) = _scan(setup, [circuits[middle].mask], pairs, watch, cache)
        if seen[middle].mean_loss <= FAITHFUL * empty.mean_loss:
            high = middle
        else:
            low = middle
        if low == len(circuits) - 1:  # not even the largest is faithful; it is the circuit all the same
            break
    kept = sorted(seen)
    return kept, [seen[i] for i in kept], kept.index(high)


def _scan(
    setup: Setup,
    masks: Sequence[Tensor],
    pairs: PairSet,
    watch: RunObserver,
    cache: FrozenCache | None = None,
) -> list[Measurements]:
    """What each mask scores on validation pairs, at one masked pass each. cache: see `measure`."""
    _, measured = measure(setup, masks, pairs, cache=cache, progress=partial(watch.stage, CHOOSING))
    return [measured.one(i) for i in range(len(masks))]


def _polished(setup: Setup, circuit: Circuit, watch: RunObserver) -> Circuit:
    """Swapped edges, judged on training pairs."""
    watch.stage(f"polishing {len(circuit):,} edges")
    return polish(circuit, setup.engine, setup.train, setup.ablation)


def _evaluate(
    config: RunConfig, setup: Setup, circuit: Circuit, scores: EdgeScores, watch: RunObserver
) -> Evaluation:
    return evaluate(
        circuit, setup, soft_mask=config.method_value.soft_mask(scores, len(circuit)),
        progress=partial(watch.stage, evaluating(len(circuit) if config.edges or config.sparsity else 0)),
    )
