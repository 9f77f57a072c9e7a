"""Accelerators that are not there: tensors on `lazy:0` and `lazy:1` whose numbers lie on the CPU.

No GPU runs these tests. PyTorch knows a device type, `lazy`, on which nothing can be computed but which autograd
accepts on any machine. Inside `pretending()` such a device is lent the CPU's arithmetic and a GPU's rules:

    one operation, one device     numbers without dimensions may come from the CPU, index tensors may not
    who looks, waits              reading a value, a shape that depends on values, a copy that blocks: all are counted

So a run on pretended devices proves that a run on real ones mixes no devices, says what it waits for, and gives the
same numbers as on the CPU, random ones included.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import edge_pruning

PACKAGE = str(Path(edge_pruning.__file__).parent)
HOST = torch.device("cpu")
ops = torch.ops.aten
COPIES = (ops._to_copy.default, ops.copy_.default)
LOOKS = (
    ops._local_scalar_dense.default, ops.nonzero.default, ops.masked_select.default, ops.equal.default,
    ops.is_nonzero.default, ops.bincount.default, ops.repeat_interleave.Tensor,
)  # fmt: skip
INDEXED = (ops.index.Tensor, ops.index_put.default, ops.index_put_.default)  # a bool mask is looked at


class Lent(Tensor):
    """A tensor that says it lies on a device, and is computed on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> Lent:
        lent = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=device,
        )
        lent.held = held
        return lent

    def tolist(self) -> list[Any]:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> None:
        raise AssertionError(f"{func} on a pretended device, outside `pretending()`")


class Generator(torch.Generator):
    """Random numbers for a pretended device: the CPU's."""

    def __new__(cls, device: torch.device | str = HOST) -> Generator:
        generator = super().__new__(cls)
        generator.lent_to = torch.device(device)  # type: ignore[attr-defined]
        return generator

    @property
    def device(self) -> torch.device:
        return self.lent_to  # type: ignore[attr-defined, no-any-return]


class Pretended(TorchDispatchMode):
    """Runs everything on the CPU. `waits`: what waited, and where; `crossings`: copies between two such devices.

    `waits` has "file.function" for what the package called, and "" for what a test called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[str, str]] = []
        self.crossings: list[tuple[torch.device, torch.device, torch.Size]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = [*_leaves(args), *_leaves(tuple(kwargs.values()))]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        home = self._home(func, tensors)
        target = home if kwargs.get("device") is None else _numbered(kwargs["device"])
        if func in COPIES:
            source, end = tensors[-1], tensors[0].device if func is COPIES[1] else target
            self._copied(func, source, end, bool(kwargs.get("non_blocking", len(args) > 2 and args[2])))
        elif home != HOST and (func in LOOKS or (func in INDEXED and _has_bool(args[1]))):
            self._waited(func)
        if "device" in kwargs and target.type == "lazy":
            kwargs["device"] = HOST
        if target == HOST and home == HOST:
            return func(*args, **kwargs)
        lent = {id(leaf.held): leaf for leaf in leaves if isinstance(leaf, Lent)}
        found = func(*_held(args), **{name: _held(value) for name, value in kwargs.items()})
        return found if target == HOST else _lent(found, target, lent)

    @property
    def places(self) -> Counter[str]:
        """Where in the package something has waited, and how often."""
        return Counter(place for place, _ in self.waits if place)

    def _home(self, func: Any, tensors: list[Tensor]) -> torch.device:
        """The one device of the operands. Raises RuntimeError where there are several."""
        devices = {x.device for x in tensors if x.dim() or isinstance(x, Lent)}
        if func is COPIES[1]:
            return tensors[0].device
        if len(devices) > 1:
            raise RuntimeError(f"{func}: operands on {' and '.join(sorted(map(str, devices)))}")
        return devices.pop() if devices else HOST

    def _copied(self, func: Any, source: Tensor, end: torch.device, non_blocking: bool) -> None:
        if source.device == end:
            return
        if HOST not in (source.device, end):
            self.crossings.append((source.device, end, source.shape))
        elif end == HOST or not non_blocking:
            self._waited(func)

    def _waited(self, func: Any) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
            frame = frame.f_back
        self.waits.append(("" if frame is None else _place(frame), str(func)))


@contextmanager
def pretending() -> Iterator[Pretended]:
    """Pretended devices can be used inside. Random numbers and autocast do not know them and are told."""
    known = torch.is_autocast_enabled
    knows = patch.object(torch, "is_autocast_enabled", lambda *kind: kind != ("lazy",) and known(*kind))
    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(..., device=...)` is a copy like any other
    try:
        with patch.object(torch, "Generator", Generator), knows, Pretended() as mode:
            yield mode
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)


def _place(frame: FrameType) -> str:
    function = frame.f_code.co_qualname.partition(".<locals>")[0]
    return f"{Path(frame.f_code.co_filename).stem}.{function}"


def _leaves(arguments: tuple[Any, ...] | list[Any]) -> Iterator[Any]:
    """An operation's arguments, and those in its lists: much faster than PyTorch's walks through any nesting."""
    for argument in arguments:
        if isinstance(argument, tuple | list):
            yield from _leaves(argument)
        else:
            yield argument


def _held(x: Any) -> Any:
    """What the CPU holds in place of every lent tensor of an argument."""
    if isinstance(x, Lent):
        return x.held
    return type(x)(map(_held, x)) if type(x) in (tuple, list) else x


def _lent(x: Any, device: torch.device, known: dict[int, Lent]) -> Any:
    """An operation's results on a device; what it changed in place stays the tensor that it was."""
    if isinstance(x, Tensor):
        return known[id(x)] if id(x) in known else Lent(x, device)
    return type(x)(_lent(part, device, known) for part in x) if type(x) in (tuple, list) else x


def _numbered(device: torch.device | str) -> torch.device:
    device = torch.device(device)
    return torch.device("lazy", device.index or 0) if device.type == "lazy" else device


def _has_bool(indices: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices)
