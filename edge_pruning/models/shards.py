"""A model whose weights are shared out over ranks (`--device shard`), by FSDP2: a group per block, one for both ends.

A rank holds its part of every group. A group is gathered before a pass computes with it, and freed afterwards. The next
group is gathered in the meantime (`ahead`). Nodes in the autograd graph do the same in the backward pass:

    forward     gather 0 [and 1]   layer 0   free 0   gather 1 [and 2]   layer 1   free 1   ...
    backward    ... gather 1 [and 0]   layer 1   free 1   gather 0   layer 0   free 0

To gather a group, all ranks have to send their parts. But ranks work on different pairs, and one may have fewer. So
before each gathering, one small all-reduce decides which rank's group is gathered: that of the rank with the fewest
gatherings so far. A rank that has nothing left to gather takes part until all are done (`serve`), before the ranks next
do anything else together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from edge_pruning import ranks

DONE = 2**62


class Shards:
    """The groups of one model: its blocks by layer, and as group `ends` the rest (embeddings, last norm, logits)."""

    def __init__(
        self, hf: nn.Module, layers: int, device: torch.device, rows: Mapping[str, Tensor] | None = None
    ) -> None:
        """Share out the weights of `hf` in place; afterwards this rank holds its parts, on `device`.

        rows: this rank's rows of the parameters that are on the device `meta`, by name. Tied ones are one tensor.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        hf.requires_grad_(False)
        mesh = init_device_mesh(device.type, (ranks.count(),))
        blocks = blocks_of(hf, layers)
        self._groups: list[Any] = [fully_shard(module, mesh=mesh, reshard_after_forward=True)
                                   for module in (*blocks, hf)]  # fmt: skip
        _fill(hf, rows or {})
        self.ends = layers
        self.device = device
        self.gathered = 0  # groups that this rank has asked for since the ranks last did something together
        self._here: dict[int, Any] = {}  # gathered groups: None, or a handle to wait for if it is under way
        ranks.before_meeting(self.serve)

    # --- what a pass calls ------------------------------------------------------------------------------------------

    def gather(self, group: int, ahead: int | None = None) -> None:
        """Gather a group, and return when its weights are on this rank. ahead: the group to begin gathering as well."""
        for wanted in (group, ahead):
            if wanted is not None and 0 <= wanted <= self.ends and wanted not in self._here:
                self._ask_for(wanted)
        if self._here[group] is not None:
            self._here[group].wait()
            self._here[group] = None

    def free(self, group: int) -> None:
        if group in self._here:
            self._wait(self._here.pop(group))
            self._groups[group].reshard()

    @contextmanager
    def at(self, group: int, ahead: int | None = None) -> Iterator[None]:
        """A context with the weights of a group, without a backward pass."""
        mine = self._here.get(group, self) is not None  # False if an enclosing context has gathered it
        self.gather(group, ahead)
        try:
            yield
        finally:
            if mine:
                self.free(group)

    def enter(self, group: int, x: Tensor, ahead: int | None = None) -> Tensor:
        """Gather a group before x is used. In the backward pass, it is freed here. ahead: as for `gather`."""
        self.gather(group, ahead)
        return _Enter.apply(x, self, group)

    def leave(self, group: int, x: Tensor, ahead: int | None = None) -> Tensor:
        """Free a group after x is computed. In the backward pass it is gathered here, and `ahead` as for `gather`."""
        return _Leave.apply(x, self, group, ahead)

    # --- agreement --------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Take part in other ranks' gatherings until no rank has anything left to gather."""
        for group in [*self._here]:  # left by a pass that failed
            self.free(group)
        while (turn := self._turn(DONE)) != DONE:
            self._join(turn % len(self._groups))
        self.gathered = 0

    def _ask_for(self, group: int) -> None:
        mine = self.gathered * len(self._groups) + group
        while (turn := self._turn(mine)) != mine:
            self._join(turn % len(self._groups))
        self._here[group] = self._groups[group].unshard(async_op=True)
        self.gathered += 1

    def _turn(self, mine: int) -> int:
        """The minimum over ranks of `mine`, which is the number of gatherings so far and the group as one number."""
        turn = torch.tensor([mine])
        ranks.least(turn)
        return int(turn)

    def _join(self, group: int) -> None:
        """Send this rank's part of a group that another rank gathers. A group that is gathered here stays gathered."""
        held = group in self._here
        if held:
            self._wait(self._here[group])
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # kernels that read it must have finished
            self._groups[group].reshard()
        self._wait(self._groups[group].unshard(async_op=True))
        if held:
            self._here[group] = None
        else:
            self._groups[group].reshard()

    @staticmethod
    def _wait(handle: Any) -> None:
        if handle is not None:
            handle.wait()


def blocks_of(hf: nn.Module, layers: int) -> Sequence[nn.Module]:
    """The blocks of a model, by layer. Raises ValueError if it has no `ModuleList` of this many modules."""
    for module in hf.modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return list(module)
    raise ValueError(f"{type(hf).__name__} has no list of {layers} blocks, so --device shard cannot share it out")


def _fill(hf: nn.Module, rows: Mapping[str, Tensor]) -> None:
    """Give the shared-out parameters of a model, which are on the device `meta`, this rank's rows."""
    from torch.distributed.tensor import DTensor

    empty: dict[str, Any] = dict(hf.named_parameters(remove_duplicate=False))
    filled: dict[Tensor, nn.Parameter] = {}  # tied parameters stay one
    for name, own in rows.items():
        if own not in filled:
            like = empty[name]
            part = DTensor.from_local(own, like.device_mesh, like.placements, run_check=False, shape=like.shape,
                                      stride=like.stride())  # fmt: skip
            filled[own] = nn.Parameter(part, requires_grad=False)
    hf.load_state_dict({name: filled[own] for name, own in rows.items()}, strict=False, assign=True)


class _Enter(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shards: Shards, group: int) -> Tensor:
        ctx.shards, ctx.group = shards, group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ctx.shards.free(ctx.group)
        return gradients[0], None, None


class _Leave(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shards: Shards, group: int, ahead: int | None) -> Tensor:
        ctx.shards, ctx.group, ctx.ahead = shards, group, ahead
        shards.free(group)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.shards.gather(ctx.group, ctx.ahead)
        return gradients[0], None, None, None
