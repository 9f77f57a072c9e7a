"""What the tests of methods share: short settings, something small to search in, and an observer that remembers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from random_models import answered, config_of, pair, random_model
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.discovery import METHODS, Method, Observer, Search
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.tasks import PairSet

SIZE = 12
BASELINES = ("magnitude", "node-attribution", "random")
AT_ONCE = ("eap", "eap-ig", "mean-gradient", *BASELINES)
NEVER_LOOK_AT_LOGITS = ("magnitude", "random")
SHORT = {
    "steps": 25, "target_steps": 20, "warmup_steps": 3, "batch_size": 4, "initial_log_alpha": 2.0, "candidates": 1,
    "sweep": 2, "masks_per_step": 1, "rounds": 2, "attribute_first": False,
}
PAIRS = [answered(pair(seed, 5 + seed % 3, (4,)), seed) for seed in range(10)]
DATA = PairSet("random", "train", "logit_difference", tuple(PAIRS), ())


class Watcher(Observer):
    """Remembers every record and every state; goes on from `state`."""

    def __init__(self, state: Mapping[str, Tensor] | None = None) -> None:
        self.state = state
        self.records: list[Mapping[str, float]] = []
        self.states: list[dict[str, Tensor]] = []
        self.total = 0

    def resume(self) -> Mapping[str, Tensor] | None:
        return self.state

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        self.records += records
        self.total = total

    def checkpoint(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        self.states.append({name: value.clone() for name, value in state().items()})


def settings_of(name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the wanted settings that the method has."""
    known = {field.name for field in dataclasses.fields(METHODS[name])}
    return {key: value for key, value in wanted.items() if key in known}


LEARNED = [name for name in METHODS if settings_of(name, {"learning_rate": 1.0})]


def short(name: str, **changes: Any) -> Method:
    return METHODS[name](**settings_of(name, SHORT | changes))


@cache
def engine(kind: str = "gpt2") -> MaskedPass:
    return FusedPass(random_model(config_of(kind), torch.float32))


def find(method: Method, observer: Observer | None = None, **options: Any) -> EdgeScores:
    """Run a method on the small model and the pairs above."""
    watch = {} if observer is None else {"observer": observer}
    return method.find(search(sizes=(SIZE,), **watch, **options))


def attempt(method: Method, expected: type[Exception], observer: Observer | None = None, **options: Any) -> Any:
    """What a method finds, or the expected exception that it raises."""
    try:
        return find(method, observer, **options)
    except expected as error:
        return error


@cache
def found(name: str) -> EdgeScores:
    """What a method finds with its short settings; for tests that compare something with it."""
    return find(short(name))


def search(on: MaskedPass | None = None, data: PairSet = DATA, **options: Any) -> Search:
    return Search(on or engine(), data, Patch(), **options)


def some_edges(graph: Graph, share: float = 0.5, seed: int = 0) -> Tensor:
    drawn = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return (drawn < share) & graph.edge_mask
