"""The laws of the training loop: which pairs are drawn, whose gradient it is, and what happens when it diverges."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from random_models import config_of, mixed_pairs, pair, random_mask, random_model
from torch import Tensor
from watching import DATA, LEARNED, PAIRS, Watcher, attempt, engine, find, found, search, short

from edge_pruning import metrics
from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.batch import Batch
from edge_pruning.discovery import METHODS, Diverged, training
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.discovery.soft_top_k import SoftTopK
from edge_pruning.discovery.training import Draw, MaskParameters, derived_seed, drawn, train
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.objectives import OBJECTIVES

# --- which pairs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (12, 4), (7, 5), (5, 5), (3, 1), (1, 1), (4, 9)])
def test_every_pair_is_drawn_once_per_epoch(n: int, batch_size: int) -> None:
    size = min(n, batch_size)
    batches = [drawn(n, batch_size, step, seed=1) for step in range(3 * n)]
    assert all(len(batch) == size for batch in batches)
    everything = sum(batches, [])
    for epoch in range(len(everything) // n):
        assert sorted(everything[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_what_is_drawn_depends_on_seed_and_step_alone() -> None:
    forwards = [drawn(10, 4, step, seed=3) for step in range(20)]
    torch.manual_seed(7)
    backwards = [drawn(10, 4, step, seed=3) for step in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert forwards != [drawn(10, 4, step, seed=4) for step in range(20)]


def test_epochs_have_different_orders() -> None:
    orders = {tuple(drawn(30, 30, epoch, seed=0)) for epoch in range(20)}
    assert len(orders) == 20


def test_seeds_differ_by_seed_purpose_and_step_and_fit_into_32_bits() -> None:
    seeds = {derived_seed(s, purpose, n) for s in range(20) for purpose in ("noise", "epoch") for n in range(50)}
    assert len(seeds) == 2000
    assert 0 <= min(seeds) <= max(seeds) < 2**32
    assert derived_seed(1, "noise", 2) == derived_seed(1, "noise", 2)


# --- whose gradient --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile_tokens", [1, 14, 10_000])
@pytest.mark.parametrize("name", ["kl", "squared_error"])
def test_the_gradient_is_that_of_the_mean_objective_however_the_batch_is_cut(
    name: str, tile_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = FusedPass(random_model(config_of("gpt2"), torch.float64))
    monkeypatch.setattr(MaskedPass, "tile_tokens", tile_tokens)
    pairs, ids, objective = [*mixed_pairs(), *PAIRS], [1, 7, 0, 3, 3], OBJECTIVES[name]
    mask = random_mask(masked.graph, dtype=torch.float32)
    cache = FrozenCache(masked, pairs, Patch(), 1 << 30)
    loss, gradient = mask_gradient(masked, cache, ids, mask, objective)

    leaf = mask.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for i in ids:
        batch = Batch.of([pairs[i]])
        clean = masked.adapter.hf(batch.clean, use_cache=False).logits.flatten(0, 1)[batch.positions]
        logits = masked.logits(leaf, batch, Patch().freeze(masked, batch))
        total = total + objective(clean, logits, batch).sum() / len(ids)
    total.backward()
    torch.testing.assert_close(loss.double(), total.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-4, atol=1e-7)


class OneMask(MaskParameters):
    """A mask that is its own parameter, moved against its gradient by one step of length 1."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.parameters["mask"] = mask.clone().requires_grad_()

    def draw(self, step: int, generator: torch.Generator) -> Draw:
        return Draw(1 * self.parameters["mask"], None, {})

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters.values(), lr=1.0)

    def schedule(self, step: int) -> float:
        return 1.0


@pytest.mark.parametrize("name", ["kl", "squared_error", "logit_difference"])
def test_the_root_is_of_the_mean_of_an_objective_that_compares_with_the_model(name: str) -> None:
    masked, objective, graph = engine(), OBJECTIVES[name], engine().graph
    masks = OneMask(random_mask(graph, dtype=torch.float32)[graph.edge_mask])
    before, z = masks.parameters["mask"].detach().clone(), torch.zeros(graph.edge_mask.shape, requires_grad=True)
    with torch.no_grad():
        z[graph.edge_mask] = before
    cache, values = FrozenCache(masked, PAIRS, Patch(), 0), []
    for i in drawn(len(PAIRS), 4, 0, seed=3):
        batch, frozen = cache.batch([i])
        values.append(objective(frozen.logits, masked.logits(z, batch, frozen), batch).sum())
    loss = torch.stack(values).mean()
    (loss.sqrt() if objective.compares else loss).backward()
    train(masks, search(data=replace(DATA, objective=name)), steps=1, batch_size=4, seed=3, root=True)
    moved = before - masks.parameters["mask"].detach()
    torch.testing.assert_close(moved, z.grad[graph.edge_mask], rtol=1e-3, atol=1e-6)


