"""What every method keeps to, run over the registry: a new method is tested by being registered."""

from __future__ import annotations

import random
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from watching import DATA, LEARNED, PAIRS, SIZE, Watcher, attempt, engine, find, found, settings_of, short, some_edges

from edge_pruning.discovery import METHODS, get_method
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass

pytestmark = pytest.mark.parametrize("name", METHODS)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_every_edge_of_the_graph_gets_a_score(name: str, kind: str) -> None:
    for graph in (Graph(engine(kind).adapter.shape), Graph(engine(kind).adapter.shape, kv="query")):
        scores = find(short(name, steps=5, target_steps=5), on=FusedPass(engine(kind).adapter, graph))
        assert scores.graph == graph
        assert scores.values.shape == graph.edge_mask.shape
        assert torch.equal(scores.values.isfinite(), graph.edge_mask)
        assert scores.natural_size is None or 0 <= scores.natural_size <= graph.n_edges
        soft = short(name).soft_mask(scores, SIZE)
        assert soft is None or (soft.shape == graph.edge_mask.shape and 0 <= soft.min() <= soft.max() <= 1)


def test_only_candidates_are_scored_and_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    within, masks, real = some_edges(engine().graph), [], FusedPass.run

    def run(self: FusedPass, mask: Tensor, *rest: Any) -> Any:
        masks.append(mask.detach().clone())
        return real(self, mask, *rest)

    monkeypatch.setattr(FusedPass, "run", run)
    scores = find(short(name), within=within)
    assert torch.equal(scores.values.isfinite(), within)
    assert masks or name not in LEARNED
    assert not any(mask[~within].any() for mask in masks)
    soft = short(name).soft_mask(scores, SIZE)
    assert soft is None or not soft[~within].any()


def test_candidates_that_are_no_edges_do_not_count(name: str) -> None:
    within = torch.ones_like(engine().graph.edge_mask)
    assert torch.equal(find(short(name), within=within).values, found(name).values)


@pytest.mark.parametrize(
    ("within", "message"),
    [
        (lambda graph: torch.zeros_like(graph.edge_mask), "there are no candidate edges"),
        (lambda graph: ~graph.edge_mask, "there are no candidate edges"),
        (lambda graph: graph.edge_mask[:-1], r"bool mask \[writer, reader\] of shape .* got torch.bool \(8, 21\)"),
        (lambda graph: graph.edge_mask.float(), "got torch.float32"),
    ],
)
def test_impossible_candidates_are_refused(name: str, within: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(short(name), within=within(engine().graph))


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(name: str) -> None:
    assert torch.equal(find(short(name)).values, found(name).values)
    seeded = settings_of(name, {"seed": 1})
    assert not seeded or not torch.equal(find(short(name, **seeded)).values, found(name).values)


def test_global_random_numbers_are_left_alone(name: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    values = find(short(name)).values
    assert torch.equal(values, found(name).values)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_the_hugging_face_model_is_as_it_was(name: str) -> None:
    hf, tokens = engine().adapter.hf, torch.arange(8)[None]
    logits, state = hf(tokens).logits, {key: value.clone() for key, value in hf.state_dict().items()}
    find(short(name))
    assert torch.equal(hf(tokens).logits, logits)
    assert all(torch.equal(value, state[key]) for key, value in hf.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in hf.modules())
    assert all(parameter.grad is None for parameter in hf.parameters())


def test_watching_changes_nothing_and_sees_every_step(name: str) -> None:
    watcher = Watcher()
    assert torch.equal(find(short(name), watcher).values, found(name).values)
    steps = len(watcher.records)
    assert [record["step"] for record in watcher.records] == list(range(1, steps + 1))
    assert steps <= watcher.total  # a method may end early
    if name in LEARNED:
        assert steps == watcher.total == 25
        assert [int(state["steps"]) for state in watcher.states] == [10, 20, 25]
    for record in watcher.records:
        assert record["kl"] >= -1e-6  # rounding, where next to nothing is cut
        assert "edges" in record
        assert {"target_edges", "undecided"} <= record.keys() or name not in LEARNED


@pytest.mark.parametrize("changes", [{}, {"node_masks": True}, {"attribute_first": True}])
def test_a_run_goes_on_bit_for_bit_from_a_checkpoint(name: str, changes: dict[str, Any]) -> None:
    if changes and not settings_of(name, changes):
        pytest.skip("the method has no such setting")
    method, whole = short(name, **changes), Watcher()
    scores = find(method, whole)
    assert whole.states or not whole.records
    for state in whole.states[:1] + whole.states[len(whole.states) // 2 :][:1]:  # the first, and one half-way
        resumed = Watcher(state)
        again = find(method, resumed)
        assert torch.equal(again.values, scores.values)
        assert again.natural_size == scores.natural_size
        assert resumed.records == whole.records[int(state["steps"]) :]
        for later, expected in zip(resumed.states[::-1], whole.states[::-1], strict=False):
            assert later.keys() == expected.keys()
            assert all(torch.equal(later[key], expected[key]) for key in later)


def test_a_warm_start_is_a_ranking_that_the_method_begins_with(name: str) -> None:
    if name not in LEARNED:
        pytest.skip("the method does not learn")
    graph, method = engine().graph, short(name, steps=1, target_steps=1, warmup_steps=0, learning_rate=1e-4)
    values = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(5))
    warm = find(method, init_scores=EdgeScores(graph, 1000 * values))
    assert torch.equal(warm.top(SIZE), EdgeScores(graph, values).top(SIZE))
    within = some_edges(graph, 0.7)
    partial = EdgeScores(graph, values.masked_fill(~some_edges(graph), -torch.inf))
    some = find(method, init_scores=partial, within=within)
    assert torch.equal(some.values.isfinite(), within)
    with pytest.raises(ValueError, match="the initial scores are of another graph"):
        find(method, init_scores=EdgeScores(Graph(ModelShape(1, 1)), torch.zeros(3, 5)))


def test_initial_scores_are_used_or_refused(name: str) -> None:
    graph = engine().graph
    start = EdgeScores(graph, torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(5)))
    outcome = attempt(short(name), ValueError, init_scores=start)
    if isinstance(outcome, EdgeScores):
        assert not torch.equal(outcome.values, found(name).values)
    else:
        assert name not in LEARNED
        assert f"method '{name}' computes its scores at once and cannot begin with" in str(outcome)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("steps", 0), ("batch_size", 0), ("learning_rate", 0.0), ("learning_rate", float("nan")), ("steps", -3)],
)
def test_impossible_settings_are_refused_with_their_name_and_value(name: str, setting: str, value: float) -> None:
    if not settings_of(name, {setting: value}):
        pytest.skip("the method has no such setting")
    with pytest.raises(ValueError, match=rf"method '{name}': .*{setting} must be .*, got {value!r}"):
        METHODS[name](**{setting: value})


def test_a_method_is_a_value_that_is_found_by_its_name(name: str) -> None:
    assert get_method(name) == METHODS[name]()
    assert get_method(name).summary
    with pytest.raises(FrozenInstanceError):
        get_method(name).name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match=rf"there is no method '{name}x'; nearest: {name}"):
        get_method(f"{name}x")


def test_more_pairs_in_a_batch_than_there_are_is_all_of_them(name: str) -> None:
    few, all_of_them = (find(short(name, batch_size=size)).values for size in (1000, len(PAIRS)))
    assert torch.equal(few, all_of_them)


def test_one_pair_is_enough(name: str) -> None:
    scores = find(short(name), data=replace(DATA, pairs=DATA.pairs[:1]))
    assert torch.equal(scores.values.isfinite(), engine().graph.edge_mask)
