"""Caveats: what a reader should know before quoting an evaluation, in short sentences with numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.evaluation import Evaluation
from edge_pruning.evaluation.faithfulness_scale import FaithfulnessScale
from edge_pruning.evaluation.measure import Measurements
from edge_pruning.evaluation.protocol import EvaluationProtocol
from edge_pruning.evaluation.summary import Summary
from edge_pruning.objectives import get_objective

DANGLING = 0.1  # of the circuit's edges
DISCRETISATION = 0.1  # of the loss between the empty circuit and the model
ACCURACY = 0.75
FEW_EXAMPLES = 30
LEFT_WITHOUT = 0.2  # of the faithfulness, without the circuit's edges
SIZE = 0.05  # relative difference between the sizes of the soft mask and the circuit


def caveats(evaluation: Evaluation, circuit: Circuit) -> Iterator[str]:
    """Return all caveats about the evaluation of a circuit; empty for an unremarkable one."""
    yield from about_the_measurement(evaluation.protocol, evaluation.scale, evaluation.runs)
    yield from _about_the_circuit(evaluation, circuit)
    if evaluation.soft is not None:
        yield from _about_the_soft_mask(evaluation, evaluation.soft)


def about_the_measurement(
    protocol: EvaluationProtocol, scale: FaithfulnessScale, runs: Mapping[str, Measurements]
) -> Iterator[str]:
    """Return the caveats about the pairs and the scale of a measurement."""
    yield from _about_the_data(protocol, scale.model)
    yield from _about_the_scale(scale)
    broken = [name for name, run in runs.items() if not run.loss.isfinite().all()]
    if broken:
        words = get_objective(scale.model.loss_name).short
        yield f"the {words} of some pairs is not finite ({', '.join(broken)}): some logits are infinite or NaN"


def _about_the_data(protocol: EvaluationProtocol, model: Measurements) -> Iterator[str]:
    yield from protocol.notices
    right = float(model.accuracy.mean())
    if 0 < protocol.predicted < protocol.examples:
        yield f"{protocol.predicted} of {protocol.examples} pairs are judged by the model's own prediction"
    if right < ACCURACY:
        yield f"the model itself is right on only {percent(right)} of the pairs, so there may be little to find"
    if protocol.split == "train":
        yield "measured on the training split, not on held-out pairs"
    if protocol.examples < FEW_EXAMPLES:
        yield f"only {protocol.examples} pairs: the means, and the quantiles even more, are imprecise"
    missing = int(model.difference.isnan().sum())
    if 0 < missing < protocol.examples:
        yield f"{missing} of {protocol.examples} pairs have no wrong answer, so no {protocol.metric}"
    if protocol.dtype not in ("float32", "float64"):
        yield f"the model ran in {protocol.dtype}; quote numbers from float32 instead"


def _about_the_scale(scale: FaithfulnessScale) -> Iterator[str]:
    span, error = scale.span, scale.span_error
    if not scale.defined:
        yield f"faithfulness is undefined: the model and the empty circuit differ by only {span:.1e}"
    elif span < 0:
        yield f"the model scores lower than the empty circuit (by {-span:.3g}), so the sign of faithfulness is reversed"
    elif span < 3 * error:
        yield f"faithfulness is noise: the model is {span:.3g} ahead of the empty circuit, standard error {error:.3g}"


def _about_the_circuit(evaluation: Evaluation, circuit: Circuit) -> Iterator[str]:
    edges, kept, total = evaluation.circuit.edges, evaluation.circuit.edges_without_dangling, circuit.graph.n_edges
    if edges in (0, total):
        yield f"the circuit is {'the whole model' if edges else 'empty: it has no edges'}, so there is nothing to judge"
    if edges - kept > DANGLING * edges:
        yield (
            f"{percent((edges - kept) / edges)} of the circuit's edges ({edges - kept:,} of {edges:,}) dangle: "
            "they lie on no path from the input to the logits"
        )
    left = evaluation.complement.faithfulness
    if 0 < edges < total and left > LEFT_WITHOUT:
        yield (
            f"the circuit is incomplete: {percent(left)} of the faithfulness is left when exactly its edges are "
            "removed from the model"
        )
    if evaluation.random is not None and 0 < edges < total:
        own, random = evaluation.circuit[evaluation.loss], evaluation.random[evaluation.loss]
        if own >= random:
            words = get_objective(evaluation.loss).short
            yield (
                f"the circuit ({words} {own:.3g}) is no closer to the model than random circuits of its size ({words} "
                f"{random:.3g})"
            )


def _about_the_soft_mask(evaluation: Evaluation, mask: Summary) -> Iterator[str]:
    edges, size = evaluation.circuit.edges, mask.edges
    if abs(size - edges) > max(1, SIZE * edges):
        yield f"the soft mask sums to {size:.1f} edges, the circuit has {edges:,}: the gap compares different sizes"
    gap = evaluation.discretisation_gap
    if gap is not None and gap > DISCRETISATION * evaluation.empty[evaluation.loss]:
        words, soft = get_objective(evaluation.loss).short, mask[evaluation.loss]
        hard = soft + gap  # the circuit on the soft mask's pairs
        yield (
            f"rounding the mask to 0 and 1 loses much: {words} {soft:.3g} of the soft mask, {hard:.3g} of the "
            "circuit"
        )


def percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"
