"""Hard concrete masks: their distribution in closed form, the schedule of the target, and what moves them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from watching import SIZE, Watcher, engine, find, settings_of, short, some_edges

from edge_pruning.discovery import training
from edge_pruning.discovery.hard_concrete import HardConcrete, HardConcreteMasks, probability_open, sample
from edge_pruning.discovery.node_masks import WriterOfEdge
from edge_pruning.discovery.training import _backward
from edge_pruning.edge_scores import EdgeScores

CPU = torch.device("cpu")


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masks_of(n: int = 60, target: float = 0.8, **settings: Any) -> HardConcreteMasks:
    return HardConcreteMasks(HardConcrete(**settings), target, n, None, CPU)


def probability_below(x: float, log_alpha: float) -> float:
    """P(z <= x) for 0 <= x < 1, by inverting z = stretch(sigmoid((logit(u) + log_alpha) * 3/2)) for u."""
    s = (x + 0.1) / 1.2
    return 1 / (1 + math.exp(log_alpha - 2 / 3 * math.log(s / (1 - s))))


# --- the distribution ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_alpha", [-4.0, -1.0, 0.0, 0.7, 3.0])
def test_samples_are_distributed_as_the_closed_form_says(log_alpha: float) -> None:
    n = 200_000
    z = sample(torch.full((n,), log_alpha), noise(1))
    shares = {x: float((z <= x).float().mean()) for x in (0.0, 0.2, 0.5, 0.9)}
    for x, share in shares.items():
        assert share == pytest.approx(probability_below(x, log_alpha), abs=0.005)  # 4 standard errors at most
    assert float((z == 1).float().mean()) == pytest.approx(1 - probability_below(1 - 1e-9, log_alpha), abs=0.005)
    assert 0 <= z.min() <= z.max() <= 1
    assert float(probability_open(torch.tensor(log_alpha))) == pytest.approx(1 - probability_below(0, log_alpha))


def test_samples_depend_on_the_generator_alone() -> None:
    log_alpha = torch.linspace(-3, 3, 100)
    assert torch.equal(sample(log_alpha, noise(4)), sample(log_alpha, noise(4)))
    assert not torch.equal(sample(log_alpha, noise(4)), sample(log_alpha, noise(5)))


def test_the_soft_mask_is_each_gates_median() -> None:
    candidates = some_edges(engine().graph)
    drawn_values = 2 * torch.randn(candidates.shape, generator=noise(0))
    scores = EdgeScores(engine().graph, drawn_values.masked_fill(~candidates, -torch.inf))
    median = short("edge-pruning").soft_mask(scores, SIZE)
    assert median is not None
    samples = torch.stack([sample(scores.values, noise(seed)) for seed in range(1001)])
    torch.testing.assert_close(samples.median(0).values, median, atol=0.15, rtol=0)
    assert 0.1 < median[scores.values.isfinite()].mean() < 0.9


# --- the target and the learning rate --------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.8, 1.1])
def test_the_target_rises_in_equal_steps_and_stays(target: float) -> None:
    masks = masks_of(steps=100, target_steps=80, warmup_steps=0, target=target)
    found = [float(masks.draw(step, noise(step)).record["target_edges"]) for step in range(100)]
    assert found == pytest.approx([60 * (1 - target * min(step / 80, 1)) for step in range(100)])


def test_the_learning_rate_rises_linearly_and_falls_linearly_to_zero() -> None:
    masks = masks_of(steps=100, target_steps=80, warmup_steps=20)
    rates = [masks.schedule(step) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20:] == pytest.approx([(100 - step) / 80 for step in range(20, 100)])
    assert masks_of(steps=5, target_steps=5, warmup_steps=5).schedule(4) == 1
    assert masks_of(steps=5, target_steps=5, warmup_steps=0).schedule(0) == 1


@pytest.mark.parametrize(("log_alpha", "gap_is"), [(5.0, 1), (-5.0, -1)])
def test_the_multipliers_ascend(log_alpha: float, gap_is: int) -> None:
    """l1 follows the sign of s - t, and l2, whose factor is a square, always rises."""
    masks = masks_of(target=0.5, initial_log_alpha=log_alpha, steps=10, target_steps=5, warmup_steps=0)
    optimizer = masks.optimizer()
    draw = masks.draw(5, noise(0))
    assert draw.penalty is not None
    assert float(draw.penalty.detach()) == 0
    sparsity = 1 - float(draw.mask.detach().mean())
    assert (sparsity - 0.5) * -gap_is > 0.3
    _backward(draw, torch.zeros(60))
    optimizer.step()
    l1, l2 = masks.parameters["multipliers"].tolist()
    assert l1 * -gap_is > 0.1
    assert l2 > 0.1


def test_the_penalty_is_the_lagrangian_of_the_gap() -> None:
    masks = masks_of(target=0.75, initial_log_alpha=0.5, steps=10, target_steps=4, warmup_steps=0)
    masks.parameters["multipliers"].data.copy_(torch.tensor([3.0, 7.0]))
    draw = masks.draw(2, noise(3))
    gap = 1 - float(draw.mask.detach().mean()) - 0.75 * 2 / 4
    assert draw.penalty is not None
    assert float(draw.penalty.detach()) == pytest.approx(3 * gap + 7 * gap**2, rel=1e-5)


# --- what moves the masks --------------------------------------------------------------------------------------------


def steps_from(log_alpha: float, *, weight_decay: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """One step with a large KL gradient and large multipliers: log-alphas before and after, and their gradient."""
    masks = masks_of(initial_log_alpha=log_alpha, steps=10, target_steps=5, warmup_steps=0)
    masks.parameters["multipliers"].data.fill_(50)
    optimizer = masks.optimizer()
    if weight_decay is not None:
        optimizer.param_groups[0]["weight_decay"] = weight_decay
    before, draw = masks.parameters["log_alpha"].detach().clone(), masks.draw(3, noise(2))
    _backward(draw, 10 * torch.randn(60, generator=noise(0)))
    gradient = masks.parameters["log_alpha"].grad
    assert gradient is not None
    gradient = gradient.clone()
    optimizer.step()
    return before, masks.parameters["log_alpha"].detach().clone(), gradient


def test_from_a_log_alpha_of_10_weight_decay_is_what_moves_the_masks() -> None:
    before, after, gradient = steps_from(10.0)
    assert not gradient.any()
    torch.testing.assert_close(after, before * (1 - 0.8 * 0.01), rtol=1e-6, atol=0)
    assert torch.equal(*steps_from(10.0, weight_decay=0.0)[:2])


def test_from_a_log_alpha_of_2_the_gradient_moves_the_masks() -> None:
    before, after, gradient = steps_from(2.0, weight_decay=0.0)
    moved = gradient != 0
    assert 0.3 < moved.float().mean() < 1
    assert torch.equal((after - before)[moved].sign(), -gradient[moved].sign())
    assert (after - before)[moved].abs().min() > 0.1


def test_the_published_start_is_10_with_a_spread_of_a_hundredth() -> None:
    log_alpha = masks_of(n=20_000).parameters["log_alpha"].detach()
    assert float(log_alpha.mean()) == pytest.approx(10, abs=1e-3)
    assert float(log_alpha.std()) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("target", [0.3, 0.9])
def test_multipliers_lead_to_the_target_where_nothing_else_matters(
    target: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, n = Watcher(), engine().graph.n_edges
    indifferent = lambda engine, cache, ids, z, *_: (torch.zeros(()), torch.zeros_like(z))  # noqa: E731
    monkeypatch.setattr(training, "mask_gradient", indifferent)
    find(short("edge-pruning", steps=300, target_steps=150, target_sparsity=target, learning_rate=0.1), watcher)
    end = watcher.records[-50:]
    assert sum(record["edges"] for record in end) / 50 == pytest.approx((1 - target) * n, abs=0.06 * n)


def test_records_show_the_multipliers_of_their_own_step() -> None:
    masks = masks_of(steps=10, target_steps=5, warmup_steps=0)
    record = masks.draw(3, noise(0)).record
    masks.parameters["multipliers"].data.fill_(7)
    assert (float(record["lambda1"]), float(record["lambda2"])) == (0, 0)


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node_masks", [False, True])
def test_the_natural_size_is_the_expected_number_of_open_edges(node_masks: bool) -> None:
    watcher = Watcher()
    scores = find(short("edge-pruning", node_masks=node_masks, initial_log_alpha=0.5, learning_rate=0.05), watcher)
    state, graph = watcher.states[-1], engine().graph
    nodes = WriterOfEdge.of(graph, graph.edge_mask, CPU)
    open_edges = []
    for seed in range(2000):
        generator = noise(seed)
        z = sample(state["parameter.log_alpha"], generator)
        if node_masks:
            z = z * nodes.expand(sample(state["parameter.node_log_alpha"], generator))
        open_edges.append(int((z > 0).sum()))
    assert scores.natural_size == pytest.approx(sum(open_edges) / 2000, abs=0.8)
    assert 5 < scores.natural_size < graph.n_edges - 5


def test_the_wanted_size_sets_the_target_unless_a_sparsity_is_given() -> None:
    method = HardConcrete()
    assert method._target([25], 100) == 0.75
    assert HardConcrete(target_sparsity=1.02)._target([25], 100) == 1.02
    for sizes in ([], [5, 6]):
        with pytest.raises(ValueError, match="'edge-pruning' is trained for one size; give one number of edges"):
            method._target(sizes, 100)
    with pytest.raises(ValueError, match="expected a size between 0 and 100 edges .the candidates., got 101"):
        method._target([101], 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 100}, "target_steps must be between 1 and steps, got 2500; warmup_steps must be between 0 and"),
        ({"target_steps": 0}, "target_steps must be between 1 and steps, got 0"),
        ({"warmup_steps": -1}, "warmup_steps must be between 0 and steps, got -1"),
        ({"multiplier_learning_rate": 0.0}, "multiplier_learning_rate must be positive, got 0.0"),
        ({"initial_log_alpha": math.inf}, "initial_log_alpha must be finite, got inf"),
        ({"target_sparsity": -0.1}, "target_sparsity must be at least 0, got -0.1"),
        ({"node_target_sparsity": math.nan}, "node_target_sparsity must be at least 0, got nan"),
    ],
)
def test_impossible_settings_are_refused_all_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardConcrete(**settings)


# --- node masks ------------------------------------------------------------------------------------------------------


def with_nodes(**settings: Any) -> tuple[HardConcreteMasks, WriterOfEdge, Tensor]:
    candidates = some_edges(engine().graph, 0.6)
    nodes = WriterOfEdge.of(engine().graph, candidates, CPU)
    wanted = {"node_masks": True, "initial_log_alpha": 0.5, "warmup_steps": 0} | settings
    method = HardConcrete(**settings_of("edge-pruning", wanted))
    return HardConcreteMasks(method, 0.8, int(candidates.sum()), nodes, CPU), nodes, candidates


def test_every_candidate_belongs_to_its_writer() -> None:
    _, nodes, candidates = with_nodes()
    graph = engine().graph
    writers = [name.partition("->")[0] for name in graph.names(candidates)]
    assert [graph.writers[w] for w in nodes.index.tolist()] == writers
    assert nodes.expand(torch.arange(nodes.n)).tolist() == nodes.index.tolist()


def test_the_mask_of_an_edge_is_the_product_of_its_own_and_its_writers() -> None:
    masks, nodes, _ = with_nodes()
    generator = noise(11)
    of_edges = sample(masks.parameters["log_alpha"], generator)
    of_nodes = sample(masks.parameters["node_log_alpha"], generator)
    draw = masks.draw(0, noise(11))
    expected = torch.stack([z * of_nodes[w] for z, w in zip(of_edges, nodes.index.tolist(), strict=True)])
    assert torch.equal(draw.mask, expected)
    assert 0 < float(expected.detach().mean()) < 1
    assert float(draw.record["nodes"]) == pytest.approx(float(of_nodes.detach().sum()))


def test_a_closed_writer_closes_all_its_edges_and_no_others() -> None:
    masks, nodes, _ = with_nodes(initial_log_alpha=8.0)
    masks.parameters["node_log_alpha"].data[3] = -20
    draw = masks.draw(0, noise(0)).mask.detach()
    assert torch.equal(draw == 0, nodes.index == 3)
    closed = masks.scores() < 0
    assert torch.equal(closed, nodes.index == 3)
    assert float(masks.probability_open()[nodes.index == 3].sum()) < 1e-6


def test_the_gradient_reaches_edges_and_writers_through_the_product() -> None:
    masks, nodes, _ = with_nodes()
    draw = masks.draw(0, noise(1))
    _backward(draw, torch.ones(len(nodes.index)))
    for name in ("log_alpha", "node_log_alpha"):
        gradient = masks.parameters[name].grad
        assert gradient is not None
        assert gradient.count_nonzero() > 3
        assert (gradient >= 0).all()


def test_writers_have_their_own_target_and_multipliers() -> None:
    masks, _, _ = with_nodes(node_target_sparsity=0.3)
    of_nodes, at = sample(masks.parameters["node_log_alpha"], noise(0)), 2500
    masks.parameters["node_multipliers"].data.copy_(torch.tensor([2.0, 0.0]))
    masks.parameters["node_log_alpha"].data.fill_(30.0)
    draw = masks.draw(at, noise(0))
    assert of_nodes.numel() == 9
    assert draw.penalty is not None
    assert float(draw.penalty.detach()) == pytest.approx(2 * (0 - 0.3), rel=1e-5)
