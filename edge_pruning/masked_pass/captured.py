"""Capture work on tensors as a CUDA graph, and replay it: one launch in place of several hundred.

The kernels of a function are recorded once per combination of its arguments' shapes, on copies of the arguments that
stay where they are. A replay copies new values there, starts the recorded kernels, and copies the results. So a
function that is captured must

    only start kernels      it looks at no value, and takes nothing from the CPU but numbers that depend on shapes
    keep what it uses       weights, tables and indices stay where they were when it was recorded

The first call with some shapes runs as usual; it makes what is kept (folded weights, tables of positions). The second
records, and compares a replay with a run as usual. Shapes that occur once therefore cost nothing. After `MOST_SHAPES`
combinations, others run as usual.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass

log = logging.getLogger("edge_pruning")
CHOICES = ("auto", "on", "off")
MOST_SHAPES = 64
CLOSE = 1e-3  # of the largest number: the same kernels can add up in another order

Tensors = tuple[Tensor, ...]
Record = Callable[[Callable[[], Tensors]], tuple[Callable[[], None], Tensors]]  # returns a replay, and the results


class Captured:
    """A function from tensors to tensors that is recorded and replayed.

    record: records a function without arguments (`cuda_graph`). None: nothing is recorded.
    required: whether a failed recording raises RuntimeError; otherwise it is logged, and all calls run as usual.
    """

    def __init__(self, function: Callable[..., Tensors], record: Record | None, *, required: bool = False) -> None:
        self.function, self.record, self.required = function, record, required
        self._seen: set[Any] = set()
        self._recorded: dict[Any, tuple[Tensors, Callable[[], None], Tensors]] = {}
        self._places: list[Tensor] = []  # flat; the largest argument so far at each place, shared by all recordings

    def __call__(self, *arguments: Tensor) -> Tensors:
        if self.record is None:
            return self.function(*arguments)
        shapes = tuple((x.shape, x.dtype) for x in arguments)
        if shapes not in self._recorded and not self._recorded_now(shapes, arguments):
            return self.function(*arguments)
        copies, replay, results = self._recorded[shapes]
        for copy, x in zip(copies, arguments, strict=True):
            copy.copy_(x)
        replay()
        return tuple(result.clone() for result in results)

    def _recorded_now(self, shapes: Any, arguments: Tensors) -> bool:
        """Record the second call with some shapes; whether that was done."""
        if shapes not in self._seen or len(self._recorded) >= MOST_SHAPES:
            self._seen.add(shapes)
            return False
        assert self.record is not None
        copies = self._copies(arguments)
        try:
            replay, results = self.record(lambda: self.function(*copies))
            replay()
            if not all(map(_close, results, self.function(*arguments))):
                raise RuntimeError("a replay gave other numbers than a run as usual")
        except RuntimeError as error:
            self._give_up(error)
            return False
        self._recorded[shapes] = copies, replay, results
        return True

    def _copies(self, arguments: Tensors) -> Tensors:
        """Copies of the arguments at the places that all recordings share; a place that is too small is replaced."""
        self._places = self._places or [x.new_empty(0) for x in arguments]
        for i, x in enumerate(arguments):
            if self._places[i].numel() < x.numel():
                self._places[i] = torch.empty(x.numel(), dtype=x.dtype, device=x.device)
        return tuple(
            place[: x.numel()].view(x.shape).copy_(x) for place, x in zip(self._places, arguments, strict=True)
        )

    def _give_up(self, error: RuntimeError) -> None:
        """Free all recordings and record no more. Raises the error if recordings are required."""
        self.record = None
        self._recorded.clear()
        self._places.clear()
        reason = str(error).strip().partition("\n")[0]
        if self.required:
            raise RuntimeError(f"--cuda-graph on requires a CUDA graph, but capturing failed: {reason}") from error
        log.warning("CUDA graphs are off: capturing failed (%s)", reason)


def _close(x: Tensor, expected: Tensor) -> bool:
    return torch.allclose(x, expected, rtol=0, atol=CLOSE * float(expected.abs().max()), equal_nan=True)


def cuda_graph(device: torch.device) -> Record:
    """Record CUDA graphs whose intermediate results share one pool of memory: they never run at the same time."""
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        graph = torch.cuda.CUDAGraph()
        own_threads = "thread_local"  # NCCL's may do meanwhile what a capturing thread may not
        with torch.cuda.device(device), torch.cuda.graph(graph, pool=pool, capture_error_mode=own_threads):
            results = work()
        return graph.replay, results

    return record


def recorder(engine: MaskedPass) -> Record | None:
    """How passes of an engine are recorded, by its `cuda_graph`; None if they are not.

    Raises ValueError with the reason if that is "on" and not possible.
    """
    refuse_impossible(engine)
    if engine.cuda_graph == "off":
        return None
    reason = why_not(engine)
    if reason is None:
        return cuda_graph(engine.home)
    log.log(logging.WARNING if engine.home.type == "cuda" else logging.DEBUG, "no CUDA graphs: %s", reason)
    return None


def refuse_impossible(engine: MaskedPass) -> None:
    """Raise ValueError with the reason if an engine's `cuda_graph` is "on" and that is not possible."""
    if engine.cuda_graph == "on" and (reason := why_not(engine)) is not None:
        raise ValueError(f"--cuda-graph on is not possible here: {reason}. Use --cuda-graph auto or off")


def why_not(engine: MaskedPass) -> str | None:
    """Why passes of an engine cannot be captured, if so."""
    if engine.home.type != "cuda":
        return f"the model is on {engine.home.type}, and only CUDA has graphs"
    if engine.adapter.shards is not None:
        return "ranks agree on whose weights are gathered while a pass runs (--device shard)"
    if len({engine.home, *engine.devices}) > 1:
        return "the model lies on several devices, and a graph belongs to one"
    return what_varies(engine)


def what_varies(engine: MaskedPass) -> str | None:
    """Why passes of an engine on inputs of one shape differ, if so. Then no device can capture them."""
    if not isinstance(engine, FusedPass):
        return "only the fused pass starts the same kernels in every run"
    if any(engine.adapter.mlp(layer) is None for layer in range(engine.graph.shape.layers)):
        return "which experts a layer uses depends on values, and with them the shapes"
    return None
