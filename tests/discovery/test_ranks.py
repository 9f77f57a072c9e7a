"""Several ranks find what one process finds, and measure the same numbers; with real processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from processes import on_ranks
from torch import Tensor
from watching import DATA, Watcher, engine, find, short, some_edges

from edge_pruning import ranks
from edge_pruning.ablation import Patch
from edge_pruning.evaluation.measure import measure
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.runs.checkpoints import Memory
from edge_pruning.setup import Setup
from edge_pruning.tasks import PairSet

COUNT = 3
SHARED = ("soft-top-k", "edge-pruning", "eap", "eap-ig", "acdc", "mean-gradient", "magnitude", "hap")
TWO_PAIRS = PairSet(DATA.task, DATA.split, DATA.metric, DATA.pairs[:2], ())
Results = Mapping[str, Any]


def scores() -> dict[str, list[Any]]:
    """What every method finds; of two pairs too, so that a rank has none."""
    found = {name: find(short(name, attribute_first=True)) for name in SHARED}
    found |= {f"{name} of two pairs": find(short(name), data=TWO_PAIRS) for name in ("eap", "soft-top-k")}
    return {name: each.values.tolist() for name, each in found.items()}


def measured() -> list[Any]:
    """Everything that is measured about three masks, where every rank has a micro-batch."""
    graph = engine().graph
    engine().largest_tile = 16
    values = measure(Setup(engine(), DATA, Patch()), [graph.edge_mask, some_edges(graph)], DATA)[1].values
    engine().largest_tile = None
    return torch.stack(list(values.values())).tolist()  # type: ignore[no-any-return]


def resumed(state: Mapping[str, Tensor]) -> list[Any]:
    """The scores of a training whose state only the first rank has, and the first step that this rank did."""
    watch = Watcher(state if ranks.is_first() else None)
    values = find(short("soft-top-k", steps=30), Memory(watch)).values
    return [values.tolist(), watch.records[0]["step"]]


def pairs_run() -> int:
    """How many pairs this process runs for the mean gradient."""
    seen, real = [0], FusedPass.run

    def run(self: FusedPass, mask: Tensor, batch: Any, *rest: Any, **options: Any) -> Any:
        seen[0] += batch.size
        return real(self, mask, batch, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FusedPass, "run", run)
        find(short("mean-gradient"))
    return seen[0]


def refused() -> str:
    """The message for ranks that run different things."""
    with pytest.raises(ValueError, match="ranks") as error:
        ranks.refuse_differences({"model": "a", "seed": 1 if ranks.is_first() else 2})
    return str(error.value)


def everything(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """All of the above in one process, because starting several costs more than their work."""
    torch.manual_seed(hash(ranks.is_first()))  # nothing may depend on what a process has drawn before
    results = {
        "scores": scores(), "measured": measured(), "resumed": resumed(state), "pairs": pairs_run(),
        "refused": refused(), "speaks": ranks.speaks_of_failure(),
    }
    ranks.add_up(torch.zeros(1))  # no rank ends before all are done: the first one holds the connections
    return results


@pytest.fixture(scope="module")
def whole() -> Watcher:
    """A training on one process, with its states."""
    watch = Watcher()
    find(short("soft-top-k", steps=30), watch)
    return watch


@pytest.fixture(scope="module")
def results(whole: Watcher) -> list[Results]:
    return on_ranks(COUNT, everything, whole.states[0])


def test_every_rank_finds_the_same_bits(results: list[Results]) -> None:
    first, *others = results
    for other in others:
        assert other["scores"] == first["scores"]
        assert other["resumed"] == first["resumed"]


def test_several_ranks_find_what_one_process_finds(results: list[Results]) -> None:
    for name, values in scores().items():
        expected = torch.tensor(values)
        torch.testing.assert_close(torch.tensor(results[0]["scores"][name]), expected, rtol=1e-3, atol=1e-4, msg=name)


def test_measured_numbers_are_the_same_bits_on_any_number_of_ranks(results: list[Results]) -> None:
    expected = str(measured())  # as text, because NaN is not equal to itself
    assert [str(each["measured"]) for each in results] == [expected] * COUNT


def test_all_ranks_go_on_from_the_state_of_the_first(results: list[Results], whole: Watcher) -> None:
    values, step = results[-1]["resumed"]
    assert step == int(whole.states[0]["steps"]) + 1
    expected = find(short("soft-top-k", steps=30)).values
    torch.testing.assert_close(torch.tensor(values), expected, rtol=1e-3, atol=1e-4)


def test_each_rank_runs_its_share_of_the_pairs(results: list[Results]) -> None:
    one, each = pairs_run(), [result["pairs"] for result in results]
    assert sum(each) == one
    assert max(each) <= -(-len(DATA.pairs) // COUNT) * one // len(DATA.pairs)


def test_ranks_that_run_different_things_are_refused_on_all(results: list[Results]) -> None:
    said = "; ".join(f"rank {rank}: seed is 2, not 1 as on rank 0" for rank in range(1, COUNT))
    assert [each["refused"] for each in results] == [f"the ranks do not run the same command: {said}"] * COUNT


def test_one_rank_speaks_of_a_failure_of_all(results: list[Results]) -> None:
    assert sorted(each["speaks"] for each in results) == [False, False, True]


def test_without_torchrun_there_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # of some other launcher
    ranks.join()
    assert ranks.count() == 1
    assert ranks.is_first()
    assert ranks.share([1, 2, 3]) == [1, 2, 3]
    assert ranks.speaks_of_failure()