def test_rounding_next_to_the_models_own_loss_is_not_blown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask of ones is the model itself, whose KL is rounding of either sign."""
    edges = engine().graph.edge_mask
    for loss in (0.0, -1e-9, 1e-12):
        masks = OneMask(torch.ones(int(edges.sum())))
        rounding = torch.tensor(loss), torch.full(edges.shape, 1e-6)
        monkeypatch.setattr(training, "mask_gradient", lambda *_, found=rounding: found)
        train(masks, search(), steps=1, batch_size=4, seed=0, root=True)
        assert (masks.parameters["mask"] - 1).abs().max() < 1e-3


def test_whether_pairs_are_kept_or_computed_again_changes_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = find(short("soft-top-k")).values
    real, asked = training.FrozenCache, []

    def no_room(engine: Any, pairs: Any, ablation: Any, max_bytes: int | None, **rest: Any) -> FrozenCache:
        asked.append(max_bytes)
        return real(engine, pairs, ablation, 0)

    monkeypatch.setattr(training, "FrozenCache", no_room)
    again = find(short("soft-top-k")).values
    assert asked == [None]  # as many pairs as memory holds
    torch.testing.assert_close(again, kept, rtol=1e-2, atol=1e-2)


def test_nothing_is_kept_where_no_pair_is_seen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    real = FrozenCache.__init__

    def watched(self: FrozenCache, *arguments: Any, **rest: Any) -> None:
        real(self, *arguments, **rest)
        kept.append(self.kept)

    monkeypatch.setattr(FrozenCache, "__init__", watched)
    find(short("soft-top-k", steps=4, batch_size=5))
    find(short("soft-top-k", steps=5, batch_size=5))
    assert kept == [0, len(PAIRS)]


# --- when it diverges ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_weights_that_are_not_numbers_stop_the_run_at_its_first_step(name: str) -> None:
    """Unless the method never looks at logits, so that it finds what it always finds."""
    broken, watcher = random_model(config_of("gpt2"), torch.float32), Watcher()
    broken.hf.lm_head.weight[3, 2] = torch.nan
    outcome = attempt(short(name), Diverged, watcher, on=FusedPass(broken))
    if isinstance(outcome, Diverged):
        learns = name in ("edge-pruning", "soft-top-k")
        message = "the loss is not finite at step 1: .* Try a lower learning rate" if learns else "not finite.* Try"
        assert re.search(message, str(outcome))
    else:
        assert METHODS[name].baseline
        assert torch.equal(outcome.values, found(name).values)
    assert not watcher.states
    assert not watcher.records


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_is_named_by_its_step_and_never_checkpointed(
    name: str, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, calls, real = Watcher(), [], metrics.kl_divergence

    def sometimes(*arguments: Any) -> Tensor:
        calls.append(1)
        return real(*arguments) + (bad if len(calls) >= 14 else 0)

    monkeypatch.setattr(metrics, "kl_divergence", sometimes)
    monkeypatch.setattr(MaskedPass, "tile_tokens", 10_000)
    monkeypatch.setattr(SoftTopK, "_begin", lambda *_: None)  # it computes losses, too
    with pytest.raises(Diverged, match="not finite at step 14: .* The last checkpoint was kept"):
        find(short(name, metric="difference"), watcher)
    assert [int(state["steps"]) for state in watcher.states] == [10]
    assert len(watcher.records) == 10
    assert all(value.isfinite().all() for state in watcher.states for value in state.values())


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("at", [20, 25])
def test_a_gradient_that_is_not_finite_at_a_finite_loss_is_not_checkpointed(
    name: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss would only show it one step after the masks were written down."""
    watcher, calls, real = Watcher(), [], training.mask_gradient

    def sometimes(*arguments: Any) -> tuple[Tensor, Tensor]:
        calls.append(1)
        loss, gradient = real(*arguments)
        return loss, gradient * (torch.nan if len(calls) == at else 1)

    monkeypatch.setattr(training, "mask_gradient", sometimes)
    with pytest.raises(Diverged, match=f"not finite after step {at}. The last checkpoint was kept"):
        find(short(name), watcher)
    assert [int(state["steps"]) for state in watcher.states] == [step for step in (10, 20) if step < at]
    assert all(value.isfinite().all() for state in watcher.states for value in state.values())


def test_a_long_text_whose_answer_comes_early_takes_no_room_in_a_batch() -> None:
    pairs = [pair(1, 12, (1,)), pair(2, 3, (2,)), pair(3, 3, (2,))]
    assert engine().tiles(pairs, 9) == [[0, 1, 2]]
    assert engine().tile_tokens > 1
