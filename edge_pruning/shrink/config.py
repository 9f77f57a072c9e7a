"""The settings of a smaller model, checked together before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edge_pruning.shrink.by_name import get_shrinker
from edge_pruning.shrink.method import Shrinker

DEFAULT_METHOD = "node-masks"


@dataclass(frozen=True, kw_only=True)
class ShrinkConfig:
    """The settings of a smaller model. Raises ValueError with all problems.

    method, settings: a shrinking method or one that finds circuits, and its settings.
    keep: the share that stays, above 0 and below 1, of the FLOPs of everything that the method can remove.
    ablation: what is left of a removed part, `mean` (held by the biases, where there are any) or `zero`.
    finetune, learning_rate, batch_size: steps of fine-tuning, their learning rate, and the examples in each step.
    uniform: keep equally many heads and units in each layer.
    seed: of everything random; a method's own setting `seed` comes first.
    """

    method: str = DEFAULT_METHOD
    settings: Mapping[str, Any] = field(default_factory=dict)
    keep: float = 0.5
    ablation: str = "mean"
    finetune: int = 0
    learning_rate: float = 3e-4
    batch_size: int = 32
    uniform: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ValueError("\n  ".join([f"{len(problems)} problems:", *problems] if len(problems) > 1 else problems))

    def _problems(self) -> Iterator[str]:
        if not 0 < self.keep < 1:
            yield f"expected keep above 0 and below 1 (the share of the work that stays), got {self.keep:g}"
        if self.ablation not in ("mean", "zero"):
            yield f"expected ablation mean or zero (what is left of a removed part), got {self.ablation!r}"
        if self.finetune < 0 or self.batch_size < 1:
            yield (
                "expected fine-tuning of at least 0 steps with at least 1 example each, got "
                f"{self.finetune} and {self.batch_size}"
            )
        if not 0 < self.learning_rate < math.inf:
            yield f"expected a positive learning rate, got {self.learning_rate:g}"
        try:
            _ = self.shrinker
        except ValueError as error:
            yield str(error)

    @cached_property
    def shrinker(self) -> Shrinker:
        return get_shrinker(self.method, self.settings, seed=self.seed)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
