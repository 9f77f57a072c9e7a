"""Finds the expressions of a RASP program that Tracr cannot compile, so that an error can name them all beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edge_pruning.models.tracr.extra import tracr
from edge_pruning.models.tracr.program import Value

NEVER = {
    "SelectorAnd": "`&` of selectors that do not share their keys and queries",
    "SelectorOr": "`|` of selectors that do not share their keys and queries",
    "SelectorNot": "`~` of a combined selector",
    "ConstantSelector": "a constant selector",
    "ConstantSOp": "a constant sequence",
    "Full": "a constant, outside of a comparison with another sequence",
    "LengthType": "the primitive `length`; use tracr.compiler.lib.make_length()",
}


def expressions(program: Any) -> list[Any]:
    """The program and everything it is made of, each once, from the output to the input."""
    all_expressions: list[Any] = []
    waiting, seen = [program], set()
    while waiting:
        expression = waiting.pop(0)
        if id(expression) not in seen:
            seen.add(id(expression))
            all_expressions.append(expression)
            waiting += expression.children
    return all_expressions


def unsupported(program: Any, inputs: Sequence[Sequence[Value]]) -> list[str]:
    """Every reason why Tracr cannot compile the program for these inputs, as `name: reason`."""
    reported = [*_output(program), *_kinds(program)]
    if not reported:
        validating = tracr("compiler.validating")
        reasons = ((part.expr.name, part.reason) for part in validating.static_validate(program))
        reported = [f"{name}: {' '.join(reason.split())}" for name, reason in reasons]
    return reported or _on_inputs(program, inputs)


def _output(program: Any) -> Iterator[str]:
    rasp = tracr("rasp.rasp")
    if not isinstance(program, rasp.SOp):
        yield (
            f"{program.name}: it is a selector (which positions see which), so its output is neither categorical nor "
            "numerical; aggregate something with it"
        )
    elif program.annotations.get("encoding") not in (rasp.Encoding.CATEGORICAL, rasp.Encoding.NUMERICAL):
        yield (
            f"{program.name}: its output is neither categorical nor numerical in Tracr's sense (encoding "
            f"{program.annotations.get('encoding')!r}); wrap it in rasp.categorical or rasp.numerical"
        )
    elif not program.children:
        yield f"{program.name}: there is nothing to compute, it is an input"


def _kinds(program: Any) -> Iterator[str]:
    every = expressions(program)
    for expression in every:
        kind = type(expression).__name__
        if kind in NEVER:
            yield f"{expression.name}: {NEVER[kind]} is not supported"
    if not any(type(expression).__name__ == "TokensType" for expression in every):
        yield f"{program.name}: it does not depend on rasp.tokens"


def _on_inputs(program: Any, inputs: Sequence[Sequence[Value]]) -> list[str]:
    """Problems that appear only when the program runs: values that Tracr cannot average, functions that fail."""
    evaluator = tracr("compiler.validating").DynamicValidationEvaluator()
    for values in inputs:
        try:
            evaluator.evaluate(program, values)
        except Exception as error:  # the user's own functions
            return [f"{program.name}: it fails on the input {list(values)}: {type(error).__name__}: {error}"]
    return list(dict.fromkeys(f"{part.expr.name}: {part.reason}" for part in evaluator.unsupported_exprs))
