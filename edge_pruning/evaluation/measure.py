"""Run masks on pairs and measure their predictions: the basis of every part of an evaluation.

Axis letters: c circuit (several if random circuits are reported together), b example.

Pairs are processed in tiles: values that no mask changes are computed once per tile for all masks. Nodes that a mask
excludes are not computed. Masks that differ only in dangling edges share a run, and masks that need the same nodes
share a pass. Cost: one frozen pass and at most one masked forward pass per mask, no backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edge_pruning import metrics, ranks
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.numbers import Comparison, Reference, measured_numbers
from edge_pruning.own_functions import refuse_nan
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

Progress = Callable[[int, int], None]
LARGE = 20_000  # edges; in larger graphs every pass is expensive, so most runs use fewer pairs
LARGE_PAIRS = 100
CIRCUIT_SHARE = 0.4  # the approximate share of a full masked pass that a circuit of a small graph takes (measured)
MOST_PASSES = 16  # each may hold copies of its heads' weights


@dataclass(frozen=True, eq=False)
class Measurements:
    """The numbers of `numbers.measured_numbers`, per circuit and example: float64 [c, b] on the CPU.

    values: by name; each is also an attribute (`run.kl`). Undefined numbers are NaN: `kl` if the output is a number,
        `squared_error` if it is not, the task's metric if a pair has no wrong answer.
    metric: that of the task.
    ids: indices of the measured examples, [b]; None: all examples of the evaluation.
    """

    values: Mapping[str, Tensor]
    metric: str
    ids: Tensor | None = None

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name not in self.values:
            raise AttributeError(name)
        return self.values[name]

    def __len__(self) -> int:
        """Return the number of circuits."""
        return len(self.values["kl"])

    def __getitem__(self, circuits: slice) -> Measurements:
        return replace(self, values={name: value[circuits] for name, value in self.values.items()})

    @property
    def examples(self) -> int:
        return self.values["kl"].shape[1]

    def on(self, ids: Tensor | None) -> Measurements:
        """Return the measurements on some of the examples; None: on all of them."""
        return self if ids is None else Measurements({n: v[:, ids] for n, v in self.values.items()}, self.metric, ids)

    def with_examples(self, more: Measurements) -> Measurements:
        """The same circuits on these examples and on more of them."""
        values = {name: torch.cat([value, more.values[name]], 1) for name, value in self.values.items()}
        return Measurements(values, self.metric)

    @property
    def difference(self) -> Tensor:
        """The values of the task's metric."""
        return self.values[self.metric]

    @property
    def loss(self) -> Tensor:
        """The distance from the model: KL, or the squared error of numbers."""
        return self.values[self.loss_name]

    @property
    def loss_name(self) -> str:
        """`kl`, or `squared_error` if the output is a number."""
        return "kl" if self.values["squared_error"].isnan().all() else "squared_error"

    @property
    def mean_loss(self) -> float:
        return float(self.loss.mean())

    def one(self, circuit: int) -> Measurements:
        """Return the measurements of a single circuit, [1, b]."""
        return self[circuit : circuit + 1]


