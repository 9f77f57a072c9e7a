"""What removed edges carry, and the frozen passes that are kept instead of computed again."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from functools import cache
from typing import Any

import pytest
import torch
from literal import literal_batch_logits, literal_run
from random_models import config_of, graphs_of, mixed_pairs, pair, random_mask, random_model
from torch import Tensor

from edge_pruning.ablation import ABLATIONS, Ablation, Mean, Patch, Resample, Zero, get_ablation
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.batch import Batch
from edge_pruning.masked_pass import memory
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.unmasked_pass import Frozen
from edge_pruning.models import Adapter
from edge_pruning.pair import Pair

ENGINES = [MaskedPass, FusedPass]
KINDS = ["gpt2", "llama, biases, tied, odd heads, own head size"]


@cache
def model(kind: str) -> Adapter:
    return random_model(config_of(kind))


TRAINING = [pair(100 + i, length, (length - 1,)) for i, length in enumerate((5, 9, 5, 9, 6, 4, 12))]


def fitted(ablation: Ablation | str, engine: MaskedPass) -> Ablation:
    """The ablation, of one's own or by name, with all that it needs."""
    ablation = get_ablation(ablation) if isinstance(ablation, str) else ablation
    return ablation.fitted(engine, TRAINING)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def tensors(frozen: Frozen) -> list[Tensor]:
    return [getattr(frozen, field.name) for field in fields(frozen)]


# --- every ablation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ABLATIONS)
def test_with_all_edges_no_ablation_matters(name: str, kind: str, engine: type[MaskedPass]) -> None:
    adapter, batch = model(kind), Batch.of(mixed_pairs())
    expected = adapter.hf(batch.clean, use_cache=False).logits.flatten(0, 1)[batch.positions]
    for graph in graphs_of(adapter):
        masked = engine(adapter, graph)
        frozen = fitted(name, masked).freeze(masked, batch)
        assert relative(masked.logits(graph.edge_mask.double(), batch, frozen), expected) < 1e-6
        assert relative(frozen.logits, expected) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ABLATIONS)
def test_both_passes_ablate_alike_and_twice_the_same(name: str, kind: str) -> None:
    adapter, batch, logits = model(kind), Batch.of(mixed_pairs()), []
    for engine in (*ENGINES, FusedPass):
        masked = engine(adapter)
        frozen = fitted(name, masked).freeze(masked, batch)
        assert not any(tensor.requires_grad for tensor in tensors(frozen))
        logits.append(masked.logits(random_mask(masked.graph), batch, frozen))
    assert relative(logits[1], logits[0]) < 1e-6
    assert torch.equal(logits[1], logits[2])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ABLATIONS)
def test_without_the_models_logits_everything_else_is_the_same_and_no_clean_prompt_is_run(
    name: str, kind: str, engine: type[MaskedPass], monkeypatch: pytest.MonkeyPatch
) -> None:
    masked, batch, ran = engine(model(kind)), Batch.of(mixed_pairs()), []
    ablation = fitted(name, masked)
    expected = ablation.freeze(masked, batch)
    run = masked.unmasked_run
    monkeypatch.setattr(masked, "unmasked_run", lambda tokens: ran.append(tokens) or run(tokens))
    found = ablation.freeze(masked, batch, logits=False)
    assert found.logits.shape == (len(batch.positions), 0)
    assert not any(tokens is batch.clean for tokens in ran)
    for one, other in zip(tensors(found)[1:], tensors(expected)[1:], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_a_value_that_is_found_by_its_name(name: str) -> None:
    assert get_ablation(name).name == name
    assert get_ablation(name) == get_ablation(name)
    with pytest.raises(FrozenInstanceError):
        get_ablation(name).anything = 1  # type: ignore[attr-defined]
    assert ABLATIONS[name].__doc__
    assert get_ablation(name).description


def test_unknown_ablations_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="there is no ablation 'pach'; nearest: patch"):
        get_ablation("pach")


