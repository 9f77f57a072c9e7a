"""Several processes on one search: what `torchrun` starts, and who of them does what.

    torchrun --nproc-per-node 8 -m edge_pruning discover ioi --model PATH_OR_HUB_ID

Every rank holds the whole model and makes the same decisions; only passes over pairs are shared out. `share` gives a
rank its part of some pairs or micro-batches, `add_up` adds what the ranks computed about theirs. What only one process
can say (what a folder holds, where a search was interrupted) the first rank says for all (`from_first`). Only the first
rank writes files and prints.

Without `join` there is one rank: every function returns its argument, and nothing is imported.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
SECONDS = timedelta(seconds=10)  # to find out whether another rank has failed first
_rank, _count = 0, 1


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def join() -> None:
    """Become one of the ranks that torchrun has started; nothing happens without it. Returns when all have joined."""
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
    """Whether this is the rank that writes and prints."""
    return _rank == 0


def local_rank() -> int:
    """This process's number among those on its machine: the index of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if launched() else 0


# --- sharing work -----------------------------------------------------------------------------------------------------


def share(items: Sequence[T]) -> Sequence[T]:
    """This rank's part: every `count()`-th of the items. May be empty."""
    return items[_rank::_count] if _count > 1 else items


def add_up(*tensors: Tensor) -> None:
    """Replace tensors of one dtype and device by their sums over all ranks, in place; the same bits on every rank."""
    if _count == 1:
        return
    import torch
    import torch.distributed as dist

    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _all_ranks():
        dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


# --- what one rank says for all ---------------------------------------------------------------------------------------


def from_first(value: T) -> T:
    """The first rank's value, on every rank. It must be plain JSON; that of other ranks is ignored."""
    if _count == 1:
        return value
    said: T = json.loads(_sent(json.dumps(value).encode(), 0))
    return value if is_first() else said


def tensors_from_first(tensors: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
    """The first rank's tensors, on every rank (on the CPU where they were sent); None if it has none."""
    if _count == 1:
        return tensors
    import safetensors.torch

    if not from_first(tensors is not None):
        return None
    content = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}) if tensors is not None else b""
    received = _sent(content, 0)
    return tensors if is_first() else safetensors.torch.load(received)


def refuse_differences(what: Mapping[str, Any]) -> None:
    """Raise ValueError on every rank unless all have the same values (plain JSON)."""
    if _count == 1:
        return
    own = json.dumps(what, sort_keys=True).encode()
    each = [json.loads(_sent(own, rank)) for rank in range(_count)]
    problems = [
        f"rank {rank}: {name} is {json.dumps(one[name])}, not {json.dumps(each[0][name])} as on rank 0"
        for rank, one in enumerate(each) for name in what if one[name] != each[0][name]
    ]
    if problems:
        raise ValueError(f"the ranks do not run the same thing: {'; '.join(problems)}")


def _sent(content: bytes, source: int) -> bytes:
    """The bytes of one rank, on every rank."""
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
    """Raise ConnectionError if another rank has ended, so that what all have to do together cannot be done."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            "another rank has ended, so this one cannot go on either; the last checkpoint was kept, and the same "
            f"command with --resume continues from it ({str(error).strip().partition(chr(10))[0]})"
        ) from error


def speaks_of_failure() -> bool:
    """Whether this rank is the first that fails, and so the one whose message is shown; the others end silently."""
    if _count == 1:
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=SECONDS)
        return bool(store.compare_set(f"edge-pruning/failed/{attempt}", "", str(_rank)) == str(_rank).encode())
    except RuntimeError:  # the store is gone: whoever failed first has said so
        return False
