"""Normalised faithfulness: the position of a circuit between the empty circuit (0) and the model (1).

    f(C) = (m(C) - m(empty)) / (m(model) - m(empty))

with m the mean of the task's difference (logit or probability), as in MIB (Mueller et al. 2025). If no pair has a wrong
answer, m is minus the KL to the model (or the squared error of numbers), and then f(C) = 1 - KL(C) / KL(empty). Values
above 1 and below 0 are possible: f compares the answers only, not the distributions, so read it together with the KL.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from edge_pruning.evaluation.measure import Measurements, error_of_mean

SMALLEST_SPAN = 1e-5  # in logits, probability or nats: below this, float32 runs differ only by rounding


@dataclass(frozen=True)
class FaithfulnessScale:
    """The two ends of the scale, measured on the same examples."""

    model: Measurements
    empty: Measurements
    metric: str

    @property
    def uses_loss(self) -> bool:
        return bool(self.model.difference.isnan().all())

    @property
    def definition(self) -> str:
        """The definition of f here, in words."""
        if self.model.loss_name == "squared_error":
            return "1 - squared error of the run / squared error of the empty circuit: outputs are numbers"
        if self.uses_loss:
            return "1 - KL(run) / KL(empty): no pair has a wrong answer, so minus KL stands for the task's difference"
        return f"(m(run) - m(empty)) / (m(model) - m(empty)), m: mean {self.metric} over the pairs with a wrong answer"

    @property
    def span(self) -> float:
        """m(model) - m(empty), the denominator."""
        return float(self._gain(self.model).nanmean())

    @property
    def span_error(self) -> float:
        return error_of_mean(self._gain(self.model)[0])

    @property
    def defined(self) -> bool:
        return abs(self.span) > SMALLEST_SPAN

    def faithfulness(self, run: Measurements) -> float:
        """Return f of a run, or its mean over several circuits; NaN if undefined."""
        return float(self._gain(run).nanmean()) / self.span if self.defined else float("nan")

    def shares(self, run: Measurements) -> Tensor:
        """Return each example's contribution to f, [c, b]: its gain over the empty circuit, in mean spans. Their mean
        is f.

        A ratio per example would diverge where an example's own span is close to zero. NaN if f is undefined.
        """
        return self._gain(run) / (self.span if self.defined else float("nan"))

    def standard_error(self, run: Measurements) -> float:
        """Return the standard error of f, as a ratio of two means over the same examples, to first order (delta
        method).
        """
        whole = self.shares(self.model.on(run.ids))
        return error_of_mean((self.shares(run) - self.faithfulness(run) * whole).nanmean(0))

    def _gain(self, run: Measurements) -> Tensor:
        """Return the gain of a run over the empty circuit on each example, [c, b]."""
        empty = self.empty.on(run.ids)
        return empty.loss - run.loss if self.uses_loss else run.difference - empty.difference