# --- what each one carries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_patch_carries_the_corrupted_run(kind: str, engine: type[MaskedPass]) -> None:
    adapter, batch = model(kind), Batch.of(mixed_pairs())
    masked = engine(adapter)
    mask = random_mask(masked.graph)
    found = masked.logits(mask, batch, Patch().freeze(masked, batch))
    assert relative(found, literal_batch_logits(adapter, masked.graph, mask, batch)) < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_zero_carries_nothing(kind: str, engine: type[MaskedPass]) -> None:
    adapter, batch = model(kind), Batch.of(mixed_pairs())
    for graph in graphs_of(adapter):
        masked, mask = engine(adapter, graph), random_mask(graph)
        found = masked.logits(mask, batch, Zero().freeze(masked, batch))
        expected = literal_run(adapter, graph, mask, batch.clean, None)[0].flatten(0, 1)[batch.positions]
        assert relative(found, expected) < 1e-6
        assert relative(found, literal_batch_logits(adapter, graph, mask, batch)) > 1e-3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_zero_leaves_the_output_biases_of_attention_and_nothing_else(kind: str, engine: type[MaskedPass]) -> None:
    adapter, batch = model(kind), Batch.of(mixed_pairs())
    masked = engine(adapter)
    found = masked.logits(torch.zeros(masked.graph.edge_mask.shape), batch, Zero().freeze(masked, batch))
    biases = sum(adapter.attention(layer).out_bias for layer in range(adapter.shape.layers))
    assert relative(found, adapter.unembed(biases[None]).expand_as(found)) < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_is_over_prompts_of_the_same_length_place_by_place(kind: str, engine: type[MaskedPass]) -> None:
    """Training prompts of five and of nine tokens occur twice: enough for `least=2`; the others are too few."""
    adapter, batch = model(kind), Batch.of(mixed_pairs())
    masked = engine(adapter)
    mask, mean = random_mask(masked.graph), fitted(Mean(least=2), masked)
    found = masked.logits(mask, batch, mean.freeze(masked, batch))
    expected = []
    for one in mixed_pairs():
        end = max(one.positions) + 1
        same = [other for other in TRAINING if len(other.clean) == end]
        if len(same) >= 2:
            values = torch.stack([writes_on(masked, other.clean) for other in same]).mean(0)
        else:
            each = [writes_on(masked, other.clean) for other in TRAINING]
            values = torch.cat(each, 1).mean(1, keepdim=True).expand(-1, end, -1)
        expected.append(literal_with(masked, mask, one, values))
    assert relative(found, torch.cat(expected)) < 1e-6
    assert {n for n in mean.means if n} == {5, 9}  # type: ignore[attr-defined]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_resampled_values_are_those_of_another_training_prompt(kind: str, engine: type[MaskedPass]) -> None:
    """Of the same length if there is one; else both end at the same place."""
    adapter, batch = model(kind), Batch.of(mixed_pairs())
    masked = engine(adapter)
    mask, resample = random_mask(masked.graph), fitted(Resample(seed=3), masked)
    found = masked.logits(mask, batch, resample.freeze(masked, batch))
    row = 0
    for one in mixed_pairs():
        end = max(one.positions) + 1
        possible = [other.clean for other in TRAINING if len(other.clean) == end] or [p.clean for p in TRAINING]
        wanted = found[row : row + len(one.positions)]
        errors = []
        for tokens in possible:
            written = writes_on(masked, tokens)
            aligned = [max(0, len(tokens) - end + p) for p in range(end)]
            errors.append(relative(wanted, literal_with(masked, mask, one, written[:, aligned])))
        assert min(errors) < 1e-6
        assert sorted(errors)[1:2] == [] or sorted(errors)[1] > 1e-3
        row += len(one.positions)


def writes_on(engine: MaskedPass, tokens: tuple[int, ...]) -> Tensor:
    """What every writer writes when the literal model runs on a prompt, [w, p, d]."""
    ones = torch.ones(engine.graph.edge_mask.shape, dtype=torch.float64)
    return torch.stack(literal_run(engine.adapter, engine.graph, ones, torch.tensor([tokens]), None)[1])[:, 0]


