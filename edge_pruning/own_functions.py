"""User-defined metrics and objectives: functions of logits, with the checks of the built-in ones.

    def margin(logits, batch): ...              # a metric: higher is better, one number per example
    def distance(logits, batch): ...            # an objective: lower is closer
    def distance(model, circuit, batch): ...    # the same, with the model's own logits beside the run's

`logits` [n, vocab] are those at the compared positions of a batch. `batch.example` [n] is the pair of each position,
and `batch.answers` and `batch.wrong` [n, any] are its tokens (-1: none). The result is a float tensor [batch.size].
Result files store the name of a function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.batch import Batch
from edge_pruning.numbers import METRICS, NUMBERS, Number
from edge_pruning.objectives import OBJECTIVES, Objective

OWN: dict[str, Callable[..., Any]] = {}  # user-defined metrics by name


def register_metric(function: Callable[..., Any]) -> str:
    """Register a function as a metric, and its negative as an objective for methods that follow the metric.

    Returns its name. Raises ValueError if it is not such a function.
    """
    name, about = _named(function, "metric", (2,))
    if name in metrics.DIFFERENCES and name not in OWN:
        raise ValueError(f"there is a built-in metric {name!r}; give the function another name")

    def of(logits: Tensor, batch: Batch) -> Tensor:
        return _checked(function(logits, batch), name, "metric", batch, needs_gradient=logits.requires_grad)

    OWN[name] = function
    metrics.DIFFERENCES[name] = of
    _register(Objective(name, "loss", "", f"minus {about}", lambda model, circuit, batch: -of(circuit, batch),
                        compares=False))  # fmt: skip
    metrics.MARGINS[name] = metrics.MARGINS["logit_difference"]
    METRICS[name] = about
    NUMBERS[name] = Number(
        name, name.replace("_", " "), name.replace("_", " ").capitalize(), "", about,
        lambda metric: lambda run: metrics.DIFFERENCES[metric](run.logits, run.batch),
    )
    return name


def register_objective(function: Callable[..., Any]) -> str:
    """Register a function as an objective. Returns its name. Raises ValueError if it is not such a function."""
    name, about = _named(function, "objective", (2, 3))
    if name in OBJECTIVES and OBJECTIVES[name].function.__module__ != __name__:
        raise ValueError(f"there is a built-in objective {name!r}; give the function another name")
    compares = _arguments(function) == 3

    def of(model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
        values = function(model, circuit, batch) if compares else function(circuit, batch)
        return _checked(values, name, "objective", batch, needs_gradient=circuit.requires_grad)

    _register(Objective(name, name.replace("_", " "), "", about, of, compares=compares))
    return name


def _register(objective: Objective) -> None:
    """Register an objective, replacing one with the same name, as when a notebook cell is run twice."""
    if objective.name in OBJECTIVES:
        OBJECTIVES.remove(objective.name)
    OBJECTIVES.register(objective)


def refuse_nan(metric: str, values: Tensor) -> None:
    """Raise ValueError if a user-defined metric is NaN or infinite on some examples, [..., b]."""
    broken = (~values.isfinite()).flatten(0, -2).any(0) if metric in OWN else torch.zeros(1, dtype=torch.bool)
    if broken.any():
        first = int(broken.nonzero()[0]) + 1
        raise ValueError(
            f"the metric {metric!r} is NaN or infinite on {int(broken.sum())} of {len(broken)} pairs (first: pair "
            f"{first}); expected a number for every pair"
        )


def _named(function: Any, kind: str, expected: tuple[int, ...]) -> tuple[str, str]:
    """Return the name of a function and the first line of its docstring."""
    signature = "(logits, batch)" + (" or (model, circuit, batch)" if 3 in expected else "")
    if not callable(function) or _arguments(function) not in expected:
        raise ValueError(f"expected the {kind} to be a function {signature}, got {function!r:.60}")
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        got = name or type(function).__name__
        raise ValueError(f"expected a {kind} with a name (def my_{kind}{signature}), got {got!r}")
    return name, (inspect.getdoc(function) or f"the user's {kind} {name}").partition("\n")[0].rstrip(".")


def _arguments(function: Any) -> int | None:
    """Return the number of required arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _checked(values: Any, name: str, kind: str, batch: Batch, *, needs_gradient: bool = False) -> Tensor:
    """Return the result of a function. Raises ValueError unless it is one number per example."""
    what = f"the {kind} {name!r}"
    if not isinstance(values, Tensor):
        raise ValueError(f"{what} returned a {type(values).__name__}; expected a tensor with one number per example")
    if values.shape != (batch.size,) or not values.is_floating_point():
        raise ValueError(
            f"{what} returned {values.dtype} {tuple(values.shape)}; expected one float per example, ({batch.size},), "
            f"for {len(batch.positions)} compared positions (batch.example says which example each belongs to)"
        )
    if needs_gradient and not values.requires_grad:
        raise ValueError(f"{what} has no gradient: expected a differentiable function of the circuit's logits")
    return values
