"""Compile a RASP program to weights with Tracr.

Tracr can compile a program wrongly without an error. So the result is checked on all inputs (or on a sample, if they
are too many): Tracr's own forward pass must give the program's answers, and the logits of `module.TracrTransformer`
must be those of Tracr's forward pass, to 1e-5.
"""

from __future__ import annotations

import copy
import importlib.metadata
from collections.abc import Iterator, Sequence
from typing import Any

from edge_pruning.models.tracr.conversion import answers, description, weights
from edge_pruning.models.tracr.extra import tracr
from edge_pruning.models.tracr.folder import Compiled
from edge_pruning.models.tracr.inputs import input_space
from edge_pruning.models.tracr.module import TracrTransformer
from edge_pruning.models.tracr.program import BOS, PAD, Value
from edge_pruning.models.tracr.unsupported import expressions, unsupported

PARITY = 1e-5  # largest difference from the logits of Tracr's own forward pass


def compile_program(
    program: Any,
    vocabulary: Sequence[Value],
    max_length: int,
    *,
    name: str | None = None,
    most_inputs: int = 1000,
    seed: int = 0,
) -> Compiled:
    """Compile a RASP expression (a `tracr.rasp.rasp.SOp`) over a vocabulary, for inputs of up to `max_length` values.

    name: of the program; by default the expression's own.
    most_inputs: if there are more inputs than this, a sample of about this size is checked and kept instead of all.
    seed: of the sample.
    Raises ValueError if the extra is not installed, if the vocabulary or a number is invalid, if Tracr cannot compile
    some expressions (all of them are named), or if the compiled model does not compute what the program does.
    """
    rasp = tracr("rasp.rasp")
    problems = list(_problems(vocabulary, max_length, most_inputs))
    if problems:
        raise ValueError(f"cannot compile: {'; '.join(problems)}")
    if not isinstance(program, rasp.RASPExpr):
        raise ValueError(f"expected a RASP expression (tracr.rasp.rasp.SOp), got {program!r}")
    program = _numbered(program)
    vocabulary = tuple(sorted(vocabulary, key=lambda value: (type(value).__name__, value)))
    inputs = input_space(vocabulary, max_length, most_inputs, seed)
    reasons = unsupported(program, inputs)
    if reasons:
        raise ValueError(f"Tracr cannot compile {program.name!r}: {'; '.join(reasons)}")
    model = _compiled_by_tracr(program, vocabulary, max_length)
    about = description(model, program, name or program.name, vocabulary, max_length)
    transformer = TracrTransformer(about, weights(model, about, program.label))
    origin = {"inputs": len(inputs), "of": sum(len(vocabulary) ** n for n in range(1, max_length + 1)), "seed": seed}
    compiled = Compiled(about, transformer, answers(model, program, about, inputs), origin | _versions())
    if not compiled.parity_error <= PARITY:
        raise ValueError(
            f"the converted model's logits differ from those of Tracr's own forward pass by "
            f"{compiled.parity_error:.1e}; expected at most {PARITY:g}. Try another version of tracr-pypi, or report "
            f"this one ({importlib.metadata.version('tracr-pypi')})"
        )
    return compiled


def _problems(vocabulary: Sequence[Value], max_length: int, most_inputs: int) -> Iterator[str]:
    reserved = [value for value in vocabulary if value in (BOS, PAD)]
    if reserved:
        yield f"the vocabulary contains {' and '.join(map(repr, reserved))}, which Tracr reserves; use another word"
    if not vocabulary or len(set(vocabulary)) < len(vocabulary):
        yield f"expected a vocabulary of different values, at least one, got {list(vocabulary)}"
    if max_length < 1:
        yield f"expected a max_length of at least 1, got {max_length}"
    if most_inputs < 1:
        yield f"expected at least 1 input to check it on, got {most_inputs}"


def _numbered(program: Any) -> Any:
    """A copy whose expressions are numbered from the output on, so that equal programs get equal weights.

    Tracr sorts the dimensions of the residual stream by names that end in a number. Without this, the number would
    count all expressions that the process has made.
    """
    program = copy.deepcopy(program)
    for number, expression in enumerate(expressions(program), 1):
        expression.unique_id = number
    return program


def _compiled_by_tracr(program: Any, vocabulary: Sequence[Value], max_length: int) -> Any:
    """Tracr's own model. Any error of Tracr becomes a ValueError that names the program."""
    try:
        return tracr("compiler.compiling").compile_rasp_to_model(
            program, set(vocabulary), max_length, compiler_bos=BOS, compiler_pad=PAD
        )
    except Exception as error:  # Tracr's stages raise errors of many types
        raise ValueError(f"Tracr cannot compile {program.name!r}: {type(error).__name__}: {error}") from error


def _versions() -> dict[str, str]:
    return {"tracr-pypi": importlib.metadata.version("tracr-pypi")}
