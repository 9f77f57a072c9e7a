"""Uniform gradient sampling: its sampler and its gradient against the formula, edge by edge, and its price."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from watching import Watcher, engine, find, search, short

from edge_pruning.ablation import Zero
from edge_pruning.discovery import training
from edge_pruning.discovery.search import Search
from edge_pruning.discovery.training import _backward
from edge_pruning.discovery.ugs import Ugs, UgsMasks, sample

PROBABILITIES = [0.02, 0.3, 0.5, 0.73, 0.98]


def literal_sample(p: float, u: float) -> float:
    """1, 0, or what lies between, by cases."""
    w = p * (1 - p)
    if u <= p - w / 2:
        return 1.0
    return 0.0 if u >= p + w / 2 else 0.5 - (u - p) / w


@pytest.mark.parametrize("p", PROBABILITIES)
def test_samples_and_gradients_are_those_of_the_formula(p: float) -> None:
    u = (torch.arange(999, dtype=torch.float64) + 0.3711) / 999  # no value at a corner
    leaf = torch.full_like(u, p).requires_grad_()
    z = sample(leaf, u)
    expected = torch.tensor([literal_sample(p, x) for x in u.tolist()], dtype=torch.float64)
    torch.testing.assert_close(z.detach(), expected)
    z.sum().backward()  # type: ignore[no-untyped-call]
    between = (expected > 0) & (expected < 1)
    assert between.any()
    torch.testing.assert_close(leaf.grad, between.double())


@pytest.mark.parametrize("p", PROBABILITIES)
def test_an_edge_is_kept_with_its_probability_and_between_with_p_times_one_minus_p(p: float) -> None:
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    z, w = sample(torch.full_like(u, p), u), p * (1 - p)
    assert float(z.mean()) == pytest.approx(p, abs=1e-4)
    assert float((z == 1).double().mean()) == pytest.approx(p - w / 2, abs=1e-4)
    assert float((z == 0).double().mean()) == pytest.approx(1 - p - w / 2, abs=1e-4)


def masks_of(**settings: Any) -> UgsMasks:
    return UgsMasks(Ugs(**settings), 0.1, search())


@pytest.mark.parametrize("penalty", [1e-4, 1e-2])
def test_the_price_is_that_of_edges_and_of_the_nodes_that_write_them(penalty: float) -> None:
    masks, graph = masks_of(penalty=penalty), engine().graph
    p = torch.rand(graph.n_edges, generator=torch.Generator().manual_seed(0))
    most, by_writer = graph.shape.layers * graph.shape.heads / 2, torch.zeros(graph.edge_mask.shape)
    by_writer[graph.edge_mask] = p
    nodes = sum(most * math.tanh(float(row.sum()) / most) for row in by_writer)
    expected = penalty * float(p.sum()) + min(penalty / 2, 2e-4) * nodes
    assert float(masks.price(p)) == pytest.approx(expected, rel=1e-5)


def test_a_higher_price_keeps_fewer_edges() -> None:
    sizes = [find(short("ugs", penalty=penalty, learning_rate=0.3, steps=40)).natural_size for penalty in (0.0, 0.1)]
    assert sizes[1] is not None
    assert sizes[0] is not None
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(("penalty", "rate"), [(1e-4, 0.15), (5e-4, 0.10), (1e-3, 0.05)])
def test_the_learning_rate_is_the_published_one(penalty: float, rate: float) -> None:
    method, under_patch = Ugs(penalty=penalty), search()
    under_zero = Search(under_patch.engine, under_patch.data, Zero())
    assert method._rate(under_zero) == rate
    assert method._rate(under_patch) == pytest.approx(rate / 5)
    assert Ugs(penalty=penalty, learning_rate=0.3)._rate(under_patch) == 0.3


def test_long_gradients_are_shortened_to_a_norm_of_5_and_short_ones_left_alone() -> None:
    for norm, left in ((50.0, 5.0), (2.0, 2.0)):
        masks = masks_of()
        theta, optimizer = masks.parameters["theta"], masks.optimizer()
        theta.grad = torch.full_like(theta, norm / math.sqrt(theta.numel()))
        optimizer.step()
        assert theta.grad is not None
        assert float(theta.grad.norm()) == pytest.approx(left, rel=1e-4)


def test_a_step_averages_the_gradients_of_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle draws the masks of one step again, one by one, and adds up their gradients."""
    real, seen = training.mask_gradient, []

    def gradient(*arguments: Any) -> tuple[Tensor, Tensor]:
        seen.append((arguments[2], real(*arguments)))
        return seen[-1][1]

    monkeypatch.setattr(training, "mask_gradient", gradient)
    masks, task, watcher = masks_of(), search(), Watcher()
    kept: list[Tensor] = []
    optimizer = masks.optimizer()
    optimizer.register_step_pre_hook(lambda *_: kept.append(masks.parameters["theta"].grad.clone()))  # type: ignore[union-attr]
    monkeypatch.setattr(masks, "optimizer", lambda: optimizer)
    observed = Search(task.engine, task.data, task.ablation, observer=watcher)
    training.train(masks, observed, steps=1, batch_size=4, seed=7, masks_per_step=3)
    assert len(seen) == 3
    assert all(ids == seen[0][0] for ids, _ in seen)  # the same pairs under every mask
    assert watcher.records[0]["kl"] == pytest.approx(sum(float(loss) for _, (loss, _) in seen) / 3, rel=1e-5)
    again, generator = masks_of(), torch.Generator().manual_seed(training.derived_seed(7, "noise", 0))
    for _, (_, of_mask) in seen:
        _backward(again.draw(0, generator), of_mask[task.graph.edge_mask] / 3)
    theta = again.parameters["theta"]
    assert theta.grad is not None
    # The price's gradient was added three times here, and averaged over the three masks there.
    extra = torch.autograd.grad(again.price(theta.sigmoid()), theta)[0]
    torch.testing.assert_close(kept[0], theta.grad - 2 * extra, rtol=1e-4, atol=1e-7)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="penalty must be at least 0, got -1; masks_per_step must be at least 1"):
        Ugs(penalty=-1, masks_per_step=0)
