"""What a method is: a way to give every edge a score. Methods are values; their fields are their settings.

    SoftTopK(steps=300).find(search) -> EdgeScores

The decorator `@method` registers a method in its own file, and the command line and the contract tests then have it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.search import Search
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.registry import Registry, build

METHODS: Registry[type[Method]] = Registry("method")
method = METHODS.register


@dataclass(frozen=True)
class Method(ABC):
    """A way to find circuits.

    name, aliases: what the command line calls it; `aliases` are other names for it.
    summary: one line for `edge-pruning list methods`.
    one_run_ranks_all: whether one run serves every circuit size. If not, `find` is run once per size.
    baseline: whether it is a simple rule that every other method should beat.
    rounds_weights: whether it may search large models in bfloat16 (see `loading/search_dtype.py`): only if its circuits
        were measured to be as good.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    summary: ClassVar[str]
    one_run_ranks_all: ClassVar[bool]
    baseline: ClassVar[bool] = False
    rounds_weights: ClassVar[bool] = False

    @abstractmethod
    def find(self, search: Search) -> EdgeScores:
        """Score every candidate edge; higher means keep first."""

    def cost(self, search: Search) -> Cost:
        """Count what `find` is going to compute. A method that does not say so has an unknown number of passes."""
        pairs = len(search.data.pairs)
        return Cost(gradients=None, forwards=None, frozen=pairs, step_pairs=pairs, kept=pairs)

    def soft_mask(self, scores: EdgeScores, edges: int) -> Tensor | None:
        """The mask [w, r] that was trained, at a size of `edges`, before it is cut to 0 and 1; or None."""
        return None


def check_settings(of: Any, rules: Mapping[str, tuple[bool, str]]) -> None:
    """Raises ValueError with every setting that breaks its rule; rules: name to (does it hold, the rule in words)."""
    problems = [
        f"{name} must be {rule}, got {getattr(of, name)!r}" for name, (holds, rule) in rules.items() if not holds
    ]
    if problems:
        raise ValueError(f"method {of.name!r}: {'; '.join(problems)}")


def get_method(name: str, **settings: Any) -> Method:
    """Build the method of a name with these settings. Raises ValueError with the nearest names if there is none."""
    cls = METHODS.named(name)
    return build(cls, f"method {cls.name!r}", settings)