@torch.no_grad()
def measure(
    setup: Setup,
    masks: Sequence[Tensor],
    pairs: PairSet,
    *,
    within: Tensor | None = None,
    cache: FrozenCache | None = None,
    progress: Progress | None = None,
) -> tuple[Measurements, Measurements]:
    """Measure the model [1, b] and every mask [mask, b], in the order of the pairs.

    masks: [w, r], bool or 0 to 1.
    within: bool [w, r]; all masks are zero outside it and share one pass over the nodes that it needs.
    cache: the frozen values of `pairs`, if several calls share them.
    progress: called with the number of finished pairs and the total.
    """
    engine = setup.engine
    cache = cache or FrozenCache(engine, pairs.pairs, setup.ablation, 0)
    runs, place = _runs(setup, masks, within)
    numbers = measured_numbers(pairs.metric)
    functions = [number.of(pairs.metric) for number in numbers if number.of is not None]
    by_tile, order = [torch.zeros(len(functions), 1 + len(runs), 0, device=engine.home)], list[int]()

    def of_tile(ids: list[int]) -> Tensor:
        batch, frozen = cache.batch(ids)
        reference = Reference(frozen.logits, batch)

        def numbers_of(logits: Tensor) -> Tensor:
            values = [function(Comparison(reference, logits)) for function in functions]
            return torch.stack([value.to(values[0].dtype) for value in values])

        each = [numbers_of(run.engine.logits(run.mask.to(torch.float32), batch, frozen)) for run in runs]
        return torch.stack([numbers_of(frozen.logits), *each], 1)

    for ids, values in over_tiles(engine, pairs.pairs, of_tile, shared=True):
        by_tile.append(values)
        order += ids
        if progress:
            progress(min(len(order) * ranks.count(), len(pairs.pairs)), len(pairs.pairs))
    own = torch.cat(by_tile, -1).cpu().double()  # [number, run, b]; the only synchronisation
    measured = own.new_zeros(*own.shape[:-1], len(pairs.pairs))
    measured[..., torch.tensor(order, dtype=torch.long)] = own
    ranks.add_up(measured)
    names = [number.name for number in numbers]
    refuse_nan(pairs.metric, measured[names.index(pairs.metric)])
    model, each = measured[:, :1], measured[:, 1:][:, place]
    return (
        Measurements(dict(zip(names, model, strict=True)), pairs.metric),
        Measurements(dict(zip(names, each, strict=True)), pairs.metric),
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """A mask (bool or float, on the model's device), with a pass that computes the nodes it needs."""

    engine: MaskedPass
    mask: Tensor


def _runs(setup: Setup, masks: Sequence[Tensor], within: Tensor | None) -> tuple[list[_Run], list[int]]:
    """Return the distinct runs, and the index of each mask's run."""
    masks, device = [mask.cpu() for mask in masks], setup.engine.adapter.device
    if within is not None:
        engine = setup.restricted(within)
        return [_Run(engine, mask.to(device)) for mask in masks], list(range(len(masks)))
    different, place = _different(setup, masks)
    runs: list[_Run] = []
    together = max(1, math.ceil(len(different) / MOST_PASSES))
    for first in range(0, len(different), together):
        group = different[first : first + together]
        needed = torch.stack([mask != 0 for mask in group]).any(0)
        engine = setup.engine.restricted(needed, consistent=setup.ablation.consistent)
        runs += [_Run(engine, mask.to(device)) for mask in group]
    return runs, place


def _different(setup: Setup, masks: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """Return the distinct masks, and the index of each mask among them. Dangling edges are ignored if they change
    nothing.
    """
    ignore = setup.ablation.consistent and setup.engine.heads_apart
    kept: list[Tensor] = []
    place, known = [], dict[bytes, int]()
    for mask in masks:
        edges = mask != 0
        connected = setup.graph.without_dangling(edges) if ignore else edges
        key = (mask.double() * connected).numpy().tobytes() if mask.is_floating_point() else connected.numpy().tobytes()
        if key not in known:
            known[key] = len(kept)
            kept.append(mask)
        place.append(known[key])
    return kept, place


def problems_with(graph: Graph, what: str, setup: Setup) -> Iterator[str]:
    """Yield the reasons why a circuit or scores (`what`) of this graph cannot be judged on this setup."""
    engine, pairs = setup.engine, setup.pairs
    if graph != engine.graph:
        verb = "are" if what.endswith("s") else "is"
        yield (
            f"the {what} {verb} of another graph than the engine: {graph.shape} ({graph.convention}) and "
            f"{engine.graph.shape} ({engine.graph.convention}); build the engine with graph={what}.graph"
        )
    if not pairs.pairs:
        yield f"task {pairs.task!r} has no pairs in split {pairs.split!r}; expected at least one"
    if pairs.metric not in metrics.DIFFERENCES:
        yield f"expected a metric {', '.join(metrics.DIFFERENCES)}; got {pairs.metric!r}"


def error_of_mean(values: Tensor) -> float:
    """Return the standard deviation over the square root of the number of values, without NaN entries; NaN for fewer
    than two.
    """
    present = values[~values.isnan()]
    return deviation(present) / math.sqrt(max(1, len(present)))


def deviation(values: Tensor) -> float:
    return float(values.std()) if len(values) > 1 else float("nan")
