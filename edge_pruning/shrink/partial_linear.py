"""A linear map that reads some of its inputs and writes some of its outputs, in place of the whole one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PartialLinear(nn.Linear):
    """`y[outputs] = x[inputs] @ weight.T + bias`, and 0 at all other outputs.

    weight, bias: of what stays, [outputs, inputs] and [outputs].
    inputs, outputs: indices; None: all.
    width: the number of outputs, including those that are 0.
    """

    inputs: Tensor | None
    outputs: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None, inputs: Tensor | None, outputs: Tensor | None, width: int
    ) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias is not None, weight.device, weight.dtype)
        _set(self, weight, bias)
        self.width = width
        self.register_buffer("inputs", inputs)
        self.register_buffer("outputs", outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.inputs is not None:
            x = x.index_select(-1, self.inputs)
        y = functional.linear(x, self.weight, self.bias)
        if self.outputs is None:
            return y
        return y.new_zeros(*y.shape[:-1], self.width).index_copy(-1, self.outputs, y)


def part_of(
    linear: nn.Linear,
    *,
    columns: Tensor,
    rows: Tensor | None = None,
    from_inputs: Tensor | None = None,
    to_outputs: Tensor | None = None,
) -> nn.Linear:
    """The part of a map that stays: a plain `nn.Linear` where possible, else a `PartialLinear`.

    columns: which inputs of the map stay, bool [in].
    rows: which of its outputs stay, bool [out]; None: all.
    from_inputs: which of the numbers that the new map receives are the kept columns, bool; None: all.
    to_outputs: which of the numbers that the new map returns are the kept rows, bool, the rest being 0; None: all.
    """
    weight = _some(linear.weight.detach(), 1, columns)
    bias = None if linear.bias is None else linear.bias.detach().clone()
    if rows is not None:
        weight, bias = _some(weight, 0, rows), None if bias is None else _some(bias, 0, rows)
    inputs, outputs = (
        None if mask is None or bool(mask.all()) else _indices(mask, weight.device)
        for mask in (from_inputs, to_outputs)
    )
    width = len(weight) if to_outputs is None else len(to_outputs)
    if inputs is None and outputs is None:
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, weight.device, weight.dtype)
        _set(plain, weight, bias)
        return plain
    return PartialLinear(weight, bias, inputs, outputs, width)


def _set(linear: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)


def _some(tensor: Tensor, dim: int, mask: Tensor) -> Tensor:
    return tensor.index_select(dim, _indices(mask, tensor.device))


def _indices(mask: Tensor, device: torch.device) -> Tensor:
    """Where a mask on the CPU is true, as indices on a device (which may be `meta`: masks there have no values)."""
    return mask.nonzero().flatten().to(device)
