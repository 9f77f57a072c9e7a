"""Faithfulness of a circuit: the model, the circuit, the empty circuit and random circuits on the same held-out pairs.

Every removed edge carries its ablated value; the predictions at the answer positions are compared. Lower KL is more
faithful; so are higher accuracy, exact match, and faithfulness up to 1. The trained soft mask, the circuit, and the
circuit without dangling edges are reported together: the difference between the first two is the discretisation gap.
The complement (all edges but the circuit's) measures completeness: the less is left without the circuit, the better.

Cost: one frozen pass and `random_circuits` + 2 or 3 masked forward passes over the pairs, no backward pass. On large
graphs, only the model, the circuit and the empty circuit run on all pairs. The complement and the soft mask, which need
every node, and random circuits run on some of the pairs, and random circuits only until their mean is precise enough.
Every summary includes its number of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.bootstrap import Resamples
from edge_pruning.evaluation.caveats import caveats
from edge_pruning.evaluation.evaluation import SIDE_BY_SIDE, Evaluation
from edge_pruning.evaluation.faithfulness_scale import FaithfulnessScale
from edge_pruning.evaluation.measure import (
    CIRCUIT_SHARE,
    LARGE,
    LARGE_PAIRS,
    Measurements,
    Progress,
    error_of_mean,
    measure,
    problems_with,
)
from edge_pruning.evaluation.protocol import RUNS, EvaluationProtocol, definitions_of
from edge_pruning.evaluation.summary import summarise
from edge_pruning.graph import Graph
from edge_pruning.setup import Setup
from edge_pruning.truth.recovery import GroundTruth

RANDOM_CIRCUITS = 10
FEWEST_BASELINES = 3
BASELINE_ERROR = 0.1  # of the distance between the circuit's loss and that of random ones


def evaluate(
    circuit: Circuit,
    setup: Setup,
    *,
    soft_mask: Tensor | None = None,
    random_circuits: int = RANDOM_CIRCUITS,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the model with only the circuit's edges intact, and measure how much of its behaviour is left.

    setup: the model, pairs and ablation to judge the circuit on.
    soft_mask: the trained mask [w, r], 0 to 1, that the circuit was cut from.
    random_circuits: the largest number of `random_mask`s for comparison.
    progress: called with the number of finished pairs and the total.

    Works in any dtype, which the result records. Raises ValueError with all problems for a circuit or mask of another
    graph, no pairs, or an unknown metric.
    """
    _check(circuit, setup, soft_mask, random_circuits)
    graph, zero = setup.graph, torch.zeros_like(circuit.mask)
    masks = {"circuit": circuit.mask, "without_dangling": graph.without_dangling(circuit.mask), "empty": zero}
    others = {"complement": graph.edge_mask & ~circuit.mask}
    if soft_mask is not None:
        others["soft"] = soft_mask.detach().cpu() * graph.edge_mask
    generator = torch.Generator().manual_seed(setup.seed)
    random = [random_mask(graph, len(circuit), generator) for _ in range(random_circuits)]
    if graph.n_edges > LARGE:
        runs = _on_all_pairs(setup, masks, [], progress)
        runs |= _on_some_pairs(setup, others, random, runs["circuit"])
    else:
        runs = _on_all_pairs(setup, masks | others, random, progress)
    return _evaluation(circuit, setup, runs, _sizes(circuit, masks | others, random[: len(runs.get("random", ()))]))


def expected_passes(edges: int, pairs: int) -> float:
    """Estimate the full masked forward passes of one pair that `evaluate` runs on a graph with this number of edges.

    A frozen pass counts as one. The empty circuit takes none. The circuit with and without its dangling edges is one
    run. Random circuits of a small graph hardly ever form a path. Circuits of a large graph need most nodes.
    """
    if edges <= LARGE:
        return (3 + CIRCUIT_SHARE) * pairs  # frozen, complement, soft mask
    return 2 * pairs + (3 + FEWEST_BASELINES) * min(pairs, LARGE_PAIRS)


def _on_all_pairs(
    setup: Setup, masks: Mapping[str, Tensor], random: Sequence[Tensor], progress: Progress | None
) -> dict[str, Measurements]:
    """Measure the model, every mask and the random circuits."""
    model, measured = measure(setup, [*masks.values(), *random], setup.pairs, progress=progress)
    runs = {"model": model} | {name: measured.one(i) for i, name in enumerate(masks)}
    return runs | ({"random": measured[len(masks) :]} if random else {})


def _on_some_pairs(
    setup: Setup, masks: Mapping[str, Tensor], random: Sequence[Tensor], circuit: Measurements
) -> dict[str, Measurements]:
    """Measure the masks and random circuits on some of the pairs.

    Random circuits are added, a few at a time, until they can be distinguished from the circuit: until the standard
    error of their mean loss, between circuits, is a small share of its distance from the circuit's loss. Those measured
    together share frozen values, which are not kept: for 100 pairs, they would take more memory than all else here.
    """
    n = len(setup.pairs.pairs)
    ids = torch.arange(n)
    if n > LARGE_PAIRS:
        ids = torch.randperm(n, generator=torch.Generator().manual_seed(setup.seed))[:LARGE_PAIRS].sort().values
    some = setup.pairs.subset(ids.tolist())

    def measured(several: Sequence[Tensor]) -> list[Measurements]:
        _, found = measure(setup, several, some)
        return [replace(found.one(i), ids=None if len(ids) == n else ids) for i in range(len(several))]

    found = measured([*masks.values(), *random[:FEWEST_BASELINES]])
    runs, baselines = dict(zip(masks, found, strict=False)), found[len(masks) :]
    while len(baselines) < len(random) and not _precise(baselines, circuit.on(ids)):
        baselines += measured(random[len(baselines) : len(baselines) + FEWEST_BASELINES])
    if baselines:
        values = {name: torch.cat([run.values[name] for run in baselines]) for name in circuit.values}
        runs["random"] = replace(baselines[0], values=values)
    return runs


