"""Float32 arithmetic on half-precision weights, one operation's weights at a time.

A model in bfloat16 can be judged without rounding every intermediate result, and without a second copy of it in
float32: inside `Upcasting`, an operation that gets half-precision tensors gets float32 copies of them instead, which
are freed when it ends. Weights stay as they are, so the result is that of the same model loaded in float32.
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

PART_BYTES = 256 << 20  # of a float32 copy of a weight
HALF = (torch.bfloat16, torch.float16)
_DTYPE = torch.Tensor.dtype.__get__  # type: ignore[attr-defined]
_ROUNDING = {"add", "radd", "sub", "rsub", "mul", "rmul", "div", "truediv", "rtruediv", "pow", "matmul", "einsum"}


def arithmetic(upcast: bool) -> AbstractContextManager[Any]:
    """Float32 arithmetic inside, or the tensors' own."""
    return Upcasting() if upcast else nullcontext()


class Upcasting(TorchFunctionMode):
    """Inside, half-precision tensors take part in arithmetic as float32, and say that they are.

    Views of them stay half precision: only an operation that computes something converts its operands.
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
            args, kwargs = tree_map_only(Tensor, _upcast, (args, kwargs))
        return func(*args, **kwargs)


def _upcast(x: Tensor) -> Tensor:
    return x.float() if x.dtype in HALF else x


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = _LinearOfHalf.apply(x, weight)
    return product if bias is None else product + bias.float()


class _LinearOfHalf(Function):
    """x @ weight.T, some rows of the weight at a time: the map to a large vocabulary is never whole in float32.

    Keeps the weight for the backward pass as it is, where autograd would keep its float32 copy.
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
