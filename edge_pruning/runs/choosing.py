"""Which of the offered sizes is the circuit's: the smallest that is faithful on the validation pairs (`sizes.RULE`).

On a small graph all sizes are measured. On a large one each look is expensive, so sizes are halved on some of the
pairs, because the loss falls with size. The size found is then confirmed on all pairs: it is faithful there, and the
next smaller size is not; otherwise the choice moves on to a neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.measure import LARGE, LARGE_PAIRS, Measurements, Progress, measure
from edge_pruning.runs.observer import RunObserver
from edge_pruning.runs.sizes import FAITHFUL, choosing_passes, smallest_faithful
from edge_pruning.runs.stages import CHOOSING
from edge_pruning.setup import Setup
from edge_pruning.tasks import PairSet

EMPTY = -1  # the place of the empty circuit among the circuits


@dataclass(frozen=True)
class Choice:
    """What was measured to choose a size.

    places: the circuits that were measured, ascending. measured: what each of them scores, on validation pairs; empty
    if there was no choice. chosen: which of `places` is the run's.
    """

    places: Sequence[int]
    measured: list[Measurements]
    chosen: int


def choose(setup: Setup, circuits: Sequence[Circuit], watch: RunObserver, *, halve: bool) -> Choice:
    """Choose among circuits of ascending size. halve: whether a large graph allows to measure some of them only."""
    everything = range(len(circuits))
    if len(circuits) == 1:
        return Choice(everything, [], 0)
    if halve and setup.graph.n_edges > LARGE:
        return _halved(_Looks(setup, circuits, watch))
    masks = [*(circuit.mask for circuit in circuits), torch.zeros_like(circuits[0].mask)]
    *measured, empty = validated(setup, masks, setup.validation, partial(watch.stage, CHOOSING))
    return Choice(everything, measured, smallest_faithful([run.mean_loss for run in measured], empty.mean_loss))


def validated(
    setup: Setup,
    masks: Sequence[Tensor],
    pairs: PairSet,
    progress: Progress,
    cache: FrozenCache | None = None,
) -> list[Measurements]:
    """What each mask scores on validation pairs, at one masked pass each. cache: see `measure`."""
    _, measured = measure(setup, masks, pairs, cache=cache, progress=progress)
    return [measured.one(i) for i in range(len(masks))]


class _Looks:
    """The circuits' scores on some of the validation pairs, and on the rest: each measured when it is first needed."""

    def __init__(self, setup: Setup, circuits: Sequence[Circuit], watch: RunObserver) -> None:
        self.setup, self.circuits, self.watch = setup, circuits, watch
        self.some, self.rest = setup.validation.divided(LARGE_PAIRS, setup.seed)
        self.on_some: dict[int, Measurements] = {}
        self.on_rest: dict[int, Measurements] = {}
        self.cache: FrozenCache | None = FrozenCache(setup.engine, self.some.pairs, setup.ablation)
        self.done, n_pairs = 0, len(setup.validation.pairs)
        self.expected = round(choosing_passes(setup.graph.n_edges, len(circuits), n_pairs, halve=True))

    def faithful_on_some(self, place: int) -> bool:
        self._look(self.on_some, self.some, [EMPTY, place])
        return self.on_some[place].mean_loss <= FAITHFUL * self.on_some[EMPTY].mean_loss

    def faithful(self, place: int) -> bool:
        """On all pairs."""
        self.measure_everywhere([EMPTY, place])
        return self.of(place).mean_loss <= FAITHFUL * self.of(EMPTY).mean_loss

    def measure_everywhere(self, places: Sequence[int]) -> None:
        """Measure on all pairs. The frozen values of the rest are computed once for all places, and not kept."""
        self.cache = None
        self._look(self.on_some, self.some, places)
        self._look(self.on_rest, self.rest, places)

    def of(self, place: int) -> Measurements:
        """On as many pairs as were measured."""
        on_some, on_rest = self.on_some[place], self.on_rest.get(place)
        return on_some if on_rest is None else on_some.with_examples(on_rest)

    def _look(self, known: dict[int, Measurements], pairs: PairSet, places: Sequence[int]) -> None:
        new = [place for place in places if place not in known]
        if not new or not pairs.pairs:
            return
        nothing = torch.zeros_like(self.circuits[0].mask)
        masks = [nothing if place == EMPTY else self.circuits[place].mask for place in new]
        cache = self.cache if known is self.on_some else None
        found = validated(self.setup, masks, pairs, partial(self._progress, len(new)), cache)
        known.update(zip(new, found, strict=True))
        self.done += len(new) * len(pairs.pairs)

    def _progress(self, masks: int, done: int, total: int) -> None:
        passes = self.done + masks * done
        self.watch.stage(CHOOSING, passes, max(passes, self.expected))


def _halved(looks: _Looks) -> Choice:
    at, last = _smallest_on_some(looks), len(looks.circuits) - 1
    looks.measure_everywhere([EMPTY, *([at - 1] if at else []), at])
    while at < last and not looks.faithful(at):
        at += 1
    while at and looks.faithful(at - 1):
        at -= 1
    looks.measure_everywhere([at])  # the largest is the circuit even if it is not faithful
    places = sorted(looks.on_some.keys() - {EMPTY})
    return Choice(places, [looks.of(place) for place in places], places.index(at))


def _smallest_on_some(looks: _Looks) -> int:
    """The smallest size that is faithful on some of the pairs, if the loss falls with size; the largest if none is."""
    low, high = -1, len(looks.circuits) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if looks.faithful_on_some(middle):
            high = middle
        else:
            low = middle
    return high
