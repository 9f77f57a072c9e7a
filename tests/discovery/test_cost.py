"""The cost that every method promises, against the passes that its search really takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from watching import DATA, PAIRS, SIZE, engine, search, settings_of, short

from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.batch import Batch
from edge_pruning.discovery import METHODS, Method, Search
from edge_pruning.discovery.acdc import Acdc
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.hap import Hap
from edge_pruning.discovery.soft_top_k import SoftTopK
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.unmasked_pass import Writes
from edge_pruning.masked_pass.whole_stream import WholeStream
from edge_pruning.tasks import PairSet

CACHES = 3  # at most: each may compute the frozen values of one pair to learn how large they are


@dataclass(frozen=True)
class CountedPatch(Patch):
    """Patch ablation that counts the pairs whose values were asked for."""

    name: ClassVar[str] = "counted-patch"
    count: ClassVar[list[int]] = []

    def writes(self, engine: MaskedPass, batch: Batch) -> Writes:
        self.count.append(batch.size)
        return super().writes(engine, batch)


class Counted:
    """Pairs of masked passes with and without a gradient, of frozen passes, and of frozen values that are kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gradients = self.whole = self.forwards = self.kept = 0
        self.frozen: list[int] = []
        real, batch_of = FusedPass.run, FrozenCache.batch

        def run(engine: FusedPass, mask: Tensor, batch: Batch, *rest: Any) -> Any:
            if torch.is_grad_enabled() and mask.requires_grad:
                self.gradients += batch.size
                self.whole += batch.size * (engine.stream is WholeStream)
            else:
                self.forwards += batch.size
            return real(engine, mask, batch, *rest)

        def of_cache(cache: FrozenCache, ids: Any) -> Any:
            found = batch_of(cache, ids)
            self.kept = max(self.kept, cache.kept + sum(map(len, cache._recent)))
            return found

        monkeypatch.setattr(FusedPass, "run", run)
        monkeypatch.setattr(FrozenCache, "batch", of_cache)
        monkeypatch.setattr(CountedPatch, "count", self.frozen)

    def check(self, method: Method, on: Search) -> None:
        """Compare the promised cost with that of the search."""
        promised = method.cost(on)
        method.find(on)
        assert promised.gradients in (self.gradients, None)
        assert promised.whole == self.whole or promised.gradients is None
        assert promised.forwards is None or self.forwards <= promised.forwards
        assert self.forwards or not promised.forwards
        assert self.kept == promised.kept or promised.gradients is None or promised.forwards is None
        if None not in (promised.gradients, promised.forwards):
            assert promised.frozen <= sum(self.frozen) <= promised.frozen + CACHES
        else:
            assert promised.frozen <= sum(self.frozen)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def with_writer(pairs: PairSet) -> PairSet:
    """The pairs of a task that can write any number of them."""
    return replace(pairs, writer=lambda size: replace(pairs, pairs=tuple((PAIRS * size)[:size])))


def on(data: PairSet, **options: Any) -> Search:
    return Search(engine(), data, CountedPatch(), sizes=(SIZE,), **options)


@pytest.mark.parametrize("data", [DATA, with_writer(DATA)], ids=["given-pairs", "fresh-pairs"])
@pytest.mark.parametrize("attribute_first", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_search_takes_the_passes_that_it_promised(
    counted: Counted, name: str, attribute_first: bool, data: PairSet
) -> None:
    if attribute_first and not settings_of(name, {"attribute_first": True}):
        pytest.skip("the method has no such setting")
    counted.check(short(name, steps=5, target_steps=5, attribute_first=attribute_first, attributed=6), on(data))


@pytest.mark.parametrize("settings", [
    {}, {"warm_start": True}, {"candidates": 1.0}, {"candidates": 1.0, "warm_start": True},
    {"attribution": "eap-ig"},
])  # fmt: skip
def test_a_sequence_of_two_methods_costs_both(counted: Counted, settings: dict[str, Any]) -> None:
    counted.check(Hap(steps=6, batch_size=4, **settings), on(DATA))


def test_initial_scores_save_the_attribution(counted: Counted) -> None:
    ranking = EdgeScores(engine().graph, torch.rand(engine().graph.edge_mask.shape))
    with_scores = on(DATA, init_scores=ranking)
    counted.check(SoftTopK(steps=4, batch_size=4), with_scores)
    for method in (SoftTopK(), Hap()):
        assert (method.cost(with_scores).gradients or 0) < (method.cost(on(DATA)).gradients or 0)


def test_a_method_that_says_nothing_has_an_unknown_cost() -> None:
    cost = Method.cost(Acdc(), search())
    assert cost == Cost(gradients=None, forwards=None, frozen=len(PAIRS), step_pairs=len(PAIRS), kept=len(PAIRS))
    assert cost.weighed(gradient=3, whole=2, forward=1, frozen=1) is None
    assert (cost * 2).gradients is None


def test_costs_add_up_and_multiply() -> None:
    preparation, training = Cost(50, 10, 10, 10, kept=4, whole=40), Cost(64, 0, 32, 8, kept=32)
    assert preparation + training == Cost(114, 10, 42, 8, kept=32, whole=40)
    assert (preparation * 2).whole == 80
    assert preparation.weighed(gradient=3, whole=2, forward=1, frozen=0) == 3 * 10 + 2 * 40 + 10
    assert training * 2 == Cost(128, 0, 64, 8, kept=32)
    assert training.weighed(gradient=3, whole=2, forward=1, frozen=2) == 3 * 64 + 2 * 32
