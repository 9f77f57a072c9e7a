"""The table of all numbers of an evaluation: what each one means, how it is computed, and how it is shown.

All code that shows or stores numbers (tables on the terminal, pages, JSON files, comparisons of seeds and tasks) uses
this table. To add a number, write a function from a `Comparison` to one value per example, and add an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.batch import Batch
from edge_pruning.objectives import OBJECTIVES


class Reference:
    """The model's own logits [n, vocab] on a batch, and values derived from them that all runs on the batch share."""

    def __init__(self, logits: Tensor, batch: Batch) -> None:
        self.logits, self.batch = logits, batch

    @cached_property
    def log_probabilities(self) -> Tensor:
        return metrics.log_probabilities(self.logits)

    @property
    def is_number(self) -> bool:
        """Whether the output is one number per position instead of a distribution."""
        return self.logits.shape[-1] == 1

    @property
    def undefined(self) -> Tensor:
        """NaN for each example, [b]."""
        dtype = torch.promote_types(self.logits.dtype, torch.float32)
        return torch.full((self.batch.size,), torch.nan, dtype=dtype, device=self.logits.device)


@dataclass(frozen=True)
class Comparison:
    """The logits [n, vocab] of a run, and the model's logits to compare them with."""

    reference: Reference
    logits: Tensor

    @property
    def batch(self) -> Batch:
        return self.reference.batch


def _kl(run: Comparison) -> Tensor:
    model = run.reference
    return model.undefined if model.is_number else metrics.kl_from(model.log_probabilities, run.logits, run.batch)


def _squared_error(run: Comparison) -> Tensor:
    model = run.reference
    return metrics.squared_error(model.logits, run.logits, run.batch) if model.is_number else model.undefined


def _accuracy(metric: str) -> Callable[[Comparison], Tensor]:
    return lambda run: metrics.accuracy(run.logits, run.batch, metric)


def _exact_match(run: Comparison) -> Tensor:
    return metrics.exact_match(run.reference.logits, run.logits, run.batch)


@dataclass(frozen=True)
class Number:
    """One number of an evaluation.

    name: the key in JSON files and the attribute in Python.
    heading: of its table column.
    title, unit: of its chart.
    meaning: a sentence that is stored beside the number; `{metric}` stands for the task's metric.
    of: takes the task's metric and returns a function to one value per example [b]; None if the number is derived
        from other numbers.
    perfect: the value of a perfect circuit, if that is the same for all tasks.
    decimals: number of decimals in tables.
    """

    name: str
    heading: str
    title: str
    unit: str
    meaning: str
    of: Callable[[str], Callable[[Comparison], Tensor]] | None = None
    perfect: float | None = None
    decimals: int = 3

    def shown(self, value: float | None) -> str:
        """Format a value for a table; an undefined value becomes a dash."""
        defined = value is not None and value == value and abs(value) != float("inf")
        return f"{value:.{self.decimals}f}" if defined else "–"


LOSSES = ("kl", "squared_error")
METRICS = {
    "logit_difference": "mean logit of the answers minus mean logit of the wrong answers",
    "probability_difference": "probability of the answers minus probability of the wrong answers",
}
NUMBERS = {
    number.name: number
    for number in (
        Number(
            "kl", OBJECTIVES["kl"].heading, "KL divergence", "nats",
            "KL(model || run) over the vocabulary, in nats, averaged over the compared positions of a pair. If right "
            "answers of several tokens differ before their last token, it is summed over all places in the answers "
            "instead, and each place counts by the model's probability to get there",
            lambda metric: _kl,
        ),
        Number(
            "squared_error", OBJECTIVES["squared_error"].heading, "Squared error", "of the output",
            "squared distance from the model's output, for models whose output is a number and has no KL",
            lambda metric: _squared_error,
        ),
        *(
            Number(
                name, name.replace("_", " "), name.replace("_", " ").capitalize(), "",
                f"{meaning}, mean over the positions with a wrong answer",
                lambda metric: lambda run: metrics.DIFFERENCES[metric](run.logits, run.batch),
            )
            for name, meaning in METRICS.items()
        ),
        Number(
            "accuracy", "accuracy", "Accuracy", "share of pairs",
            "share of pairs with {metric} > 0 at every position with a wrong answer. A pair without wrong answers is "
            "counted if its most likely token is right at every position",
            _accuracy,
        ),
        Number(
            "exact_match", "exact match", "Exact match", "share of pairs",
            "share of pairs whose most likely token is the model's at every position",
            lambda metric: _exact_match, perfect=1.0,
        ),
        Number(
            "faithfulness", "faithfulness", "Faithfulness", "0: empty circuit, 1: model",
            "where a run stands between the empty circuit (0) and the model (1)", perfect=1.0,
        ),
    )
}  # fmt: skip


def measured_numbers(metric: str) -> list[Number]:
    """Return the numbers that are measured on every example of a task with this metric."""
    return [n for n in NUMBERS.values() if n.of is not None and (n.name not in METRICS or n.name == metric)]


AGREEMENT = replace(
    NUMBERS["accuracy"], heading="agreement", title="Agreement",
    meaning="share of pairs whose most likely token is the model's: they have no answer of their own",
)


def accuracy_of(evaluation: Mapping[str, Any]) -> Number:
    """Return the meaning of accuracy in stored numbers: agreement where no pair has an answer of its own."""
    return AGREEMENT if evaluation.get("predicted") == evaluation["examples"] else NUMBERS["accuracy"]


def numbers_for(loss: str, metric: str, *, agreement: bool = False) -> list[Number]:
    """Return the numbers that are shown for a task: its loss, its metric, and the numbers that all tasks have.

    agreement: whether the answers are the model's own, so that accuracy is agreement with it.
    """
    others = [n.name for n in NUMBERS.values() if n.name not in (*LOSSES, *METRICS)]
    unknown = Number(metric, metric.replace("_", " "), metric.replace("_", " ").capitalize(), "", "the user's metric")
    numbers = [NUMBERS.get(name, unknown) for name in (loss, metric, *others)]
    return [AGREEMENT if agreement and number.name == "accuracy" else number for number in numbers]


def common_numbers(loss: str, *, agreement: bool = False) -> list[Number]:
    """Return the numbers that can be compared between tasks: the loss, and the numbers that all tasks have.

    agreement: as for `numbers_for`.
    """
    names = [n.name for n in NUMBERS.values() if n.name not in METRICS and (n.name not in LOSSES or n.name == loss)]
    return [AGREEMENT if agreement and name == "accuracy" else NUMBERS[name] for name in names]
