"""Methods find what is there: a circuit that was planted, and one in a random model that is better than chance."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from random_models import answered, config_of, pair, random_model
from torch import Tensor
from watching import settings_of

from edge_pruning import metrics
from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.discovery import METHODS, Search
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import Adapter
from edge_pruning.tasks import PairSet

FINDERS = [name for name, cls in METHODS.items() if not cls.baseline]
LIVE = {(0, 1), (1, 2)}  # (layer, head)
NODES = {"a0.h1", "a1.h2"}
LONGER = {"batch_size": 8, "steps": 100}
MORE = {
    "iterative-pruning": {"rounds": 2, "steps": 50},
    "ugs": {"masks_per_step": 2},
    "edge-pruning": {
        "steps": 300, "target_steps": 200, "warmup_steps": 10, "initial_log_alpha": 1.0, "learning_rate": 0.3,
    },
}  # fmt: skip
TRAIN = PairSet(
    "planted", "train", "logit_difference", tuple(answered(pair(seed, 6, (5,)), seed) for seed in range(24)), ()
)
TEST = Batch.of([pair(seed, 6, (5,)) for seed in range(100, 132)])


@cache
def planted() -> MaskedPass:
    """A model in which all but two heads write nothing, so that every other edge carries nothing either."""
    adapter = random_model(config_of("gpt2"), torch.float32)
    for layer in range(2):
        adapter.hf.transformer.h[layer].mlp.c_proj.weight.zero_()
        for head in range(3):
            rows = adapter.hf.transformer.h[layer].attn.c_proj.weight[4 * head : 4 * head + 4]
            rows.mul_(3 if (layer, head) in LIVE else 0)
    return FusedPass(louder(adapter))


@cache
def ordinary() -> MaskedPass:
    return FusedPass(louder(random_model(config_of("gpt2"), torch.float32)))


def louder(adapter: Adapter) -> Adapter:
    """With small logits nothing is at stake, and the penalty on the size is all that a method would notice."""
    adapter.hf.transformer.ln_f.weight.mul_(6)
    adapter.hf.transformer.ln_f.bias.mul_(6)
    return adapter


def truth() -> Tensor:
    """The edges between what is alive: from the embeddings or a live head to a live head or the logits."""
    graph = planted().graph
    live = [
        name for name in graph.names(graph.edge_mask)
        if name.split("->")[0] in {"input", *NODES} and name.split("->")[1].split("<")[0] in {"logits", *NODES}
    ]
    return graph.mask(live)


def kl(engine: MaskedPass, mask: Tensor) -> float:
    frozen = Patch().freeze(engine, TEST)
    return float(metrics.kl_divergence(frozen.logits, engine.logits(mask.float(), TEST, frozen), TEST).mean())


def found(name: str, engine: MaskedPass, edges: int) -> Tensor:
    method = METHODS[name](**settings_of(name, LONGER | MORE.get(name, {})))
    return method.find(Search(engine, TRAIN, Patch(), (edges,))).top(edges)


def at_random(engine: MaskedPass, edges: int, seed: int) -> Tensor:
    scores = torch.rand(engine.graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return EdgeScores(engine.graph, scores).top(edges)


def test_the_planted_circuit_is_all_there_is() -> None:
    assert int(truth().sum()) == 12
    assert kl(planted(), truth()) < 1e-6
    for name in planted().graph.names(truth()):
        assert kl(planted(), truth() & ~planted().graph.mask([name])) > 1e-5, name


@pytest.mark.parametrize("name", FINDERS)
def test_a_planted_circuit_is_found(name: str) -> None:
    mask = found(name, planted(), 12)
    assert int((mask & truth()).sum()) >= 6  # by chance 1.9, standard deviation 1.2
    chance = min(kl(planted(), at_random(planted(), 12, seed)) for seed in range(20))
    assert kl(planted(), mask) < 0.4 * chance


@pytest.mark.parametrize("name", FINDERS)
def test_a_circuit_is_better_than_random_ones_of_its_size(name: str) -> None:
    chance = min(kl(ordinary(), at_random(ordinary(), 15, seed)) for seed in range(20))
    assert kl(ordinary(), found(name, ordinary(), 15)) < 0.5 * chance
