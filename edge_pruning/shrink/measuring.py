"""How good a smaller model is, and what it costs: measured on held-out examples, beside the original.

kl          KL(original || smaller) at the compared positions, in nats; lower is better, 0 for the original
agreement   share of examples on which both models have the same most likely output
accuracy    the task's; for images, share of examples whose class is the most likely one of all classes
flops       of one example, as torch counts the matrix products that are run
seconds     per example, the median of runs that alternate with the original's, so that both meet the same load
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edge_pruning import metrics
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.pair import ImagePair
from edge_pruning.shrink.running import batches, outputs
from edge_pruning.tasks.task import PairSet

RUNS, AT_LEAST, SECONDS = 15, 3, 10.0  # runs of each model; after so many seconds no more, but at least so many
AT_A_TIME = (1, 64)  # examples in a timed run


@torch.no_grad()
def quality(hf: Any, engine: MaskedPass, pairs: PairSet) -> dict[str, float]:
    """KL, agreement and accuracy of a model, means over the pairs; `engine` runs the original."""
    totals = {"kl": 0.0, "agreement": 0.0, "accuracy": 0.0}
    for batch in batches(engine, pairs.pairs):
        expected, found = outputs(engine.adapter.hf, batch), outputs(hf, batch)
        totals["kl"] += float(metrics.kl_divergence(expected, found, batch).sum())
        totals["agreement"] += float(metrics.exact_match(expected, found, batch).sum())
        totals["accuracy"] += float(accuracy(found, batch, pairs).sum())
    return {name: total / len(pairs.pairs) for name, total in totals.items()}


def accuracy(logits: Tensor, batch: Batch, pairs: PairSet) -> Tensor:
    """The task's accuracy, 1 or 0 per example [b]; an image's class has to be the most likely one of all."""
    if isinstance(pairs.pairs[0], ImagePair):
        batch = replace(batch, wrong=torch.full_like(batch.wrong, -1))
    return metrics.accuracy(logits, batch, pairs.metric)


def parameters(hf: Any) -> int:
    return sum(weights.numel() for weights in hf.parameters())


@torch.no_grad()
def flops(hf: Any, inputs: Tensor) -> int:
    """FLOPs of a run on the first input. Attention is run eagerly, because not all fused kernels are counted."""
    before = hf.config._attn_implementation
    hf.set_attn_implementation("eager")
    try:
        with FlopCounterMode(display=False) as counter:
            hf(inputs[:1])
    finally:
        hf.set_attn_implementation(before)
    return int(counter.get_total_flops())


def seconds_of_models(models: Mapping[str, Any], inputs: Sequence[Tensor]) -> dict[str, dict[str, float]]:
    """Median seconds per example of each model, by the number of examples at a time."""

    def prepared(hf: Any) -> Callable[[Tensor], Callable[[], object]]:
        return lambda x: lambda: hf(x)

    return timed({name: prepared(hf) for name, hf in models.items()}, inputs)


def inputs_to_time(engine: MaskedPass, pairs: PairSet) -> list[Tensor]:
    """Inputs of 1 and of 64 examples, or of as many as there are. Texts all have the most common length."""
    widths = [engine.width(pair) for pair in pairs.pairs]
    usual = statistics.mode(widths)
    alike = [pair for pair, width in zip(pairs.pairs, widths, strict=True) if width == usual]
    sizes = sorted({min(n, len(alike)) for n in AT_A_TIME})
    return [engine.batch(alike[:n]).clean for n in sizes]


@torch.no_grad()
def timed(
    models: Mapping[str, Callable[[Tensor], Callable[[], object]]], inputs: Sequence[Tensor]
) -> dict[str, dict[str, float]]:
    """Median seconds per example of each model, by the number of examples; the models' runs alternate.

    models: by name, a function of inputs that returns a function that runs the model on them.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for x in inputs:
        calls = {name: model(x) for name, model in models.items()}
        taken: dict[str, list[float]] = {name: [] for name in models}
        for call in calls.values():  # not timed: a first run also sets things up
            call()
        began_all = time.perf_counter()
        for run in range(RUNS):
            if run >= AT_LEAST and time.perf_counter() - began_all > SECONDS:
                break
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                taken[name].append(time.perf_counter() - began)
        for name, seconds in taken.items():
            found[name][str(len(x))] = statistics.median(seconds) / len(x)
    return found
