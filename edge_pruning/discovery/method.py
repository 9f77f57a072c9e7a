"""What a method is: a way to give every edge a score. Methods are values; their fields are their settings.

    method.find(engine, data, ablation) -> EdgeScores

A method is registered by a decorator in its own file, and then appears in the command line and in the contract tests.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.circuit import EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.tasks.task import PairSet

METHODS: dict[str, type[Method]] = {}


class Observer:
    """Watches a method at work; this one does nothing. Run folders and progress bars override what they need."""

    def resume(self) -> Mapping[str, Tensor] | None:
        """The last state that was given to `checkpoint`, to go on from; None to start afresh."""
        return None

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        """One record per finished step (`step`, `kl`, ...), of `total` steps; called every few steps."""

    def checkpoint(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Called every few steps with a way to get the state that `resume` wants."""


@dataclass(frozen=True)
class Method(ABC):
    """A way to find circuits.

    `one_run_ranks_all` says whether one run serves every circuit size; if not, `find` is run once per size.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    one_run_ranks_all: ClassVar[bool]

    @abstractmethod
    def find(
        self,
        engine: MaskedPass,
        data: PairSet,
        ablation: Ablation,
        *,
        sizes: Sequence[int] = (),
        within: Tensor | None = None,
        init_scores: EdgeScores | None = None,
        observer: Observer | None = None,
    ) -> EdgeScores:
        """Score every edge; higher means keep first.

        data: training pairs, and the objective that says how a run is compared with the model. sizes: how many edges
        the caller wants to keep, where known. within: candidate edges, bool [w, r]; the others stay ablated.
        init_scores: a warm start from another method.
        """

    def soft_mask(self, scores: EdgeScores, edges: int) -> Tensor | None:
        """The mask [w, r] that was trained, at a size of `edges`, before it is cut to 0 and 1; or None."""
        return None


def check_settings(method: Method, rules: Mapping[str, tuple[bool, str]]) -> None:
    """Raises ValueError with every setting that breaks its rule; rules: name to (does it hold, the rule in words)."""
    problems = [
        f"{name} must be {rule}, got {getattr(method, name)!r}" for name, (holds, rule) in rules.items() if not holds
    ]
    if problems:
        raise ValueError(f"method {method.name!r}: {'; '.join(problems)}")


def candidates_of(graph: Graph, within: Tensor | None) -> Tensor:
    """The candidate edges, bool [w, r] on the CPU. Raises ValueError where there are none."""
    if within is None:
        return graph.edge_mask
    if within.shape != graph.edge_mask.shape or within.dtype != torch.bool:
        raise ValueError(
            f"expected candidate edges as a bool mask [writer, reader] of shape {tuple(graph.edge_mask.shape)}, "
            f"got {within.dtype} {tuple(within.shape)}"
        )
    candidates = within.cpu() & graph.edge_mask
    if not candidates.any():
        raise ValueError("there are no candidate edges: `within` names no edge of the graph")
    return candidates


def method(cls: type[Method]) -> type[Method]:
    """Register a method under its name."""
    METHODS[cls.name] = cls
    return cls


def get_method(name: str, **settings: Any) -> Method:
    """Raises ValueError with the nearest names where there is none."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 3, 0) or list(METHODS)
        raise ValueError(f"there is no method {name!r}; nearest: {', '.join(near)}")
    return METHODS[name](**settings)