def literal_with(engine: MaskedPass, mask: Tensor, one: Pair, ablated: Tensor) -> Tensor:
    """The literal masked run of a pair with these ablated writes [w, p, d]; logits at the compared positions."""
    tokens = torch.tensor([one.clean[: max(one.positions) + 1]])
    logits = literal_run(engine.adapter, engine.graph, mask, tokens, list(ablated[:, None]))[0]
    return logits[0, list(one.positions)]


@pytest.mark.parametrize("name", ["mean", "resample"])
def test_ablations_read_the_clean_prompts_of_training_pairs_and_nothing_else(name: str) -> None:
    masked = FusedPass(model("gpt2"))
    changed = [Pair(p.clean, p.clean[::-1], p.positions, ((1,),) * len(p.positions), ((2,),)) for p in TRAINING]
    batch = Batch.of(mixed_pairs())
    found, other = (get_ablation(name).fitted(masked, pairs).freeze(masked, batch) for pairs in (TRAINING, changed))
    assert same_bits(found, other)


def test_a_resampled_prompt_is_never_the_pairs_own_and_depends_on_the_seed() -> None:
    masked = FusedPass(model("gpt2"))
    drawn = []
    for seed in range(20):
        resample = Resample(seed=seed).fitted(masked, TRAINING)
        drawn.append([resample._donor(one.clean) for one in TRAINING])
        assert all(donor != one.clean for donor, one in zip(drawn[-1], TRAINING, strict=True))
        assert all(len(d) == 5 for d, one in zip(drawn[-1], TRAINING, strict=True) if len(one.clean) == 5)
    assert len(set(map(tuple, drawn))) > 10
    assert get_ablation("resample", seed=5) == Resample(seed=5)


@pytest.mark.parametrize("name", ["mean", "resample"])
def test_an_ablation_without_its_data_is_refused(name: str) -> None:
    masked = FusedPass(model("gpt2"))
    with pytest.raises(ValueError, match=rf"'{name}' takes its values from training pairs.*fitted\(engine"):
        get_ablation(name).freeze(masked, Batch.of(mixed_pairs()))


def test_a_mean_of_another_engine_is_refused() -> None:
    mean = Mean().fitted(FusedPass(model("gpt2")), TRAINING)
    with pytest.raises(ValueError, match="'mean' was fitted on another engine"):
        mean.freeze(MaskedPass(model("gpt2")), Batch.of(mixed_pairs()))


def test_resampling_needs_two_different_prompts() -> None:
    with pytest.raises(ValueError, match=r"'resample' draws another .* at least 2 that differ, got 1"):
        Resample().fitted(FusedPass(model("gpt2")), TRAINING[:1] * 3)


# --- the cache -------------------------------------------------------------------------------------------------------

PAIRS = [*mixed_pairs(), pair(6, 12, (1,)), pair(7, 8, (7, 0)), pair(8, 8, (3,)), pair(9, 3, (2,))]
ALL = 1 << 30


def run(engine: MaskedPass, batch: Batch, frozen: Frozen) -> tuple[Tensor, Tensor]:
    leaf = random_mask(engine.graph).requires_grad_()
    logits = engine.logits(leaf, batch, frozen)
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    return logits.detach(), leaf.grad  # type: ignore[return-value]


