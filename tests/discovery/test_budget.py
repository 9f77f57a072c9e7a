"""The budget of edges: its size is exact, the loss alone moves it, and at the end the bound holds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from watching import PAIRS, Watcher, engine, search, some_edges

from edge_pruning.ablation import Patch, Zero
from edge_pruning.batch import Batch
from edge_pruning.discovery import Search
from edge_pruning.discovery.budget import BudgetMasks, loss_bound
from edge_pruning.discovery.training import train
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.metrics import kl_divergence
from edge_pruning.tasks import get_task


def masks(n: int, bound: float = 1.0) -> BudgetMasks:
    return BudgetMasks(n, torch.tensor(bound))


def cuts_after(budget: BudgetMasks, *losses: float) -> list[float]:
    """What may be cut after each of the losses."""
    cuts = []
    for loss in losses:
        budget.adjust(torch.tensor(loss))
        cuts.append(float(budget.parameters["cut"]))
    return cuts


def trained(watcher: Watcher) -> BudgetMasks:
    within = some_edges(engine().graph)
    budget = BudgetMasks(int(within.sum()), loss_bound(search(within=within), 0.01))
    train(budget, search(within=within, observer=watcher), steps=35, batch_size=4, seed=0)
    return budget


@pytest.mark.parametrize(("n", "cut"), [(5, 0.05), (50, 1e-3), (20_000, 0.05), (5000, 4000.0)])
def test_what_is_cut_is_exact_however_small_beside_the_rest(n: int, cut: float) -> None:
    budget = masks(n)
    budget.parameters["cut"] = torch.tensor(cut)
    draw = budget.draw(0, torch.Generator().manual_seed(0))
    assert float((1 - draw.mask.detach().double()).sum()) == pytest.approx(cut, rel=1e-2)
    assert draw.penalty is None
    assert 0 <= draw.mask.min() <= draw.mask.max() <= 1


def test_more_is_cut_after_a_loss_within_the_bound_and_less_after_one_above_it() -> None:
    cuts = cuts_after(masks(100), *[1.0] * 30, *[1.001] * 30)
    rising, falling = cuts[:30], cuts[29:]
    assert rising[0] > 0.05
    assert rising == sorted(set(rising))
    assert falling == sorted(set(falling), reverse=True)


def test_a_step_back_undoes_three_steps_forward() -> None:
    cuts = cuts_after(masks(100), 0.0, 0.0, 0.0, 5.0)
    assert cuts[-1] == pytest.approx(0.05)


def test_something_is_always_cut_and_something_always_kept() -> None:
    budget = masks(40)
    assert cuts_after(budget, *[9.0] * 200)[-1] == pytest.approx(1e-4)
    assert cuts_after(budget, *[0.0] * 400)[-1] == pytest.approx(38)


def test_in_training_fewer_edges_are_kept_after_a_step_within_the_bound_and_more_after_one_above_it() -> None:
    watcher = Watcher()
    bound = float(trained(watcher).bound)
    sizes = [record["target_edges"] for record in watcher.records]
    inside = [record["kl"] <= bound for record in watcher.records]
    assert len(set(inside)) == 2
    for kept, fits, after in zip(sizes, inside, sizes[1:], strict=False):
        assert after < kept if fits else after > kept


def test_a_draw_depends_on_the_generator_alone() -> None:
    first, again, other = (masks(30).draw(0, torch.Generator().manual_seed(seed)).mask for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_run_goes_on_bit_for_bit_from_any_checkpoint() -> None:
    whole = Watcher()
    budget = trained(whole)
    assert len(whole.states) == 4
    for state in whole.states:
        resumed = Watcher(state)
        again = trained(resumed)
        assert all(torch.equal(again.parameters[name], value) for name, value in budget.parameters.items())
        assert resumed.records == whole.records[int(state["steps"]) :]


def test_the_bound_is_a_share_of_the_empty_circuits_loss_above_that_of_the_candidates() -> None:
    within, batch = some_edges(engine().graph, 0.9), Batch.of(PAIRS)
    frozen = Patch().freeze(engine(), batch)

    def loss(mask: Tensor) -> Tensor:
        return kl_divergence(frozen.logits, engine().logits(mask.float(), batch, frozen), batch).mean()

    expected = loss(within) + 0.3 * loss(torch.zeros_like(within))
    torch.testing.assert_close(loss_bound(search(within=within), 0.3), expected.detach())


def test_on_an_exact_program_the_bound_holds_at_a_size_below_half() -> None:
    model = load_model("tracr:xproportion", device="cpu")
    masked = model.engine(Graph(model.adapter.shape, "split"))
    data = get_task(model.name).pairs(model.tokenizer, "train")
    watcher = Watcher()
    of_program = Search(masked, data, Zero(), observer=watcher)
    bound = loss_bound(of_program, 0.1)
    train(BudgetMasks(32, bound), of_program, steps=150, batch_size=128, seed=0)
    last = watcher.records[-20:]
    assert min(record["edges"] for record in last if record["squared_error"] <= float(bound)) < 16


def test_a_warm_start_is_a_ranking() -> None:
    budget, ranks = masks(8), torch.linspace(0.5, -0.5, 8)
    budget.warm_start(ranks)
    assert torch.equal(budget.parameters["scores"].argsort(descending=True), torch.arange(8))
