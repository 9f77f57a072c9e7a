"""Objectives: one number per example that measures how far a masked run is from the model; lower is closer.

A method minimises an objective or takes its gradient. A task names the objective that fits its outputs
(`Task.objective`). Answer differences are negated, so that a circuit that loses the task's behaviour scores higher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from edge_pruning import metrics
from edge_pruning.batch import Batch
from edge_pruning.pair import Pair
from edge_pruning.registry import Registry


@dataclass(frozen=True)
class Objective:
    """A function `objective(model, circuit, batch)` from the logits [n, vocab] of the model and of a masked run to
    values [b].

    If wrong answers are needed, a pair without one counts as 0.
    compares: the objective uses the model's logits, and the model itself is its minimum.
    of_numbers: it compares outputs that are numbers, so it is undefined where answers of several tokens form a tree.
    """

    name: str
    short: str
    unit: str
    summary: str
    function: Callable[[Tensor, Tensor, Batch], Tensor]
    needs_wrong_answers: bool = False
    compares: bool = True
    of_numbers: bool = False

    def __call__(self, model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
        return self.function(model, circuit, batch)

    @property
    def heading(self) -> str:
        """The heading of its table column."""
        return f"{self.short} ({self.unit})" if self.unit else self.short

    def check(self, pairs: Sequence[Pair], instead: Iterable[str] | None = None) -> None:
        """Raises ValueError if this objective is undefined for the pairs; `instead` names objectives to suggest."""
        if self.needs_wrong_answers and not any(wrong for pair in pairs for wrong in pair.wrong):
            others = [name for name in instead or OBJECTIVES if not OBJECTIVES[name].needs_wrong_answers]
            raise ValueError(
                f"{self.name} needs wrong answers, but none of the {len(pairs)} pairs has one; add wrong answers, or "
                f"use {', '.join(others)}"
            )
        trees = sum(bool(pair.prefixes) for pair in pairs)
        if self.of_numbers and trees:
            raise ValueError(
                f"{self.name} compares outputs position by position, so it has no value for answers that differ before "
                f"their last token, as those of {trees} of {len(pairs)} pairs do; use kl or answer_loss, or judge "
                "answers by their first token (--data first_token=true)"
            )


OBJECTIVES: Registry[Objective] = Registry("objective", [
    Objective("kl", "KL", "nats", "KL divergence (nats)", lambda m, c, b: metrics.kl_divergence(m, c, b)),
    Objective(
        "squared_error", "squared error", "", "squared error", lambda m, c, b: metrics.squared_error(m, c, b),
        of_numbers=True,
    ),
    Objective(
        "answer_loss", "loss", "nats", "-log probability of the answers (nats)",
        lambda m, c, b: metrics.surprise(c, b), False, False,
    ),
    Objective(
        "logit_difference", "loss", "", "minus the logit difference",
        lambda m, c, b: -metrics.logit_difference(c, b).nan_to_num(0), True, False,
    ),
    Objective(
        "probability_difference", "loss", "", "minus the probability difference",
        lambda m, c, b: -metrics.probability_difference(c, b).nan_to_num(0), True, False,
    ),
])
KL = OBJECTIVES["kl"]


def get_objective(name: str) -> Objective:
    """Return the objective of a name. Raises ValueError with the nearest names if it is unknown."""
    return OBJECTIVES.named(name)
