"""How faithful a circuit is: the model, the circuit, no circuit and random circuits, on the same held-out pairs.

Every removed edge carries its ablated value; what is compared are the predictions at the answer positions. Lower KL is
more faithful; so is higher accuracy, exact match and faithfulness up to 1. The trained soft mask, the circuit and the
circuit without dangling edges stand side by side: what is lost between the first two is the discretisation gap. The
complement, all edges but the circuit's, says how complete it is: the less is left without the circuit, the better.

Cost: one frozen pass and `random_circuits` + 4 or 5 masked forward passes over the pairs, no backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.conditions import Conditions
from edge_pruning.evaluation.evaluation import Evaluation
from edge_pruning.evaluation.measure import Progress, measure, problems_with
from edge_pruning.graph import Graph
from edge_pruning.setup import Setup
from edge_pruning.truth.recovery import GroundTruth


def evaluate(
    circuit: Circuit,
    setup: Setup,
    *,
    soft_mask: Tensor | None = None,
    random_circuits: int = 10,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the model with only the circuit's edges intact, and measure how much of its behaviour is left.

    setup: the model, pairs and ablation to judge it on. soft_mask: the trained mask [w, r], 0 to 1, that the circuit
    was cut from. random_circuits: how many `random_mask`s to compare with. progress: called with pairs done and pairs
    in all. Works in any dtype, and the result says which it was. Raises ValueError, with all problems, for a circuit or
    mask of another graph, no pairs, or an unknown metric.
    """
    _check(circuit, setup, soft_mask, random_circuits)
    graph, pairs = setup.graph, setup.pairs
    generator = torch.Generator().manual_seed(setup.seed)
    random = [random_mask(graph, len(circuit), generator) for _ in range(random_circuits)]
    masks = {
        "circuit": [circuit.mask],
        "without_dangling": [graph.without_dangling(circuit.mask)],
        "complement": [graph.edge_mask & ~circuit.mask],
        "empty": [torch.zeros_like(circuit.mask)],
        **({"random": random} if random else {}),
        **({"soft": [soft_mask.detach().cpu() * graph.edge_mask]} if soft_mask is not None else {}),
    }
    model, measured = measure(setup, [mask for group in masks.values() for mask in group], pairs, progress=progress)
    runs, first = {"model": model}, 0
    for name, group in masks.items():
        runs[name], first = measured[first : first + len(group)], first + len(group)
    templates = tuple(pair.template for pair in pairs.pairs)
    known = None if setup.truth is None else GroundTruth.of(circuit, setup.truth, pairs.hash, seed=setup.seed)
    conditions = Conditions.of(setup)
    return Evaluation(circuit, conditions, runs, _sizes(circuit, masks), templates, known)


def random_mask(graph: Graph, edges: int, generator: torch.Generator) -> Tensor:
    """A circuit of `edges` edges drawn uniformly from all edges of the graph; bool [w, r]. The generator is a CPU one.

    Its size is counted before dangling edges are removed, as the circuit's is. That makes it a lenient opponent: few
    edges drawn from many hardly ever form a path, so small random circuits are little more than the empty one (the
    evaluation says how many of their edges do not dangle). Beating them shows that the edges were not drawn blindly,
    not that they are the right ones.
    """
    chosen = torch.randperm(graph.n_edges, generator=generator)[:edges]
    mask = torch.zeros_like(graph.edge_mask)
    w, r = graph.edge_mask.nonzero()[chosen].unbind(1)
    mask[w, r] = True
    return mask


def _sizes(circuit: Circuit, masks: Mapping[str, list[Tensor]]) -> dict[str, dict[str, int | float | str]]:
    """How large each run's circuit is."""
    kept = circuit.counts["edges_without_dangling"]
    sizes: dict[str, dict[str, int | float | str]] = {
        "model": {"edges": circuit.graph.n_edges},
        "circuit": dict(circuit.counts),
        "without_dangling": {"edges": kept},
        "complement": {"edges": circuit.graph.n_edges - len(circuit)},
        "empty": {"edges": 0},
    }
    if "random" in masks:
        connected = [float(circuit.graph.without_dangling(mask).sum()) for mask in masks["random"]]
        mean = sum(connected) / len(connected)
        sizes["random"] = {"circuits": len(connected), "edges": len(circuit), "edges_without_dangling": mean}
    if "soft" in masks:
        sizes["soft"] = {"edges": float(masks["soft"][0].double().sum())}
    return sizes


def _check(circuit: Circuit, setup: Setup, soft_mask: Tensor | None, random_circuits: int) -> None:
    problems = list(problems_with(circuit.graph, "circuit", setup))
    if soft_mask is not None and soft_mask.shape != circuit.mask.shape:
        problems.append(
            f"expected a soft mask [writer, reader] of shape {tuple(circuit.mask.shape)}, got {tuple(soft_mask.shape)}"
        )
    elif soft_mask is not None and not ((soft_mask >= 0) & (soft_mask <= 1)).cpu()[circuit.graph.edge_mask].all():
        problems.append("expected a soft mask from 0 to 1 on every edge, got other numbers; give a mask, not scores")
    if random_circuits < 0:
        problems.append(f"expected random_circuits of 0 or more, got {random_circuits}")
    if problems:
        raise ValueError("; ".join(problems))
