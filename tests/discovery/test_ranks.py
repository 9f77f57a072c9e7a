"""Several ranks find what one process finds, and measure the same numbers; with real processes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from processes import on_ranks
from torch import Tensor
from transformers import AutoTokenizer
from watching import DATA, Watcher, engine, find, short, some_edges

from edge_pruning import ranks
from edge_pruning.ablation import Patch
from edge_pruning.evaluation.measure import measure
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models.bundled import BUNDLED
from edge_pruning.runs.checkpoints import Memory
from edge_pruning.setup import Setup
from edge_pruning.tasks import PairSet
from edge_pruning.tasks.encoding import Encoder
from edge_pruning.tasks.own import OwnPairs, encoded

COUNT = 3
AT_ONCE = 4  # rows that a rank tokenises together
YEARS = [{"clean": f"The year 17{n}", "corrupted": "The year 1600", "answer": " ran"} for n in range(10, 31)]
UNKNOWN = {
    n: {"clean": f"{word} the year 1710", "corrupted": f"{word} the year 1600"} for n, word in ((6, "Qq"), (9, "Xx"))
}
WRONG = {4: {"corrupted": "The year"}, 9: {"answer": " Qq"}, 11: {"clean": ""}, 20: {"answer": " Xx"}}
SOURCES: dict[str, list[dict[str, Any]]] = {
    "with notices": [{**row, **UNKNOWN.get(n, {})} for n, row in enumerate(YEARS)],
    "for one rank": YEARS[:AT_ONCE],
    "with trees": [{**row, "answer": [" ran to", " sat"] if n == 13 else [[8, 9]]} for n, row in enumerate(YEARS)],
    "with problems": [{**row, **WRONG.get(n, {})} for n, row in enumerate(YEARS)],
}
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


def read() -> dict[str, tuple[str, int]]:
    """Everything that is read of each source, and how many times this process has encoded a row for it."""
    tokenizer, rows, real, found = AutoTokenizer.from_pretrained(BUNDLED), [0], Encoder.pair, {}

    def pair(*arguments: Any, **options: Any) -> Any:
        rows[0] += 1
        return real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoded, "AT_ONCE", AT_ONCE)
        patch.setattr(Encoder, "pair", pair)
        for name, source in SOURCES.items():
            rows[0] = 0
            reading = OwnPairs(source).reading(tokenizer, max_length=9)
            items = [[*each.items()] for each in (reading.pairs, reading.texts, reading.splits, reading.unequal)]
            found[name] = str([items, reading.problems.messages, reading.sentences]), rows[0]
    return found


def other_rows() -> str:
    """The message where one rank has another row than the others."""
    last = {**YEARS[-1], "answer": " ran" if ranks.is_first() else " sat"}
    with pytest.raises(ValueError, match="ranks") as error:
        OwnPairs([*YEARS[:-1], last]).reading(AutoTokenizer.from_pretrained(BUNDLED))
    return str(error.value)


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
    return {
        "scores": scores(), "measured": measured(), "resumed": resumed(state), "pairs": pairs_run(),
        "refused": refused(), "read": read(), "other rows": other_rows(), "speaks": ranks.speaks_of_failure(),
    }


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


@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_read_by_one_rank_each_and_all_have_what_one_process_reads(results: list[Results], name: str) -> None:
    alone, rows = read()[name]
    assert [each["read"][name][0] for each in results] == [alone] * COUNT
    each = [result["read"][name][1] for result in results]
    assert sum(each) == rows
    passes = 2 if name == "with trees" else 1
    assert max(each) <= passes * AT_ONCE * -(-len(SOURCES[name]) // (AT_ONCE * COUNT))
    assert 0 in each or name != "for one rank"


def test_ranks_that_read_different_rows_are_refused_on_all(results: list[Results]) -> None:
    for each in results:
        assert re.search("rank 2: the digest of task 'own pairs' is .*, not .* as on rank 0", each["other rows"])


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
