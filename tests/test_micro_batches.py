"""A micro-batch that does not fit is cut in half and tried again, and nothing is lost or counted twice."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from random_models import config_of, mixed_pairs, pair, random_mask, random_model
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.circuit import Circuit
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.evaluation import evaluate
from edge_pruning.masked_pass import memory, tiles
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import OutOfMemory, over_tiles
from edge_pruning.objectives import get_objective
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of ..."
PAIRS = [*mixed_pairs(), *(pair(seed, 6, (5,)) for seed in range(10, 15))]


class SmallDevice(FusedPass):
    """Has no room for more than `most` pairs in one run."""

    most = 2

    def run(self, mask: Tensor, batch: Any, *rest: Any) -> Any:
        if batch.size > self.most:
            raise torch.OutOfMemoryError(FULL)
        return super().run(mask, batch, *rest)


@pytest.fixture
def engine() -> MaskedPass:
    return SmallDevice(random_model(config_of("gpt2")))


def test_the_gradient_is_the_same_and_the_cut_is_said_once(
    engine: MaskedPass, caplog: pytest.LogCaptureFixture
) -> None:
    whole, mask, kl = FusedPass(engine.adapter), random_mask(engine.graph, dtype=torch.float32), get_objective("kl")
    ids, found = list(range(len(PAIRS))), []
    with caplog.at_level(logging.WARNING, "edge_pruning"):
        for each in (whole, engine, engine):
            found.append(mask_gradient(each, FrozenCache(each, PAIRS, Patch(), 0), ids, mask, kl))
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-5, atol=1e-7)
    (said,) = caplog.messages
    tokens = len(PAIRS) * max(map(engine.width, PAIRS))
    assert f"with {tokens} tokens in a micro-batch (CUDA out of memory. Tried to allocate 2.00 GiB.)" in said
    assert f"at most {tokens // 2} at a time" in said
    assert engine.tile_tokens == engine.largest_tile <= tokens // 2


def test_an_evaluation_measures_every_pair_once(engine: MaskedPass) -> None:
    circuit = Circuit(engine.graph, random_mask(engine.graph) > 0.5)
    pairs = PairSet("random", "test", "logit_difference", tuple(PAIRS), ())
    cut, whole = (evaluate(circuit, Setup(each, pairs, Patch()), random_circuits=1)
                  for each in (engine, FusedPass(engine.adapter)))  # fmt: skip
    assert cut["circuit"]["kl"] == pytest.approx(whole["circuit"]["kl"])


def test_later_work_begins_with_what_fits(engine: MaskedPass) -> None:
    sizes: list[int] = []

    def work(ids: list[int]) -> int:
        sizes.append(len(ids))
        if len(ids) > 3:
            raise torch.OutOfMemoryError(FULL)
        return len(ids)

    for _ in range(2):
        done = [(ids, n) for ids, n in over_tiles(engine, PAIRS, work)]
        assert sorted(i for ids, _ in done for i in ids) == list(range(len(PAIRS)))
    assert sizes[:3] == [9, 5, 3]
    assert sizes.count(9) == 1


def test_a_single_pair_that_does_not_fit_is_said_to_be() -> None:
    engine = SmallDevice(random_model(config_of("gpt2")))
    engine.most = 0
    mask, kl = random_mask(engine.graph, dtype=torch.float32), get_objective("kl")
    with pytest.raises(OutOfMemory, match=r"single pair of \d tokens \(CUDA out of memory. Tried .*--dtype bfloat16"):
        mask_gradient(engine, FrozenCache(engine, PAIRS, Patch(), 0), [0, 1, 2], mask, kl)


def test_logits_count_as_memory_of_a_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs with many compared positions: as many rows of logits as fit, in any number of tokens."""
    engine = FusedPass(random_model(config_of("gpt2")))
    chats = [pair(seed, 8, (2, 3, 4, 5, 6, 7)) for seed in range(6)]
    assert [len(tile) for tile in engine.tiles(chats)] == [6]
    monkeypatch.setattr(tiles, "LOGITS_BYTES", 13 * 4 * tiles.COPIES_OF_LOGITS * engine.adapter.vocabulary)
    assert [len(tile) for tile in engine.tiles(chats)] == [2, 2, 2]
    monkeypatch.setattr(tiles, "LOGITS_BYTES", 1)
    assert [len(tile) for tile in engine.tiles(chats)] == [1] * 6


def test_on_a_cpu_buffers_are_bounded_and_weights_are_loaded_for_enough_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller of two bounds counts, but no micro-batch is smaller than `CPU_TILE_TOKENS`."""
    engine = FusedPass(random_model(config_of("gpt2")))
    writers, readers = engine.graph.edge_mask.shape
    row = engine.adapter.d_model * engine.dtype.itemsize
    monkeypatch.setattr(tiles, "CPU_TILE_BYTES", 300 * engine.layout.most_readers * row)
    assert engine.tile_tokens == 300
    for tokens, most in ((200, 200), (400, 300), (10, tiles.CPU_TILE_TOKENS)):
        monkeypatch.setattr(tiles, "CPU_BUFFER_BYTES", tokens * (2 * writers + readers) * row)
        assert engine.tile_tokens == most
    engine.keep_reads = False
    monkeypatch.setattr(tiles, "CPU_BUFFER_BYTES", 200 * 2 * writers * row)
    assert engine.tile_tokens == 200


def test_on_an_accelerator_the_memory_that_is_free_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether reads are kept, and how many tokens a micro-batch has."""
    engine = FusedPass(random_model(config_of("gpt2")))
    engine.home = torch.device("cuda")
    writers, readers = engine.graph.edge_mask.shape
    for tokens, reads in ((10_000, True), (tiles.FEWEST_TOKENS_WITH_READS, True), (100, False)):
        rows = 2 * writers + readers
        free = 2 * tokens * (rows * engine.adapter.d_model * 8 * 5 // 4)
        monkeypatch.setattr(memory, "total_and_free", lambda device, free=free: (free, free))
        engine.__dict__.pop("memory_for_pass", None)
        assert engine.keeps_reads is reads
        assert engine.tile_tokens == tokens if reads else engine.tile_tokens > tokens
    forced = FusedPass(engine.adapter, keep_reads=False)
    assert not forced.keeps_reads
