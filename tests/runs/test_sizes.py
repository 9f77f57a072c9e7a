"""How large a circuit gets."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from edge_pruning.circuit import Circuit
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.runs import judging
from edge_pruning.runs.sizes import default_sizes, requested_sizes, scanned_row, smallest_faithful
from edge_pruning.setup import Setup

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


@pytest.mark.parametrize("first", range(9))
def test_halving_finds_the_smallest_faithful_size_with_few_looks(monkeypatch, first):
    """Of eight sizes whose loss falls with size; `first` is the smallest faithful one, 8 means that none is."""
    graph = Graph(ModelShape(2, 3))
    circuits = [Circuit(graph, graph.mask(graph.names(graph.edge_mask)[: i + 1])) for i in range(8)]
    looked, caches = [], []

    def scan(setup, masks, pairs, watch, cache):
        caches.append(cache)
        sizes = [int(mask.sum()) for mask in masks]
        looked.extend(sizes)
        return [SimpleNamespace(mean_loss=1.0 if size == 0 else 0.05 if size > first else 0.5) for size in sizes]

    monkeypatch.setattr(judging, "_scan", scan)
    monkeypatch.setattr(judging, "FrozenCache", lambda *_: object())
    pairs = SimpleNamespace(pairs=(), sample=lambda most, seed: pairs)
    setup = SimpleNamespace(validation=pairs, seed=0, engine=None, ablation=None)
    kept, scanned, chosen = judging._choose_by_halving(setup, circuits, None)
    assert len(set(map(id, caches))) == 1, "the frozen values are computed once"
    assert kept[chosen] == min(first, 7)
    assert kept == sorted({size - 1 for size in looked if size})
    assert len(scanned) == len(kept) <= 4
    assert len(looked) <= 5
