"""Captured micro-batches give the same bits as others, whatever is replayed, and never look at a value.

There is no GPU here. In place of a CUDA graph there is a tape: it records every operation on the tensors themselves,
refuses what a graph refuses, and repeats the operations at the same places, without any Python of the package.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretend_devices import LOOKS
from random_models import answered, config_of, pair, random_mask, random_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery import Search, gradient
from edge_pruning.discovery.gradient import Capturing, mask_gradient
from edge_pruning.discovery.soft_top_k import SoftTopK
from edge_pruning.masked_pass import buckets, captured
from edge_pruning.masked_pass.captured import Captured, Tensors, why_not
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.objectives import KL, OBJECTIVES
from edge_pruning.runs.config import RunConfig
from edge_pruning.tasks.task import PairSet

REFUSED = (*LOOKS, torch.ops.aten.lift_fresh.default)  # the last one brings numbers from the CPU
PAIRS = [answered(pair(seed, 6 + seed // 4, (3, 5)), seed) for seed in range(8)]  # two widths
KINDS = ["llama", "gemma2", "bloom", "cohere", "phi"]  # grouped, capped, ALiBi, neighbours turned, half turned


class Tape(TorchDispatchMode):
    """Records operations. `replay` repeats them on the same tensors, and writes the results where they were."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in REFUSED:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        self.operations.append((func, args, kwargs or {}, func(*args, **(kwargs or {}))))
        return self.operations[-1][-1]

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, results in self.operations:
            for new, old in zip(_tensors(func(*args, **kwargs)), _tensors(results), strict=True):
                if new.untyped_storage().data_ptr() != old.untyped_storage().data_ptr():  # neither a view nor in place
                    old.copy_(new)


