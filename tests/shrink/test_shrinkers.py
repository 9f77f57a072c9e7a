"""Every shrinking method removes what a model does not use, and computes what its formula says."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from cases import model
from random_models import VISION, pair, pairs_for
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.loading.model import Model
from edge_pruning.models import Adapter
from edge_pruning.setup import Setup
from edge_pruning.shrink import SHRINKERS, ShrinkConfig, get_shrinker
from edge_pruning.shrink.attention_entropy import (
    attention_returned,
    attentions,
    head_values,
    kept_positions,
    mean_entropy,
    token_importance,
)
from edge_pruning.shrink.cutting import zero
from edge_pruning.shrink.job import Job
from edge_pruning.shrink.learned_dimensions import over_maps, shapes
from edge_pruning.shrink.measuring import quality
from edge_pruning.shrink.random_parts import RandomParts
from edge_pruning.shrink.selection import PartScores
from edge_pruning.shrink.summed_edges import SummedEdges, per_node
from edge_pruning.tasks import PairSet

KINDS = ["llama", *(["vit"] if VISION else [])]
SHORT: Mapping[str, Mapping[str, Any]] = {
    "attention-entropy": {"rounds": 2}, "node-masks": {"steps": 20}, "learned-dimensions": {"steps": 20},
    "random": {}, "eap": {"metric": "answer_loss"}, "eap-ig": {"metric": "objective", "steps": 2},
}  # fmt: skip
USELESS_GROUP, USELESS_UNITS = 1, [2, 5]  # of layer 0


@cache
def planted(kind: str) -> Adapter:
    """A model whose output does not depend on one group of heads, nor on two units of layer 0."""
    adapter = model(kind, max_position_embeddings=12) if kind == "llama" else model(kind)
    first = adapter.block(0)
    attention, last = (first.self_attn, first.mlp.down_proj) if kind == "llama" else (first.attention, first.mlp.fc2)
    width = attention.o_proj.in_features // adapter.shape.kv_heads
    with torch.no_grad():
        attention.o_proj.weight[:, USELESS_GROUP * width : (USELESS_GROUP + 1) * width] = 0
        last.weight[:, USELESS_UNITS] = 0
    return adapter


def job_of(adapter: Adapter, **options: Any) -> Job:
    if adapter.causal:
        pairs = tuple(pair(seed, 5 + seed % 2, (4,)) for seed in range(6))
        pairs = tuple(type(one)(one.clean, one.corrupted, one.positions, ((3,),), ((4,),)) for one in pairs)
    else:
        pairs = tuple(pairs_for(adapter))
    data = PairSet("random", "train", "logit_difference", pairs, ())
    setup = Setup(Model(adapter, None, "random").engine(), lambda _: data, Patch())
    return Job(copy.deepcopy(adapter.hf), setup, pairs, options.pop("means", None), options.pop("keep", 0.5), **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*sorted(SHRINKERS), "eap", "eap-ig"])
def test_every_method_scores_parts_of_both_layouts(name: str, kind: str) -> None:
    job = job_of(planted(kind))
    scores = get_shrinker(name, SHORT[name]).score(job)
    assert scores.kinds
    for keep in (0.8, 0.6):
        kept = job.kept(scores, keep)
        assert not torch.equal(kept.groups, torch.ones_like(kept.groups)) or not kept.units.all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["node-masks", "eap", "eap-ig"])
def test_what_a_model_does_not_use_goes_first(name: str, kind: str) -> None:
    job = job_of(planted(kind))
    scores = get_shrinker(name, SHORT[name]).score(job)
    assert scores.heads is not None
    assert scores.units is not None
    assert scores.heads.flatten().argmin() == USELESS_GROUP
    worse = (scores.units < scores.units[0, USELESS_UNITS].max()).sum()  # units that hurt may go before
    assert worse <= (8 if name == "node-masks" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_dimensions_that_a_model_does_not_use_get_the_lowest_scores(kind: str) -> None:
    scores = get_shrinker("learned-dimensions", {"steps": 20, "penalty": 0.001}).score(job_of(planted(kind)))
    assert scores.units is not None
    assert scores.channels is not None
    untouched = 1 - 20 * 0.02  # nothing but the penalty moves them, by the learning rate at each step
    assert scores.units[0, USELESS_UNITS].tolist() == pytest.approx([untouched] * 2, abs=1e-3)
    assert scores.channels[0, USELESS_GROUP].tolist() == pytest.approx([untouched] * 4, abs=1e-3)
    assert (scores.units > untouched + 0.01).float().mean() > 0.6


def test_methods_leave_the_model_that_is_shrunk_as_it_is() -> None:
    adapter = planted("llama")
    before = {name: weights.clone() for name, weights in adapter.hf.named_parameters()}
    for name in sorted(SHRINKERS):
        get_shrinker(name, SHORT[name]).score(job_of(adapter))
    for name, weights in adapter.hf.named_parameters():
        assert torch.equal(weights, before[name])
        assert not weights.requires_grad
    assert not any(module._forward_pre_hooks for module in adapter.hf.modules())


# --- the formulas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_entropies_are_those_of_mean_attention_maps(kind: str) -> None:
    job = job_of(planted(kind))
    found = mean_entropy(job)
    pairs, maps = job.pairs, []
    with attention_returned(job.hf), torch.no_grad():
        for one in pairs:
            maps.append([a[0] for a in attentions(job.hf, job.setup.engine.batch([one]))[0]])
    longest = max(a.shape[-1] for of_pair in maps for a in of_pair)
    for layer in range(job.sizes.layers):
        for group in range(job.sizes.groups):
            bits = []
            for head in range(group * job.sizes.heads_per_group, (group + 1) * job.sizes.heads_per_group):
                for q in range(longest):
                    rows = [of_pair[layer][head, q] for of_pair in maps if q < of_pair[layer].shape[-1]]
                    row = sum(torch.nn.functional.pad(r, (0, longest - len(r))) for r in rows) / len(rows)
                    bits.append(sum(-p * math.log2(p) for p in row.tolist() if p > 0))
            assert found[layer, group].item() == pytest.approx(sum(bits) / len(bits), rel=1e-5)


def test_the_depth_factor_counts_layers_with_more_than_one_head() -> None:
    alive = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    values = head_values(torch.ones(4, 2), alive)
    assert values[:, 0].tolist() == pytest.approx([1.0, 1.0, 1.02, 1.04])


@pytest.mark.skipif(not VISION, reason="needs images")
def test_token_importance_is_the_mean_of_attention_times_slope() -> None:
    """The slope by finite differences: attention to a position is changed in all heads and queries at once."""
    job = job_of(planted("vit"))
    found = token_importance(job)
    batch = next(iter([job.setup.engine.batch(job.pairs)]))

    def loss(layer: int, position: int, step: float) -> float:
        def scaled(weights: Tensor) -> Tensor:
            changed = weights.clone()
            changed[..., position] *= 1 + step
            return changed

        with attention_returned(job.hf), torch.no_grad():
            dropout = torch.nn.functional.dropout
            seen = iter(range(job.sizes.layers))
            torch.nn.functional.dropout = lambda x, *_, **__: (
                scaled(x) if x.shape[-2:] == (5, 5) and next(seen) == layer else x
            )
            try:
                logits = attentions(job.hf, batch)[1]
            finally:
                torch.nn.functional.dropout = dropout
        answers = batch.answers.clamp_min(0)
        return float(-logits.double().log_softmax(-1).gather(-1, answers).sum())

    for layer in range(2):
        slopes = torch.tensor([(loss(layer, p, 1e-2) - loss(layer, p, -1e-2)) / 2e-2 for p in range(5)]).abs()
        expected = slopes / slopes[1:].norm() * (1 - 0.03 * layer)
        torch.testing.assert_close(found[layer], expected.float(), rtol=0.02, atol=0.02)


def test_the_class_token_stays_and_the_lowest_positions_of_all_layers_go() -> None:
    importance = torch.tensor([[0.0, 4, 3, 2, 1], [0.0, 8, 7, 6, 5]])
    kept = kept_positions(importance, 0.5)
    assert kept.tolist() == [[True, False, False, False, False], [True] * 5]


def test_heads_of_a_group_share_what_is_learned() -> None:
    job = job_of(planted("llama"))
    scores = {place: torch.rand(shape) for place, shape in shapes(job.sizes).items()}
    channels = over_maps(scores, job.sizes)["channels"].view(2, 2, 2, 4)  # layer, group, head of it, e
    torch.testing.assert_close(channels, scores["channels"][:, :, None].expand(2, 2, 2, 4))


def test_edges_are_summed_by_the_node_that_they_leave() -> None:
    graph = planted("llama").shape
    engine = job_of(planted("llama")).setup.engine
    values = torch.rand(engine.graph.edge_mask.shape)
    scores = EdgeScores(engine.graph, values - 0.5)
    heads, mlps = per_node(scores, 2)
    names = list(engine.graph.writers)
    edges = engine.graph.edge_mask
    for layer in range(graph.layers):
        rows = [names.index(f"a{layer}.h{h}") for h in (2, 3)]
        assert heads[layer, 1] == pytest.approx(float(scores.values[rows][edges[rows]].abs().sum()), rel=1e-5)
        row = names.index(f"m{layer}")
        assert mlps[layer] == pytest.approx(float(scores.values[row][edges[row]].abs().sum()), rel=1e-5)


def test_tokens_are_for_images() -> None:
    with pytest.raises(ValueError, match="expected tokens=1 for a model that reads text, got 0.5"):
        get_shrinker("attention-entropy", {"tokens": 0.5}).score(job_of(planted("llama")))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("node-mask", {}, "there is no shrinking method 'node-mask'; nearest: node-masks"),
        ("node-masks", {"speed": 1}, "has no setting speed; its settings are steps"),
        ("node-masks", {"steps": 0, "only": "edges"}, "steps must be at least 1, got 0; only must be heads or units"),
        ("attention-entropy", {"tokens": 0, "rounds": 0}, "rounds must be at least 1, got 0; tokens must be above 0"),
        ("learned-dimensions", {"penalty": 0}, "penalty must be positive, got 0"),
        ("learned-dimensions", {"steps": "many"}, "steps: expected .*, got 'many'"),
        ("eap", {"only": "edges"}, "only must be heads or units, got 'edges'"),
        ("eap", {"size": 1}, "has no setting size"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_shrinker(name, settings)


def test_the_seed_reaches_a_method_that_has_one_unless_its_settings_give_another() -> None:
    assert ShrinkConfig(method="random", seed=3).shrinker == RandomParts(seed=3)
    assert ShrinkConfig(method="random", seed=3, settings={"seed": 5}).shrinker == RandomParts(seed=5)
    assert ShrinkConfig(method="edge-pruning", seed=3).shrinker == SummedEdges("edge-pruning", {"seed": 3})
    assert ShrinkConfig(method="eap", seed=3).shrinker == SummedEdges("eap", {})


@pytest.mark.parametrize("name", ["node-masks", "learned-dimensions", "eap"])
def test_scores_choose_better_than_their_opposite(name: str) -> None:
    job = job_of(planted("llama"))
    scores = get_shrinker(name, {**SHORT[name], **({"folded": False} if "dim" in name else {})}).score(job)
    opposite = PartScores(**{kind: -of_kind for kind, of_kind in scores.kinds.items()})
    losses = []
    for chosen in (scores, opposite):
        small = copy.deepcopy(job.hf)
        zero(small, job.kept(chosen, 0.5))
        losses.append(quality(small, job.setup.engine, job.setup.train)["kl"])
    assert losses[0] < 0.7 * losses[1]


def test_only_one_kind_of_part_is_scored_if_so_asked() -> None:
    for name in ("node-masks", "eap"):
        scores = get_shrinker(name, {**SHORT[name], "only": "heads"}).score(job_of(planted("llama")))
        assert isinstance(scores, PartScores)
        assert [*scores.kinds] == ["heads"]
