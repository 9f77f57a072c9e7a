"""The second half of a run: cut circuits from scores, choose one, and evaluate it on held-out pairs.

Splits are kept apart: scores come from training pairs, an open size is chosen on validation pairs, and test pairs are
used for the report only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edge_pruning.circuit import Circuit
from edge_pruning.discovery import polish
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import Evaluation, evaluate
from edge_pruning.runs.choosing import choose, validated
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.observer import RunObserver
from edge_pruning.runs.result import Cut, Run, circuit_file
from edge_pruning.runs.search import SearchResult, describe
from edge_pruning.runs.sizes import EXACT_RULE, RULE, evaluated_row, scanned_row
from edge_pruning.runs.stages import CHOOSING, evaluating
from edge_pruning.setup import Setup


def cut_circuits(
    config: RunConfig, setup: Setup, searches: Sequence[SearchResult], sizes: Sequence[int], folder: Path | None
) -> list[Cut]:
    """Cut a circuit of every size without judging it, and write it into the run folder, if any, before anything can
    fail.
    """
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
    """Judge the circuits cut from the scores, in float32. sizes: the requested sizes, all of which are evaluated.

    If the size was left open, only the chosen circuit is evaluated.
    """
    cuts, description = cut_circuits(config, setup, searches, sizes, folder), describe(config, setup)
    setup = setup.judging
    circuits, scores = [cut.circuit for cut in cuts], [part.scores for part in searches for _ in part.sizes]
    if config.polish and sizes:
        circuits = [_polished(setup, circuit, watch) for circuit in circuits]
    choice = choose(setup, circuits, watch, halve=not sizes)
    scanned, chosen = choice.measured, choice.chosen
    cuts, circuits = [cuts[i] for i in choice.places], [circuits[i] for i in choice.places]
    scores = [scores[i] for i in choice.places]
    if config.polish and not sizes:  # polishing all sizes would cost more than the search
        circuits[chosen] = _polished(setup, circuits[chosen], watch)
        if scanned:
            progress = partial(watch.stage, CHOOSING)
            scanned[chosen : chosen + 1] = validated(setup, [circuits[chosen].mask], setup.validation, progress)
    done = []
    for i, circuit in enumerate(circuits):
        judged = sizes or i == chosen
        evaluation = _evaluate(config, setup, circuit, scores[i], watch) if judged else None
        row = scanned_row(circuit, scanned[i]) if scanned and not sizes else None
        if row is None and evaluation is not None:
            row = evaluated_row(evaluation, scanned[i] if scanned else None)
        done.append(Cut(circuit, evaluation, row or {}, cuts[i].part))
    training = {part.part: part.records for part in searches}
    content = {"settings": config.to_json(), **description}
    return Run(tuple(done), chosen, training, content, setup.train.notices)


def _polished(setup: Setup, circuit: Circuit, watch: RunObserver) -> Circuit:
    """Swap edges, judged on training pairs."""
    watch.stage(f"polishing {len(circuit):,} edges")
    return polish(circuit, setup.engine, setup.train, setup.ablation)


def _evaluate(
    config: RunConfig, setup: Setup, circuit: Circuit, scores: EdgeScores, watch: RunObserver
) -> Evaluation:
    return evaluate(
        circuit, setup, soft_mask=config.method_value.soft_mask(scores, len(circuit)),
        progress=partial(watch.stage, evaluating(len(circuit) if config.edges or config.sparsity else 0)),
    )
