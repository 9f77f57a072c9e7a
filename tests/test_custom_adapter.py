"""A model that is no Hugging Face model, has no norm and attends to the right: the five adapter methods are enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from literal import literal_batch_logits
from random_models import VOCABULARY, config_of, mixed_pairs, random_mask, random_model
from torch import Tensor, nn

from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.loading.model import Model
from edge_pruning.loading.self_check import self_check
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import Adapter
from edge_pruning.pair import Pair

LAYERS, HEADS, D, E = 2, 3, 8, 4


class Plain(nn.Module):
    """Softmax attention over the whole text and a ReLU MLP, both added to the stream as they are."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def matrices(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.4 * torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.words, self.out = matrices(VOCABULARY, D), matrices(D, VOCABULARY)
        self.qkv, self.o = matrices(LAYERS, 3, HEADS, D, E), matrices(LAYERS, HEADS, E, D)
        self.up, self.down = matrices(LAYERS, D, 5), matrices(LAYERS, 5, D)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words[tokens]
        for layer in range(LAYERS):
            q, k, v = torch.einsum("bpd,thde->thbpe", x, self.qkv[layer])
            x = x + ((q @ k.mT).softmax(-1) @ v @ self.o[layer][:, None]).sum(0)
            x = x + (x @ self.up[layer]).relu() @ self.down[layer]
        return x @ self.out


class PlainAdapter(Adapter):
    model_type = "plain"
    causal = False
    d_model = D
    vocabulary = VOCABULARY
    max_length = 12
    shape = ModelShape(LAYERS, HEADS)

    def __init__(self, module: Plain) -> None:
        module.config = SimpleNamespace()
        super().__init__(module.requires_grad_(False))

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        return self.hf.words[inputs][None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        q, k, v = (x @ w[:, None] for x, w in zip((q, k, v), self.hf.qkv[layer], strict=True))
        return (q @ k.mT).softmax(-1) @ v @ self.hf.o[layer][:, None]

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        return (x @ self.hf.up[layer]).relu() @ self.hf.down[layer]

    def unembed(self, x: Tensor) -> Tensor:
        return x @ self.hf.out

    def own_logits(self, inputs: Tensor) -> Tensor:
        return self.hf(inputs)


@pytest.fixture(scope="module")
def engine() -> MaskedPass:
    return Model(PlainAdapter(Plain()), None, "plain").engine()


def one_length() -> list[Pair]:
    return [pair for pair in mixed_pairs() if len(pair.clean) == 9] * 2


def test_a_model_in_verbs_gets_the_general_pass_and_one_in_parts_the_fused_one(engine: MaskedPass) -> None:
    assert type(engine) is MaskedPass
    assert type(Model(random_model(config_of("gpt2")), None, "gpt2").engine()) is FusedPass


def test_the_laws_hold(engine: MaskedPass) -> None:
    assert max(self_check(engine)) < 1e-12


def test_masked_logits_are_those_of_the_literal_formula(engine: MaskedPass) -> None:
    batch, mask = engine.batch(one_length()), random_mask(engine.graph)
    found = engine.logits(mask, batch, Patch().freeze(engine, batch))
    torch.testing.assert_close(found, literal_batch_logits(engine.adapter, engine.graph, mask, batch))


def test_prompts_are_run_whole_beside_others_of_equal_length(engine: MaskedPass) -> None:
    pairs = [*mixed_pairs(), *one_length()]
    tiles = engine.tiles(pairs)
    assert sorted(i for tile in tiles for i in tile) == list(range(len(pairs)))
    for tile in tiles:
        batch = engine.batch([pairs[i] for i in tile])
        assert [len(pairs[i].clean) for i in tile] == [batch.width] * len(tile)
    assert max(map(len, tiles)) == 3
    with pytest.raises(ValueError, match=r"batch must have one length; got 4 to 9 tokens. `engine.tiles` cuts"):
        engine.batch(pairs)


def test_text_after_the_compared_position_is_seen(engine: MaskedPass) -> None:
    whole = Pair((1, 2, 3, 4), (5, 6, 7, 8), (1,), ((),), ((),))
    other = Pair((1, 2, 3, 9), (5, 6, 7, 8), (1,), ((),), ((),))
    first, second = (Patch().freeze(engine, engine.batch([pair])).logits for pair in (whole, other))
    assert (first - second).abs().max() > 1e-3


def test_the_cache_keeps_whole_prompts(engine: MaskedPass) -> None:
    pairs, mask = [*mixed_pairs(), *one_length()], random_mask(Graph(engine.graph.shape))
    cache = FrozenCache(engine, pairs, Patch(), 1 << 20)
    assert cache.kept == len(pairs)
    for tile in engine.tiles(pairs):
        batch, frozen = cache.batch(tile)
        expected = engine.logits(mask, batch, Patch().freeze(engine, batch))
        torch.testing.assert_close(engine.logits(mask, batch, frozen), expected, rtol=0, atol=1e-12)


