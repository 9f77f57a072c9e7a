"""A model's weights are in memory once: what is folded from them is kept only where memory is plenty."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial

import pytest
import torch
from random_models import FAMILIES, config_of, mixed_pairs, pairs_for, random_mask, random_model
from running import logits_and_gradient, runner

from edge_pruning.batch import Batch
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.loading.self_check import self_check
from edge_pruning.masked_pass import weights
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models.parts import PartsAdapter

IN_PARTS = [kind for kind in FAMILIES if isinstance(random_model(config_of(kind)), PartsAdapter)]


def memory_of(make: Callable[[], Model]) -> tuple[Model, int]:
    """What `make` returns, and the bytes of all tensors that live on after it; the garbage collector is off."""
    gc.collect()
    gc.disable()
    try:
        before = _storages()
        made = make()
        return made, sum(size for where, size in _storages().items() if where not in before)
    finally:
        gc.enable()


def _storages() -> dict[int, int]:
    types = (torch.Tensor, torch.nn.Parameter)  # other tests leave fake and sparse tensors, which have no storage
    tensors = [x for x in gc.get_objects() if type(x) in types and x.device.type == "cpu" and x.layout is torch.strided]
    return {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}


def test_a_loaded_model_takes_the_memory_of_its_weights() -> None:
    """The check at load time leaves nothing behind, not even until a garbage collection."""
    model, taken = memory_of(load_model)
    own = sum(parameter.nbytes for parameter in model.adapter.hf.parameters())
    assert own <= taken <= 1.05 * own


def test_a_model_has_one_engine_per_graph() -> None:
    adapter = random_model(config_of("gpt2"))
    model = Model(adapter, None, "random")
    split = Graph(adapter.shape, "split")
    assert model.engine() is model.engine(Graph(adapter.shape))
    assert model.engine(split) is model.engine(split) is not model.engine()


@pytest.mark.parametrize("kind", IN_PARTS)
def test_maps_that_are_kept_and_maps_that_are_folded_again_give_the_same_bits(kind: str) -> None:
    adapter = random_model(config_of(kind), torch.float32)
    keeping, folding = (FusedPass(adapter, keep_maps=keep) for keep in (True, False))  # type: ignore[arg-type]
    batch, mask = keeping.batch(pairs_for(adapter)), random_mask(keeping.graph, dtype=torch.float32)
    (logits, gradient), expected = (logits_and_gradient(runner(e, batch), mask) for e in (folding, keeping))
    assert torch.equal(logits, expected[0])
    assert torch.equal(gradient, expected[1])
    assert folding.weights.bytes == 0 < keeping.weights.bytes


def test_maps_are_kept_if_they_take_a_small_part_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = random_model(config_of("llama"))
    kept = FusedPass(adapter, keep_maps=True)  # type: ignore[arg-type]
    run = partial(logits_and_gradient, mask=random_mask(kept.graph))
    run(runner(kept, Batch.of(mixed_pairs())))
    for free, expected in ((weights.KEEP_SHARE * kept.weights.bytes, kept.weights.bytes), (kept.weights.bytes, 0)):
        monkeypatch.setattr(weights, "total_and_free", lambda device, free=free: (10 * free, free))
        engine = FusedPass(adapter)  # type: ignore[arg-type]
        run(runner(engine, Batch.of(mixed_pairs())))
        assert engine.weights.bytes == expected


def test_maps_that_need_no_folding_are_views_of_the_models_weights() -> None:
    adapter = random_model(config_of("llama"))
    out = FusedPass(adapter).weights.heads_out(0)  # type: ignore[arg-type]
    own = adapter.hf.model.layers[0].self_attn.o_proj.weight
    assert out.untyped_storage().data_ptr() == own.untyped_storage().data_ptr()


def test_restricted_passes_share_the_maps_and_copy_none() -> None:
    engine = FusedPass(random_model(config_of("llama")), keep_maps=True)  # type: ignore[arg-type]
    batch, mask = Batch.of(mixed_pairs()), random_mask(engine.graph)
    logits_and_gradient(runner(engine, batch), mask)
    before = engine.weights.bytes
    for seed in range(3):
        within = random_mask(engine.graph, seed) > 0.8
        restricted = engine.restricted(within, consistent=True)
        assert restricted.weights is engine.weights
        logits_and_gradient(runner(restricted, batch), mask * within)
    assert engine.weights.bytes == before


def test_an_engine_gives_back_what_it_holds() -> None:
    engine = Model(random_model(config_of("gpt2")), None, "random").engine()
    assert isinstance(engine, FusedPass)
    logits_and_gradient(runner(engine, Batch.of(mixed_pairs())), random_mask(engine.graph))
    assert engine.buffers.bytes > 0
    assert engine.weights.bytes > 0
    self_check(engine)
    assert engine.buffers.bytes == engine.weights.bytes == 0
