"""How large a circuit gets."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.measure import Measurements
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.runs import choosing
from edge_pruning.runs.sizes import default_sizes, requested_sizes, scanned_row, smallest_faithful
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

GRAPH = Graph(ModelShape(12, 12))  # GPT-2 small's: 32,491 edges


def test_sparsity_and_edges_ask_for_the_same_sizes():
    assert requested_sizes(GRAPH, (), (0.97, 0.99)) == (325, 975)
    assert requested_sizes(GRAPH, (975, 325, 975), ()) == (325, 975)


def test_the_whole_graph_and_one_edge_may_be_asked_for():
    assert requested_sizes(GRAPH, (1, GRAPH.n_edges), ()) == (1, GRAPH.n_edges)
    assert requested_sizes(GRAPH, (), (0.0,)) == (GRAPH.n_edges,)


@pytest.mark.parametrize("edges", [0, 32_492])
def test_numbers_of_edges_outside_the_graph_are_refused(edges):
    with pytest.raises(ValueError, match=r"expected between 1 and 32,491 edges .*one embedding writer"):
        requested_sizes(GRAPH, (edges,), ())


@pytest.mark.parametrize("sparsity", [1.0, 0.99999, -0.5])
def test_sparsities_that_leave_no_edge_are_refused(sparsity):
    with pytest.raises(ValueError, match="expected a sparsity"):
        requested_sizes(GRAPH, (), (sparsity,))


def test_default_sizes_go_from_a_few_edges_to_a_fifth_and_stay_among_the_candidates():
    sizes = default_sizes(GRAPH, GRAPH.n_edges)
    assert (sizes[0], sizes[-1], len(sizes)) == (16, 6498, 12)
    ratios = [after / before for before, after in pairwise(sizes)]
    assert max(ratios) < 1.1 * min(ratios)
    assert max(default_sizes(GRAPH, 500)) == 500
    assert default_sizes(Graph(ModelShape(1, 1)), 7) == (1, 2)


def test_the_circuit_is_the_smallest_size_with_a_tenth_of_the_empty_kl():
    assert smallest_faithful([1.0, 0.21, 0.2, 0.1], empty=2.0) == 2
    assert smallest_faithful([1.0, 0.3], empty=2.0) == 1  # none is faithful: the largest


def test_what_sizes_are_chosen_by_agrees_with_the_evaluation(tiny_gpt2, random_pairs):
    from edge_pruning.ablation import Patch
    from edge_pruning.circuit import Circuit
    from edge_pruning.evaluation import evaluate
    from edge_pruning.evaluation.measure import measure
    from edge_pruning.masked_pass.masked_pass import MaskedPass

    engine, pairs = MaskedPass(tiny_gpt2), random_pairs(9)
    mask = engine.graph.edge_mask.clone()
    mask[::2] = False
    circuits = [Circuit(engine.graph, mask), Circuit(engine.graph, mask & False)]
    found = evaluate(circuits[0], Setup(engine, pairs, Patch()), random_circuits=0)
    _, seen = measure(Setup(engine, pairs, Patch()), [circuit.mask for circuit in circuits], pairs)
    for i, (circuit, run) in enumerate(zip(circuits, ("circuit", "empty"), strict=True)):
        row = scanned_row(circuit, seen.one(i))
        assert row["kl"] == pytest.approx(found[run]["kl"], rel=1e-5)
        assert row["edges"] == len(circuit)
        assert row["accuracy"] == found[run]["accuracy"]


def test_a_row_holds_json_values_only():
    undefined = SimpleNamespace(loss_name="kl", mean_loss=math.nan, accuracy=torch.tensor([math.nan]), examples=1)
    row = scanned_row(Circuit(GRAPH, GRAPH.edge_mask), undefined)
    assert (row["kl"], row["accuracy"], row["edges"]) == (None, None, GRAPH.n_edges)


class Validation:
    """Eight circuits of 1 to 8 edges on 6 validation pairs, of which 2 are looked at first. Losses fall with size."""

    def __init__(self, monkeypatch, on_some, on_rest):
        """on_some, on_rest: the smallest size whose loss is low enough there."""
        self.low_enough, self.looked, self.caches = {2: on_some, 4: on_rest}, [], []
        monkeypatch.setattr(choosing, "validated", self.validated)
        monkeypatch.setattr(choosing, "FrozenCache", lambda *_: object())
        monkeypatch.setattr(choosing, "LARGE", 0)
        monkeypatch.setattr(choosing, "LARGE_PAIRS", 2)

    def validated(self, setup, masks, pairs, progress, cache):
        sizes = [int(mask.sum()) for mask in masks]
        self.looked += [(size, len(pairs.pairs)) for size in sizes]
        self.caches += [cache] if len(pairs.pairs) == 2 else []
        progress(len(pairs.pairs), len(pairs.pairs))
        return [self.measured(size, len(pairs.pairs)) for size in sizes]

    def measured(self, size, pairs):
        loss = 1.0 if size == 0 else 0.05 if size >= self.low_enough[pairs] else 0.3
        values = {"kl": torch.full((1, pairs), loss), "squared_error": torch.full((1, pairs), math.nan)}
        return Measurements(values, "logit_difference")

    def choice(self):
        graph = Graph(ModelShape(2, 3))
        circuits = [Circuit(graph, graph.mask(graph.names(graph.edge_mask)[: i + 1])) for i in range(8)]
        pairs = PairSet("t", "validation", "logit_difference", (object(),) * 6, ())
        setup = SimpleNamespace(validation=pairs, seed=0, engine=None, ablation=None, graph=graph)
        self.shown = []
        watch = SimpleNamespace(stage=lambda words, done, total: self.shown.append((done, total)))
        return choosing.choose(setup, circuits, watch, halve=True)


@pytest.mark.parametrize("first", range(1, 10))
def test_halving_finds_the_smallest_faithful_size_with_few_looks(monkeypatch, first):
    """Of eight sizes whose loss falls with size; `first` is the smallest faithful one, 9 means that none is."""
    validation = Validation(monkeypatch, first, first)
    choice = validation.choice()
    size = min(first, 8)
    assert [*choice.places][choice.chosen] + 1 == size
    assert choice.measured[choice.chosen].examples == 6, "the choice is confirmed on all pairs"
    assert len(set(map(id, [cache for cache in validation.caches if cache]))) == 1, "frozen values are computed once"
    assert len(validation.looked) == len(set(validation.looked)), "no circuit is measured twice on the same pairs"
    assert sum(pairs == 2 for _, pairs in validation.looked) <= 5
    assert {size for size, pairs in validation.looked if pairs == 4} == {0, size} | ({size - 1} if size > 1 else set())
    done = [done for done, _ in validation.shown]
    assert done == sorted(done)
    assert len({total for _, total in validation.shown}) == 1, "progress covers the whole choice"


@pytest.mark.parametrize(("on_some", "on_rest"), [(3, 6), (6, 3), (8, 9), (9, 1), (1, 8)])
def test_all_pairs_decide_where_some_mislead(monkeypatch, on_some, on_rest):
    """Faithful on all is what is low enough on some and on the rest: .05 or .3 on a third or two thirds of them."""
    choice = Validation(monkeypatch, on_some, on_rest).choice()
    assert [*choice.places][choice.chosen] + 1 == min(8, max(on_some, on_rest))
    assert choice.measured[choice.chosen].examples == 6


def test_sizes_that_were_asked_for_are_all_measured(monkeypatch, tiny_gpt2, random_pairs):
    from edge_pruning.ablation import Patch
    from edge_pruning.masked_pass.masked_pass import MaskedPass

    monkeypatch.setattr(choosing, "LARGE", 0)
    engine = MaskedPass(tiny_gpt2)
    names = engine.graph.names(engine.graph.edge_mask)
    circuits = [Circuit(engine.graph, engine.graph.mask(names[: 2**i])) for i in range(5)]
    setup = Setup(engine, random_pairs(3, split="validation"), Patch())
    watch = SimpleNamespace(stage=lambda *_: None)
    whole = choosing.choose(setup, circuits, watch, halve=False)
    assert [*whole.places] == [0, 1, 2, 3, 4]
    halved = choosing.choose(setup, circuits, watch, halve=True)
    assert halved.places[halved.chosen] == whole.chosen