def same_bits(a: Frozen, b: Frozen) -> bool:
    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("name", ABLATIONS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_was_kept_is_what_would_be_computed(kind: str, engine: Any, name: str, share: float) -> None:
    masked = engine(model(kind))
    ablation = fitted(name, masked)
    cache = FrozenCache(masked, PAIRS, ablation, int(share * FrozenCache(masked, PAIRS, ablation, ALL).bytes))
    assert cache.kept == len(PAIRS) if share == 1 else 3 <= cache.kept <= 4
    for ids in ([0], [3, 1], [7, 4, 2], [6, 5, 0, 6], list(range(8))):
        batch, frozen = cache.batch(ids)
        expected = ablation.freeze(masked, Batch.of([PAIRS[i] for i in ids]))
        assert relative(frozen.logits, expected.logits) < 1e-10
        for found, wanted in zip(run(masked, batch, frozen), run(masked, batch, expected), strict=True):
            assert relative(found, wanted) < 1e-10


def test_half_precision_is_kept_as_it_is() -> None:
    masked = FusedPass(random_model(config_of("gpt2"), torch.bfloat16))
    frozen = FrozenCache(masked, PAIRS, Patch(), ALL).batch([0, 1])[1]
    assert {tensor.dtype for tensor in tensors(frozen)} == {torch.bfloat16}


LONG_TEXT_LITTLE_COMPUTED = [pair(1, 12, (0,)), *(pair(i, 10, (9, 8, 7, 6, 5, 4)) for i in range(2, 8))]


@pytest.mark.parametrize("pairs", [PAIRS, LONG_TEXT_LITTLE_COMPUTED, PAIRS[::-1]])
def test_the_cache_takes_no_more_memory_than_it_may_and_uses_it(pairs: list[Pair]) -> None:
    masked = FusedPass(model("gpt2"))
    whole = FrozenCache(masked, pairs, Patch(), ALL)
    assert whole.kept == len(pairs)
    tokens = sum(masked.width(pair) for pair in pairs)
    assert whole.bytes == sum(t.nbytes for t in whole._values.values())
    assert {t.shape[-2] for name, t in whole._values.items() if name != "logits"} == {tokens}  # no filling is kept
    one = whole.bytes // len(pairs)
    for max_bytes in (0, 1, one // 2, 2 * one, 3 * one, whole.bytes - 1, whole.bytes):
        cache = FrozenCache(masked, pairs, Patch(), max_bytes)
        assert cache.bytes <= max_bytes
        assert (cache.kept == len(pairs)) == (max_bytes == whole.bytes)
        assert max_bytes < 3 * one or cache.kept >= 2


@pytest.mark.parametrize("max_bytes", [ALL, 30_000, 0])
@pytest.mark.parametrize("name", ABLATIONS)
def test_a_batch_has_the_same_bits_whatever_was_drawn_before(name: str, max_bytes: int) -> None:
    """A run that goes on from a checkpoint has drawn nothing yet."""
    masked, history = FusedPass(model("llama")), [[1, 2, 3], [7], [5, 0], [2, 6, 4]]
    used = FrozenCache(masked, PAIRS, fitted(name, masked), max_bytes)
    seen = [used.batch(ids)[1] for ids in history]
    again = [used.batch(ids)[1] for ids in history]
    another = FusedPass(model("llama"))
    fresh = FrozenCache(another, PAIRS, fitted(name, another), max_bytes)
    backwards = [fresh.batch(ids)[1] for ids in reversed(history)]
    for first, second, other in zip(seen, again, reversed(backwards), strict=True):
        assert same_bits(first, second)
        assert same_bits(first, other)


def test_kept_values_are_not_changed_by_a_pass_over_them() -> None:
    masked = FusedPass(model("gpt2"))
    cache = FrozenCache(masked, PAIRS, Patch(), ALL)
    before = cache.batch([0, 4])[1]
    run(masked, *cache.batch([0, 4]))
    assert same_bits(before, cache.batch([0, 4])[1])


def test_only_the_pairs_of_a_batch_that_are_not_kept_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    masked = FusedPass(model("gpt2"))
    whole = FrozenCache(masked, PAIRS, Patch(), ALL)
    cache = FrozenCache(masked, PAIRS, Patch(), whole.bytes // 2)
    assert 0 < cache.kept < len(PAIRS)
    computed: list[int] = []
    monkeypatch.setattr(masked, "unmasked_run", lambda x, real=masked.unmasked_run: computed.append(len(x)) or real(x))
    cache.batch([0, 1])
    assert not computed
    cache.batch([len(PAIRS) - 1, 0, cache.kept, 1])
    assert computed == [2]


@pytest.mark.parametrize(("total", "free", "expected"), [(80, 80, 10), (80, 10, 5)])
def test_the_cache_takes_its_share_of_the_memory_there_is(
    total: int, free: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, unless little is free."""
    masked = FusedPass(model("gpt2"))
    bytes_each = FrozenCache(masked, PAIRS[:1] * 5, Patch(), ALL).bytes // 5
    monkeypatch.setattr(memory, "total_and_free", lambda device: (total * bytes_each, free * bytes_each))
    assert FrozenCache(masked, PAIRS[:1] * 20, Patch()).kept == expected
