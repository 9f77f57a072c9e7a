"""Convert a model that Tracr has compiled: its description, its weights, and its own answers to every input."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_pruning.models.tracr.inputs import Inputs
from edge_pruning.models.tracr.program import LISTED, Program, Value

CLOSE = 0.01  # largest error of a numerical answer, because Tracr's MLPs only approximate numbers
PLACES = {
    "query": "attn/query", "key": "attn/key", "value": "attn/value", "out": "attn/linear", "mlp_in": "mlp/linear_1",
    "mlp_out": "mlp/linear_2",
}


def description(model: Any, program: Any, name: str, vocabulary: Sequence[Value], max_length: int) -> Program:
    config, outputs = model.model_config, getattr(model.output_encoder, "encoding_map", None)
    return Program(
        name, tuple(vocabulary), max_length, tuple(model.input_encoder.encoding_map), outputs and tuple(outputs),
        tuple(model.residual_labels), config.num_layers, config.num_heads, config.key_size, config.mlp_hidden_size,
    )


def weights(model: Any, program: Program, output: str) -> dict[str, Tensor]:
    """The weights by the names in `module.py`. output: Tracr's name of the program's result in the residual stream."""
    tensors = {
        "tokens": _tensor(model.params["token_embed"]["embeddings"]),
        "positions": _tensor(model.params["pos_embed"]["embeddings"]),
        "unembed": _unembed(program, output),
    }
    for name, place in PLACES.items():
        layers = [model.params[f"transformer/layer_{layer}/{place}"] for layer in range(program.layers)]
        tensors[name] = torch.stack([_tensor(layer["w"]) for layer in layers])
        tensors[f"{name}_bias"] = torch.stack([_tensor(layer["b"]) for layer in layers])
    for name in ("query", "key", "value"):  # [layer, d, h * e] -> [layer, h, d, e]
        tensors[name] = tensors[name].unflatten(2, (program.heads, -1)).transpose(1, 2)
        tensors[f"{name}_bias"] = tensors[f"{name}_bias"].unflatten(1, (program.heads, -1))
    tensors["out"] = tensors["out"].unflatten(1, (program.heads, -1))
    return {name: weight.contiguous() for name, weight in tensors.items()}


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _unembed(program: Program, output: str) -> Tensor:
    """The unembedding [d, output]: Tracr takes the result from the dimensions that carry its name."""
    names = [output] if program.outputs is None else [f"{output}:{value}" for value in program.outputs]
    matrix = torch.zeros(len(program.residual), len(names))
    for column, name in enumerate(names):
        matrix[program.residual.index(name), column] = 1
    return matrix


def answers(model: Any, rasp: Any, program: Program, inputs: Sequence[Sequence[Value]]) -> Inputs:
    """Tracr's own forward pass on every input. Raises ValueError with the inputs on which the program differs from it.

    model: Tracr's compiled model.
    rasp: the program's expression, which computes the expected answers.
    """
    tokens = program.encode(inputs)
    (logits, says), wrong, defined = _forward(model, program, rasp.label, tokens), [], []
    for values, row, tracrs in zip(inputs, logits, says, strict=True):
        expected = rasp(list(values))
        for got in (tracrs[1:], program.decode(row)[1:]):
            if not all(want is None or _same(want, value) for want, value in zip(expected, got, strict=True)):
                wrong.append(f"{list(values)}: expected {expected}, got {got}")
        defined.append([False, *(want is not None for want in expected)])
    if wrong:
        raise ValueError(
            f"the compiled model does not do what {program.name!r} says on {len(wrong)} of {len(inputs)} inputs: "
            f"{'; '.join(wrong[:LISTED])}. Tracr does not report every expression that it cannot compile"
        )
    return Inputs.stack(program, tokens, logits, defined)


def _same(want: Value, got: Value) -> bool:
    numbers = isinstance(want, int | float) and isinstance(got, int | float)
    return abs(want - got) <= CLOSE if numbers else want == got  # type: ignore[operator]


def _forward(
    model: Any, program: Program, output: str, tokens: Sequence[tuple[int, ...]]
) -> tuple[list[Tensor], list[list[Value]]]:
    """Logits [p, output] of every input, and the values that Tracr decodes itself. Equal lengths run together."""
    outputs: dict[tuple[int, ...], tuple[Tensor, list[Value]]] = {}
    by_length = defaultdict(list)
    for row in tokens:
        by_length[len(row)].append(row)
    unembed = _unembed(program, output)
    for rows in by_length.values():
        run = model.forward(model.params, np.array(rows))
        logits = _tensor(run.transformer_output.output) @ unembed  # [b, p, output]
        says = [model.output_encoder.decode(row) for row in np.array(run.unembedded_output).tolist()]
        outputs |= dict(zip(rows, zip(logits, says, strict=True), strict=True))
    return [outputs[row][0] for row in tokens], [outputs[row][1] for row in tokens]
