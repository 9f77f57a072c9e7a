"""Float32 arithmetic on half-precision weights, without a float32 copy of the model.

Inside `Upcasting`, an operation on half-precision tensors receives float32 copies of them, which are freed when it
ends. No intermediate result is rounded to half precision, and the weights are unchanged, so the result is that of the
same model loaded in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

PART_BYTES = 256 << 20  # the largest float32 copy of a part of a weight
HALF = (torch.bfloat16, torch.float16)
_DTYPE = torch.Tensor.dtype.__get__  # type: ignore[attr-defined]
_ROUNDING = {"add", "radd", "sub", "rsub", "mul", "rmul", "div", "truediv", "rtruediv", "pow", "matmul", "einsum"}


def arithmetic(upcast: bool) -> AbstractContextManager[Any]:
    """A context with float32 arithmetic if `upcast`, else with the tensors' own dtypes."""
    return Upcasting() if upcast else nullcontext()


class Upcasting(TorchFunctionMode):
    """A context in which half-precision tensors are converted for arithmetic, and report the dtype float32.

    Views stay in half precision: only operations that compute something convert their operands. What an operation
    writes into (`x[0] = y`, `x.copy_(y)`, `out=x`) is the tensor itself, never a copy.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func == _DTYPE:
            return torch.float32 if func(*args) in HALF else func(*args)
        if func in (functional.embedding, torch.embedding):
            return _upcast(func(*args, **kwargs))  # the rows that are looked up, not the whole table
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(x.dtype in HALF for x in tensors):
            return func(*args, **kwargs)
        if func is functional.linear and args[0].dtype == torch.float32:
            return _linear(*args, **kwargs)
        if func.__name__.strip("_") in _ROUNDING or any(x.dtype == torch.float32 for x in tensors):
            args, kwargs = _upcast_operands(func.__name__, args, kwargs)
        return func(*args, **kwargs)


def _upcast_operands(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return both with all tensors converted but those that the operation writes into."""
    written = 1 if name == "__setitem__" or (name.endswith("_") and not name.startswith("__")) else 0
    out = {key: value for key, value in kwargs.items() if key == "out"}
    operands, others = tree_map_only(Tensor, _upcast, (args[written:], kwargs))
    return (*args[:written], *operands), others | out


def _upcast(x: Tensor) -> Tensor:
    return x.float() if x.dtype in HALF else x


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = _LinearOfHalf.apply(x, weight)
    return product if bias is None else product + bias.float()


class _LinearOfHalf(Function):
    """x @ weight.T, converting some rows of the weight at a time, so a large unembedding is never whole in float32.

    The backward pass keeps the original weight, where autograd would keep its float32 copy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return torch.cat([x @ part.float().T for part in weight.split(_rows_at_once(weight))], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        rows = _rows_at_once(weight)
        parts = zip(gradients[0].split(rows, -1), weight.split(rows), strict=True)
        products = (gradient @ part.float() for gradient, part in parts)
        return reduce(torch.add, products), None


def _rows_at_once(weight: Tensor) -> int:
    return max(1, PART_BYTES // (4 * weight.shape[1]))