def _precise(baselines: Sequence[Measurements], circuit: Measurements) -> bool:
    """Whether the mean loss of random circuits is known well enough to tell it from the circuit's."""
    means = torch.stack([run.loss.mean() for run in baselines])
    distance = (means.mean() - circuit.loss.mean()).abs()
    return len(baselines) >= FEWEST_BASELINES and error_of_mean(means) <= BASELINE_ERROR * float(distance)


def _evaluation(
    circuit: Circuit,
    setup: Setup,
    runs: Mapping[str, Measurements],
    sizes: Mapping[str, Mapping[str, int | float | str]],
) -> Evaluation:
    """Summarise the measurements, with caveats."""
    protocol, pairs, loss = EvaluationProtocol.of(setup), setup.pairs, runs["model"].loss_name
    scale = FaithfulnessScale(runs["model"], runs["empty"], protocol.metric)
    resamples = {n: Resamples(n, protocol.seed) for n in {run.examples for run in runs.values()}}
    evaluation = Evaluation(
        protocol,
        loss,
        circuit.graph.convention,
        {
            name: summarise(runs[name], scale, resamples[runs[name].examples], sizes[name])
            for name in SIDE_BY_SIDE if name in runs
        },
        {**definitions_of(protocol, scale), **RUNS},
        discretisation_gap=_gap(runs),
        templates=_by_template(runs, tuple(pair.template for pair in pairs.pairs)),
        ground_truth=GroundTruth.of(circuit, setup.truth, pairs.hash, seed=setup.seed).result if setup.truth else None,
        runs=runs,
    )
    return replace(evaluation, warnings=tuple(caveats(evaluation, circuit)))


def _gap(runs: Mapping[str, Measurements]) -> float | None:
    """Return the loss of the circuit minus that of the soft mask, on the pairs of the soft mask."""
    soft = runs.get("soft")
    return None if soft is None else runs["circuit"].on(soft.ids).mean_loss - soft.mean_loss


def _by_template(runs: Mapping[str, Measurements], templates: Sequence[str]) -> dict[str, dict[str, float]]:
    breakdown = {}
    for template in sorted(set(templates) - {""}):
        of = torch.tensor([t == template for t in templates])
        breakdown[template] = {
            "n": int(of.sum()),
            runs["model"].loss_name: float(runs["circuit"].loss[:, of].mean()),
            "accuracy": float(runs["circuit"].accuracy[:, of].mean()),
            "model_accuracy": float(runs["model"].accuracy[:, of].mean()),
        }
    return breakdown


def random_mask(graph: Graph, edges: int, generator: torch.Generator) -> Tensor:
    """Draw a circuit of `edges` edges uniformly from all edges of the graph; bool [w, r]. The generator is a CPU one.

    Its size is counted before dangling edges are removed, as for the circuit. This makes it a weak baseline: a few
    edges drawn from many hardly ever form a path, so small random circuits are close to the empty one (the evaluation
    reports how many of their edges do not dangle). A circuit that beats them was not drawn blindly, but may still have
    the wrong edges.
    """
    chosen = torch.randperm(graph.n_edges, generator=generator)[:edges]
    mask = torch.zeros_like(graph.edge_mask)
    w, r = graph.edge_mask.nonzero()[chosen].unbind(1)
    mask[w, r] = True
    return mask


def _sizes(
    circuit: Circuit,
    masks: Mapping[str, Tensor],
    random: Sequence[Tensor],
) -> dict[str, dict[str, int | float | str]]:
    """Return the size of each run's circuit."""
    counts = circuit.counts
    sizes: dict[str, dict[str, int | float | str]] = {
        "model": {"edges": circuit.graph.n_edges},
        "circuit": dict(counts),
        "without_dangling": {"edges": counts["edges_without_dangling"]},
        "complement": {"edges": circuit.graph.n_edges - len(circuit)},
        "empty": {"edges": 0},
    }
    if random:
        connected = [float(circuit.graph.without_dangling(mask).sum()) for mask in random]
        mean = sum(connected) / len(connected)
        sizes["random"] = {"circuits": len(connected), "edges": len(circuit), "edges_without_dangling": mean}
    if "soft" in masks:
        sizes["soft"] = {"edges": float(masks["soft"].double().sum())}
    return sizes


def _check(circuit: Circuit, setup: Setup, soft_mask: Tensor | None, random_circuits: int) -> None:
    problems = list(problems_with(circuit.graph, "circuit", setup))
    if soft_mask is not None and soft_mask.shape != circuit.mask.shape:
        problems.append(
            f"expected a soft mask [writer, reader] of shape {tuple(circuit.mask.shape)}, got {tuple(soft_mask.shape)}"
        )
    elif soft_mask is not None and not ((soft_mask >= 0) & (soft_mask <= 1)).cpu()[circuit.graph.edge_mask].all():
        problems.append("expected a soft mask from 0 to 1 on every edge, got other values; pass a mask, not scores")
    if random_circuits < 0:
        problems.append(f"expected random_circuits to be at least 0, got {random_circuits}")
    if problems:
        raise ValueError("; ".join(problems))
