"""How faithful a circuit is: the model, the circuit, no circuit and random circuits, on the same held-out pairs.

Every removed edge carries its ablated value; what is compared are the predictions at the answer positions. Lower KL is
more faithful; so is higher accuracy, exact match and faithfulness up to 1. The trained soft mask, the circuit and the
circuit without dangling edges stand side by side: what is lost between the first two is the discretisation gap.

Cost: one frozen pass and `random_circuits` + 3 or 4 masked forward passes over the pairs, no backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.ablation import Ablation
from edge_pruning.batch import Batch, Pair
from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.evaluation import Conditions, Evaluation
from edge_pruning.evaluation.measured import Measured
from edge_pruning.forward import MaskedPass
from edge_pruning.graph import Graph
from edge_pruning.tasks.task import PairSet

Progress = Callable[[int, int], None]


@torch.no_grad()
def evaluate(
    circuit: Circuit,
    engine: MaskedPass,
    pairs: PairSet,
    ablation: Ablation,
    *,
    soft_mask: Tensor | None = None,
    random_circuits: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the model with only the circuit's edges intact, and measure how much of its behaviour is left.

    soft_mask: the trained mask [w, r], 0 to 1, that the circuit was cut from. random_circuits: how many `random_mask`s
    to compare with. progress: called with pairs done and pairs in all. Works in any dtype; numbers to be quoted should
    come from a float32 engine (the result says which it was). Raises ValueError, with all problems, for a circuit or
    mask of another graph, no pairs, or an unknown metric.
    """
    _check(circuit, engine, pairs, soft_mask, random_circuits)
    graph = engine.graph
    generator = torch.Generator().manual_seed(seed)
    random = [random_mask(graph, len(circuit), generator) for _ in range(random_circuits)]
    masks = {
        "circuit": [circuit.mask],
        "without_dangling": [graph.without_dangling(circuit.mask)],
        "empty": [torch.zeros_like(circuit.mask)],
        **({"random": random} if random else {}),
        **({"soft": [soft_mask.detach().cpu() * graph.edge_mask]} if soft_mask is not None else {}),
    }
    conditions = Conditions(
        pairs.task, pairs.split, pairs.metric, pairs.hash, len(pairs.pairs), ablation.name, ablation.description,
        str(engine.adapter.dtype).removeprefix("torch."), seed,
    )
    runs = _run_all(engine, masks, pairs, ablation, progress)
    return Evaluation(circuit, conditions, runs, _sizes(circuit, masks), tuple(pair.template for pair in pairs.pairs))


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


def _run_all(
    engine: MaskedPass, masks: Mapping[str, list[Tensor]], pairs: PairSet, ablation: Ablation, progress: Progress | None
) -> dict[str, Measured]:
    """Every mask on every pair, a tile at a time: what is frozen is computed once and serves all masks."""
    device = engine.adapter.device
    on_device = [mask.to(device, torch.float32) for group in masks.values() for mask in group]
    found, order = [], []
    for ids in engine.tiles(pairs.pairs):
        found.append(_run_tile(engine, on_device, [pairs.pairs[i] for i in ids], ablation, pairs.metric))
        order += ids
        if progress:
            progress(len(order), len(pairs.pairs))
    values = torch.cat(found, -1).cpu().double()  # [number, run, b], the only wait for the device
    values = values[..., torch.tensor(order).argsort()]
    sizes = {"model": 1} | {name: len(group) for name, group in masks.items()}
    parts = torch.split(values, list(sizes.values()), 1)
    return {name: Measured(*part) for name, part in zip(sizes, parts, strict=True)}


def _run_tile(
    engine: MaskedPass, masks: Sequence[Tensor], pairs: Sequence[Pair], ablation: Ablation, metric: str
) -> Tensor:
    """The numbers of `Measured` for the model and all masks on a few pairs: [number, run, b]."""
    batch = engine.batch(pairs)
    frozen = ablation.freeze(engine, batch)
    runs = [_numbers(frozen.logits, frozen.logits, batch, metric)]
    runs += [_numbers(frozen.logits, engine.logits(mask, batch, frozen), batch, metric) for mask in masks]
    return torch.stack(runs, 1)


def _numbers(model: Tensor, logits: Tensor, batch: Batch, metric: str) -> Tensor:
    """In the order of `Measured`, [number, b]."""
    kl = metrics.kl_divergence(model, logits, batch)
    difference = metrics.DIFFERENCES[metric](logits, batch)
    hits = metrics.accuracy(logits, batch, metric), metrics.exact_match(model, logits, batch)
    return torch.stack([kl, difference, *(hit.to(kl.dtype) for hit in hits)])


def _sizes(circuit: Circuit, masks: Mapping[str, list[Tensor]]) -> dict[str, dict[str, int | float | str]]:
    """How large each run's circuit is."""
    kept = circuit.counts["edges_without_dangling"]
    sizes: dict[str, dict[str, int | float | str]] = {
        "model": {"edges": circuit.graph.n_edges},
        "circuit": dict(circuit.counts),
        "without_dangling": {"edges": kept},
        "empty": {"edges": 0},
    }
    if "random" in masks:
        connected = [float(circuit.graph.without_dangling(mask).sum()) for mask in masks["random"]]
        mean = sum(connected) / len(connected)
        sizes["random"] = {"circuits": len(connected), "edges": len(circuit), "edges_without_dangling": mean}
    if "soft" in masks:
        sizes["soft"] = {"edges": float(masks["soft"][0].double().sum())}
    return sizes


def _check(
    circuit: Circuit, engine: MaskedPass, pairs: PairSet, soft_mask: Tensor | None, random_circuits: int
) -> None:
    problems = []
    if circuit.graph != engine.graph:
        problems.append(
            f"the circuit is of another graph than the engine: {circuit.graph.shape} ({circuit.graph.convention}) and "
            f"{engine.graph.shape} ({engine.graph.convention}); make the engine with graph=circuit.graph"
        )
    elif soft_mask is not None and soft_mask.shape != circuit.mask.shape:
        problems.append(
            f"expected a soft mask [writer, reader] of shape {tuple(circuit.mask.shape)}, got {tuple(soft_mask.shape)}"
        )
    elif soft_mask is not None and not ((soft_mask >= 0) & (soft_mask <= 1)).cpu()[circuit.graph.edge_mask].all():
        problems.append("expected a soft mask from 0 to 1 on every edge, got other numbers; give a mask, not scores")
    if not pairs.pairs:
        problems.append(f"task {pairs.task!r} has no pairs in split {pairs.split!r}; expected at least one")
    if pairs.metric not in metrics.DIFFERENCES:
        problems.append(f"expected a metric {', '.join(metrics.DIFFERENCES)}; got {pairs.metric!r}")
    if random_circuits < 0:
        problems.append(f"expected random_circuits of 0 or more, got {random_circuits}")
    if problems:
        raise ValueError("; ".join(problems))
