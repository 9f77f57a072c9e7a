"""Iterative pruning recovers the circuits of programs exactly, and its size is found, not given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from watching import DATA, engine, search

from edge_pruning.ablation import Patch, Zero
from edge_pruning.discovery import Search, get_method
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.discovery.iterative_pruning import IterativePruning
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.tasks import get_task
from edge_pruning.truth.outputs import Outputs
from edge_pruning.truth.truths import known_truths


@pytest.mark.parametrize(("name", "settings"), [
    ("xproportion", {"steps": 100, "batch_size": 128}),
    ("reverse", {}),
    ("xproportion", {"attribute_first": True}),
    ("count_less_freq", {"attribute_first": True}),
], ids=["xproportion", "reverse", "xproportion, attributed", "count_less_freq, attributed"])  # fmt: skip
def test_the_true_circuit_is_found_exactly(name: str, settings: dict[str, Any]) -> None:
    model, known = load_model(f"tracr:{name}"), known_truths(f"tracr:{name}")
    assert known
    graph = Graph(model.adapter.shape, "split")
    truth = known.get(model.revision, "zero", graph).by_ablation
    data = get_task(f"tracr:{name}").pairs(model.tokenizer, "train")
    scores = IterativePruning(**settings).find(Search(model.engine(graph), data, Zero()))
    assert scores.natural_size == int(truth.sum())
    assert torch.equal(scores.top(scores.natural_size), truth)


def test_the_size_keeps_every_training_output() -> None:
    scores = get_method("iterative-pruning", rounds=2, steps=20, batch_size=4).find(search())
    assert scores.natural_size is not None
    outputs = Outputs(engine(), DATA, Patch())
    assert outputs.kept_by(scores.top(scores.natural_size))
    assert not outputs.kept_by(scores.top(scores.natural_size - 1))


def test_a_later_round_only_takes_away_and_scores_what_is_left_higher() -> None:
    once, twice = (IterativePruning(rounds=n, steps=20, batch_size=4).find(search()) for n in (1, 2))
    assert once.natural_size is not None
    assert twice.natural_size is not None
    assert twice.natural_size <= once.natural_size
    assert not (twice.top(twice.natural_size) & ~once.top(once.natural_size)).any()


def test_attribution_takes_its_share_before_the_first_round() -> None:
    graph, outputs = engine().graph, Outputs(engine(), DATA, Patch())
    ranking = EapIg(metric="objective").find(search())
    kept = outputs.smallest_size(ranking)
    assert kept
    scores = IterativePruning(attribute_first=True, rounds=1, steps=20, batch_size=4).find(search())
    assert scores.natural_size
    assert scores.natural_size <= kept < graph.n_edges
    assert not (scores.top(scores.natural_size) & ~ranking.top(kept)).any()
    first = scores.values[ranking.top(kept)].min()
    assert first > scores.values[graph.edge_mask & ~ranking.top(kept)].max()


def test_candidates_that_lose_outputs_have_no_size() -> None:
    graph = engine().graph
    within = graph.mask([graph.names(graph.edge_mask)[0]])
    assert IterativePruning(steps=5).find(search(within=within)).natural_size is None


def test_the_smallest_size_is_one_below_which_an_output_is_lost() -> None:
    outputs = Outputs(engine(), DATA, Patch())
    scores = EdgeScores(engine().graph, torch.rand(engine().graph.edge_mask.shape))
    size = outputs.smallest_size(scores)
    assert size
    assert outputs.kept_by(scores.top(size))
    assert not outputs.kept_by(scores.top(size - 1))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rounds must be at least 1, got 0; patience must be at least 1, got 0"):
        IterativePruning(rounds=0, patience=0)
    with pytest.raises(ValueError, match=r"tolerance must be between 0 and 1 \(a share of .*\), got 1.5"):
        IterativePruning(tolerance=1.5)


def test_pruning_takes_away_what_a_misleading_gradient_leaves() -> None:
    """In `count_less_freq` a mask of 0.99 on all edges already moves counts over thresholds: gradients say little."""
    model, known = load_model("tracr:count_less_freq"), known_truths("tracr:count_less_freq")
    assert known
    graph = Graph(model.adapter.shape, "split")
    truth = known.get(model.revision, "zero", graph).by_ablation
    data = get_task("tracr:count_less_freq").pairs(model.tokenizer, "train")
    scores = IterativePruning(rounds=1, steps=20, prune=True).find(Search(model.engine(graph), data, Zero()))
    assert scores.natural_size == int(truth.sum())
    assert torch.equal(scores.top(scores.natural_size), truth)
