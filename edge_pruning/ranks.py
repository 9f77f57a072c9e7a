"""One search on several processes (ranks), started by `torchrun`.

    torchrun --nproc-per-node 8 -m edge_pruning discover ioi --model PATH_OR_HUB_ID

Every rank holds the whole model and makes the same decisions; only passes over pairs are distributed. `share` returns a
rank's part of some pairs or micro-batches, and `add_up` sums the results of all ranks. What depends on one process,
such as the content of a folder or an interrupt, is decided by the first rank for all (`from_first`). Only the first
rank writes files and prints.

Without `join` there is one rank: every function returns its argument, and nothing is imported.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

S = TypeVar("S")
T = TypeVar("T")
SECONDS = timedelta(seconds=10)  # for checking whether another rank failed first
_rank, _count = 0, 1
_before_meeting: list[Callable[[], None]] = []


def launched() -> bool:
    """Return whether torchrun started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def join() -> None:
    """Join the ranks started by torchrun, and return when all have joined. Does nothing without torchrun."""
    global _rank, _count
    if _count > 1 or not launched():
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(dist.destroy_process_group)
    _rank, _count = dist.get_rank(), dist.get_world_size()


def count() -> int:
    return _count


def is_first() -> bool:
    """Return whether this is the rank that writes and prints."""
    return _rank == 0


def local_rank() -> int:
    """Return this process's number among those on its machine, which is the index of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if launched() else 0


# --- sharing work -----------------------------------------------------------------------------------------------------


def share(items: Sequence[T]) -> Sequence[T]:
    """Return this rank's part: every `count()`-th of the items. May be empty."""
    return items[_rank::_count] if _count > 1 else items


def in_shares(
    items: Sequence[S], work: Callable[[S], T], plain: Callable[[T], Any], of_plain: Callable[[Any], T]
) -> Iterator[T]:
    """Yield what `work` makes of every item, in order, on every rank. Each rank works on its share alone.

    Results are exchanged as soon as every rank has one, so that a rank holds `count()` of them. plain, of_plain: turn a
    result into plain JSON and back.
    """
    if _count == 1:
        yield from map(work, items)
        return
    for first in range(0, len(items), _count):
        own = [plain(work(item)) for item in share(items[first : first + _count])]
        for found in from_each(own):
            yield from map(of_plain, found)


def rows_of(whole: Tensor) -> Tensor:
    """Return this rank's block of a tensor's rows, as FSDP2 and `torch.chunk` cut it. May have no rows."""
    blocks = whole.chunk(_count)
    return blocks[_rank] if _rank < len(blocks) else whole[:0]


def add_up(*tensors: Tensor) -> None:
    """Replace tensors of one dtype and device by their sums over all ranks, in place; bitwise equal on all ranks."""
    if _count == 1:
        return
    import torch
    import torch.distributed as dist

    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _all_ranks():
        dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def meet() -> None:
    """Return when all ranks have come here."""
    from_first(None)


def least(numbers: Tensor) -> None:
    """Replace whole numbers on the CPU by their least over all ranks, in place."""
    import torch.distributed as dist

    with _errors_of_others():
        dist.all_reduce(numbers, dist.ReduceOp.MIN)


def before_meeting(call: Callable[[], None]) -> None:
    """Have a function called on every rank before all ranks do something together, `least` excepted."""
    _before_meeting[:] = [call]  # of the last model that was shared out


# --- values of other ranks --------------------------------------------------------------------------------------------


def from_first(value: T) -> T:
    """Return the first rank's value on every rank. It must be plain JSON; the values of other ranks are ignored."""
    if _count == 1:
        return value
    said: T = json.loads(_sent(json.dumps(value).encode(), 0))
    return value if is_first() else said


def tensors_from_first(tensors: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
    """Return the first rank's tensors on every rank (received tensors are on the CPU); None if it has none."""
    if _count == 1:
        return tensors
    import safetensors.torch

    if not from_first(tensors is not None):
        return None
    content = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}) if tensors is not None else b""
    received = _sent(content, 0)
    return tensors if is_first() else safetensors.torch.load(received)


def from_each(value: T) -> list[T]:
    """Return the values of all ranks, in their order, on every rank. They must be plain JSON."""
    if _count == 1:
        return [value]
    own = json.dumps(value).encode()
    return [json.loads(_sent(own, rank)) for rank in range(_count)]


def refuse_differences(what: Mapping[str, Any]) -> None:
    """Raise ValueError on every rank unless all have the same values (plain JSON)."""
    if _count == 1:
        return
    each = from_each(what)
    problems = [
        f"rank {rank}: {name} is {json.dumps(one[name])}, not {json.dumps(each[0][name])} as on rank 0"
        for rank, one in enumerate(each) for name in what if one[name] != each[0][name]
    ]
    if problems:
        raise ValueError(f"the ranks do not run the same command: {'; '.join(problems)}")


def _sent(content: bytes, source: int) -> bytes:
    """Return the bytes of one rank on every rank."""
    import torch
    import torch.distributed as dist

    size = torch.tensor([len(content)])
    with _all_ranks():
        dist.broadcast(size, source)
        buffer = torch.zeros(int(size), dtype=torch.uint8)
        if _rank == source:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(buffer, source)
    return buffer.numpy().tobytes()


# --- errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def _all_ranks() -> Iterator[None]:
    """For what all ranks have to do together. Raises ConnectionError if another rank has ended."""
    with _errors_of_others():
        for call in _before_meeting:
            call()
        yield


@contextmanager
def _errors_of_others() -> Iterator[None]:
    """Raise ConnectionError if another rank has ended, so that what all have to do together cannot be done."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            "another rank has ended, so this one cannot continue; the last checkpoint was kept, and the same "
            f"command with --resume continues from it ({str(error).strip().partition(chr(10))[0]})"
        ) from error


def speaks_of_failure() -> bool:
    """Return whether this rank failed first and therefore prints its message; the others end silently."""
    if _count == 1:
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=SECONDS)
        return bool(store.compare_set(f"edge-pruning/failed/{attempt}", "", str(_rank)) == str(_rank).encode())
    except RuntimeError:  # the store is gone: the rank that failed first has printed its message
        return False