class Tapes(list[Tape]):
    """A recorder, as `cuda_graph` returns one."""

    def __call__(self, work: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        self.append(Tape())
        with self[-1]:
            results = work()
        return self[-1].replay, results


def _tensors(results: Any) -> list[Tensor]:
    return [x for x in (results if isinstance(results, list | tuple) else [results]) if isinstance(x, Tensor)]


def engine_of(kind: str = "gpt2", **options: Any) -> FusedPass:
    return FusedPass(random_model(config_of(kind), torch.float32), **options)


@pytest.mark.parametrize("objective", ["kl", "logit_difference", *KINDS, "gpt2 restricted", "llama recomputed"])
def test_a_replay_gives_the_same_bits_for_other_masks_and_pairs(objective: str) -> None:
    kind = next((word for word in objective.split() if word in KINDS), "gpt2")
    engine: MaskedPass = engine_of(kind, keep_reads=False if "recomputed" in objective else None)
    if "restricted" in objective:
        engine = engine.restricted(random_mask(engine.graph, 1) > 0.6, consistent=True)
    cache, compared = FrozenCache(engine, PAIRS, Patch()), OBJECTIVES.get(objective, KL)
    tapes = Tapes()
    recorded = Capturing(engine, compared, PAIRS, tapes)
    for seed in range(4):
        ids = [2 * (seed % 2), 2 * (seed % 2) + 1, 4 + seed]  # always two micro-batches, of 2 pairs and of 1
        engine.largest_tile = 2 * cache.engine.width(PAIRS[0])
        mask = random_mask(engine.graph, seed, dtype=torch.float32)
        loss, of_mask = mask_gradient(engine, cache, ids, mask, compared, recorded)
        expected_loss, expected = mask_gradient(engine, cache, ids, mask, compared)
        assert torch.equal(loss, expected_loss)
        assert torch.equal(of_mask, expected)
        assert of_mask.abs().sum() > 0
    assert [tape.replays for tape in tapes] == [4, 4]  # the first pass ran as usual; the second was compared


@pytest.mark.parametrize(
    ("kind", "objective"), [("llama", "kl"), ("gpt2", "answer_loss"), ("gpt2", "logit_difference")]
)
def test_micro_batches_are_filled_up_to_few_shapes_with_what_does_not_count(
    kind: str, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "STEPS", 2)
    lengths = [4, 5, 6, 7, 8, 9, 10, 11]
    pairs = [answered(pair(n, n, tuple(range(n - 1 - n % 3, n))), n) for n in lengths]  # of 1 to 3 positions
    engine, compared, tapes = engine_of(kind), OBJECTIVES[objective], Tapes()
    cache, capturing = FrozenCache(engine, pairs, Patch()), Capturing(engine, compared, pairs, tapes)
    mask = random_mask(engine.graph, dtype=torch.float32)
    for first in (0, 1, 2, 3, 4, 5, 6) * 2:
        ids = [first, first + 1]
        found = mask_gradient(engine, cache, ids, mask, compared, capturing)
        for got, expected in zip(found, mask_gradient(engine, cache, ids, mask, compared), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    unfilled = {(cache.batch([i, i + 1])[0].width, len(cache.batch([i, i + 1])[0].positions)) for i in range(7)}
    assert len(tapes) <= 4 < len(unfilled)
    assert sum(tape.replays for tape in tapes) >= 7


def test_training_with_recordings_finds_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    data, found = PairSet("random", "train", "logit_difference", tuple(PAIRS), ()), []
    tapes = Tapes()
    for record in (None, tapes):
        monkeypatch.setattr(gradient, "recorder", lambda engine, record=record: record)
        method = SoftTopK(steps=6, batch_size=4, attribute_first=False)
        found.append(method.find(Search(engine_of(), data, Patch(), (20,))).values)
    assert torch.equal(*found)
    assert sum(tape.replays for tape in tapes) >= 3


def test_what_cannot_be_recorded_runs_as_usual_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    looks = lambda x: (x * float(x.sum()),)  # noqa: E731
    tapes = Tapes()
    function, x = Captured(looks, tapes), torch.arange(3.0)
    with caplog.at_level(logging.WARNING, "edge_pruning"):
        found = [function(x)[0] for _ in range(4)]
    assert all(torch.equal(y, 3 * x) for y in found)
    assert len(tapes) == 1
    (said,) = caplog.messages
    assert said.startswith("CUDA graphs are off: capturing failed (operation not permitted when stream is capturing")
    required = Captured(looks, Tapes(), required=True)
    required(x)
    with pytest.raises(RuntimeError, match="requires a CUDA graph, but capturing failed: operation not permitted"):
        required(x)


def test_a_recording_whose_replay_gives_other_numbers_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    function, x = Captured(lambda x: (x + 1,), lambda work: (lambda: None, (work()[0] + 0.01,))), torch.arange(3.0)
    with caplog.at_level(logging.WARNING, "edge_pruning"):
        assert all(torch.equal(function(x)[0], x + 1) for _ in range(3))
    assert caplog.messages == [
        "CUDA graphs are off: capturing failed (a replay gave other numbers than a run as usual)"
    ]


def test_recordings_share_the_places_of_their_arguments_and_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "MOST_SHAPES", 2)
    tapes = Tapes()
    function = Captured(lambda x, y: (x + y.sum(),), tapes)
    for n in (3, 2, 4, 3, 2, 4, 4, 3, 2):
        x, y = torch.rand(n), torch.rand(n, 2)
        assert torch.equal(function(x, y)[0], x + y.sum())
    assert [tape.replays for tape in tapes] == [3, 3]  # 3 and 2; there was no room for 4
    places = {tape.operations[0][1][0].untyped_storage().data_ptr() for tape in tapes}
    assert len(places) == 1


def test_it_is_said_why_a_pass_cannot_be_captured() -> None:
    assert why_not(engine_of()) == "the model is on cpu, and only CUDA has graphs"
    engine = engine_of()
    engine.cuda_graph = "on"
    with pytest.raises(ValueError, match="--cuda-graph on is not possible here: the model is on cpu"):
        Capturing(engine, KL, PAIRS)
    engine.home = torch.device("cuda")
    assert "several devices" in str(why_not(engine))
    engine.devices = [engine.home] * len(engine.devices)
    assert why_not(engine) is None
    experts = engine_of("mixtral")
    experts.home, experts.devices = engine.home, engine.devices
    assert "experts" in str(why_not(experts))
    with pytest.raises(ValueError, match="expected cuda_graph auto, on, off; got 'maybe'"):
        RunConfig(task="ioi", cuda_graph="maybe")
    reference = MaskedPass(engine.adapter)
    reference.home, reference.devices = engine.home, engine.devices
    assert "fused" in str(why_not(reference))
