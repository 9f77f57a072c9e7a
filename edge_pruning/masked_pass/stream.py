"""The residual stream, edge by edge: one buffer of differences that every writer fills and every reader mixes.

With y_i a writer's output in the current run, c_i its value under the ablation and z_ij the mask, reader j gets

    x_j = base_j + sum_i z_ij (y_i - c_i),          base_j = sum_i c_i + output biases

The differences y_i - c_i lie in one buffer [1 + w, token, d]; row 0 is the base, whose mask is 1, so a read is one
matrix product. The backward pass of a read is two products, with gradients in a second buffer of the same kind:

    dL/dz_ij = <g_j, y_i - c_i>          dL/dy_i += z_ij g_j

(`along` replaces the differences in the first one: EAP-IG takes gradients at one point and differences at another.)

A model that is spread over several devices has one stream per device. If a layer lies on another device than the layer
before it, all differences written so far are copied there once, and in the backward pass their gradients are copied
back once and added. Every read is therefore local, and no device holds what is written after its last layer.

Autograd does not see the buffers. It sees a chain of empty tensors, `order`: each write takes the last link and returns
the next one, and each read takes the link of the last write before it. All reads of a writer therefore run backward
before the write does, so the gradient in the writer's row is then complete. The links themselves have no gradient
(None): autograd runs the nodes in this order all the same, and has nothing to add up.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd import Function

from edge_pruning.masked_pass.buffers import Buffers


class Stream:
    """Buffers of one masked pass over `tokens` = b * p positions.

    mask: [r, 1 + w] in the buffers' dtype; its first column is 1, for the base.
    mask_gradient: [r, w] in the mask's own dtype.
    keep_reads: keep reads for the backward pass. Otherwise they are computed again, which costs one more product per
        read and saves most of the memory.
    all_tokens: the stream of which this one is a subset.
    """

    def __init__(
        self,
        mask: Tensor,
        mask_gradient: Tensor,
        buffers: Buffers,
        keep_reads: bool,
        along: Tensor | None = None,
        all_tokens: Stream | None = None,
    ) -> None:
        self.mask, self.mask_gradient, self.buffers = mask, mask_gradient, buffers
        self.keep_reads = keep_reads
        self.along, self.all_tokens = along, all_tokens
        self.differences: Tensor  # [1 + w, token, d]
        self.reads: Tensor | None = None  # [r, token, d]
        self.gradients: Tensor | None = None  # [w, token, d]
        self.begun: dict[int, Tensor] = {}  # gradients of reads that began in the traversal of others, by reader
        self.spent = False
        self.order: Tensor

    @classmethod
    def open(
        cls,
        mask: Tensor,
        room: int,
        shape: tuple[int, int],
        dtype: torch.dtype,
        keep_reads: bool,
        along: Tensor | None = None,
        buffers: Buffers | None = None,
    ) -> Self:
        """Allocate buffers for a mask [w, r], the only tensor that receives a gradient.

        room: the number of writers it can hold, from the first on.
        shape: tokens and d.
        keep_reads: see the class; without gradients nothing is kept.
        along: differences [w, token, d] for the mask's gradient, instead of this run's.
        """
        writers, readers = mask.shape
        with_base = torch.ones(readers, 1 + writers, dtype=dtype, device=mask.device)
        with_base[:, 1:] = mask.detach().T
        gradient = torch.zeros(readers, writers, dtype=mask.dtype, device=mask.device)
        keep_reads = keep_reads and mask.requires_grad and torch.is_grad_enabled()
        stream = cls(with_base, gradient, Buffers() if buffers is None else buffers, keep_reads, along)
        stream.differences = stream.buffer(1 + room, *shape)
        stream.order = _Open.apply(mask, stream)
        return stream

    # --- what the pass calls ---------------------------------------------------------------------------------------

    def read(self, readers: slice, writers: int, base: Tensor) -> Tensor:
        """Mix the base [token, d] and the first `writers` writers for each of `readers`: [r, token, d]."""
        return _Read.apply(self.order, self, readers, writers, base)

    def at(self, tokens: Tensor) -> Self:
        """Continue at a subset of the tokens [n] only. Ends this stream."""
        along = None if self.along is None else self.along[:, tokens]
        small = type(self)(self.mask, self.mask_gradient, self.buffers, self.keep_reads, along, self)
        small.differences = self.differences[:, tokens]
        small.order = _At.apply(self.close(), self, small, tokens)
        return small

    def moved(self, device: torch.device, room: int) -> Self:
        """Continue on another device, with room for more writers. Ends this stream."""
        written, along = self.differences[1:], None if self.along is None else self.along.to(device)
        gradient = torch.zeros_like(self.mask_gradient, device=device)
        there = type(self)(self.mask.to(device), gradient, self.buffers, self.keep_reads, along)
        there.differences = there.buffer(1 + room, *self.differences.shape[1:])
        there.slots(0, len(written)).copy_(written)
        there.order = _Move.apply(self.close(), self, there)
        return there

    def close(self) -> Tensor:
        """Return the last link and drop it here: the chain refers to the stream, so a cycle would never be freed."""
        order = self.order
        del self.order
        return order

    def write(self, first: int, y: Tensor, ablated: Tensor) -> None:
        """Store the differences of writers `first`, `first + 1`, ...: outputs y [w, token, d] minus `ablated`, c."""
        self.order = _Write.apply(y, self.order, self, first, ablated)

    # --- the two products ------------------------------------------------------------------------------------------

    def mix(self, readers: slice, writers: int, base: Tensor, *, out: Tensor | None = None) -> Tensor:
        """x = base + sum_i z_i D_i, [r, token, d]."""
        self.differences[0] = base
        seen = self.differences[: 1 + writers].flatten(1)
        x = torch.mm(self.mask[readers, : 1 + writers], seen, out=None if out is None else out.flatten(1))
        return x.unflatten(1, self.differences.shape[1:])

    def mix_in_place(self, readers: slice, writers: int, base: Tensor) -> Tensor:
        """Mix into a buffer of the stream; valid until the backward pass, or until the next read if not kept."""
        rows = len(self.mask) if self.keep_reads else readers.stop - readers.start
        if self.reads is None or len(self.reads) < rows:
            self.reads = self.buffer(rows, *self.differences.shape[1:])
        kept = self.reads[readers] if self.keep_reads else self.reads[:rows]
        return self.mix(readers, writers, base, out=kept)

    def mix_more(self, readers: slice, writers: slice, x: Tensor) -> Tensor:
        """x + sum_i z_i D_i over further writers, [r, token, d]."""
        more = self.differences[1 + writers.start : 1 + writers.stop].flatten(1)
        z = self.mask[readers, 1 + writers.start : 1 + writers.stop]
        return torch.addmm(x.flatten(1), z, more).view_as(x)

    def accumulate(self, readers: slice, writers: slice, gradient: Tensor) -> None:
        """Add the gradients of the mask and of the writers' outputs, given the reads' gradient [r, token, d].

        Raises RuntimeError for a second backward pass and for double backward (`create_graph=True`).
        """
        self._refuse_another_backward_pass()
        along = self.differences[1:] if self.along is None else self.along
        flat, seen = gradient.flatten(1), along[writers].flatten(1)
        place = self.mask_gradient[readers, writers]
        if place.dtype == flat.dtype:
            place.addmm_(flat, seen.T, beta=0)
        else:
            place.copy_(flat @ seen.T)
        self.pass_back(readers, writers, gradient)

    def pass_back(self, readers: slice, writers: slice, gradient: Tensor) -> None:
        """Add the gradients of the writers' outputs: dL/dy_i += z_ij g_j."""
        z = self.mask[readers, 1 + writers.start : 1 + writers.stop]
        self.all_gradients()[writers].flatten(1).addmm_(z.T, gradient.flatten(1))

    def pass_back_from(self, small: Stream, tokens: Tensor) -> None:
        """Add the gradients of all writers from the stream that `at(tokens)` returned."""
        self.all_gradients().index_add_(1, tokens, small.all_gradients())

    def take_back(self, there: Stream) -> None:
        """Add the gradients of all writers from the stream that continued on another device."""
        gradients = self.all_gradients()
        gradients += there.all_gradients()[: len(gradients)].to(gradients.device)

    def slots(self, first: int, count: int) -> Tensor:
        """The rows for the differences of writers `first`, `first + 1`, ..., [w, token, d]."""
        return self.differences[1 + first : 1 + first + count]

    def gradient_of(self, first: int, count: int) -> Tensor:
        """Gradients of these writers' outputs [w, token, d]; complete when all later nodes have run backward."""
        return self.all_gradients()[first : first + count]

    def all_gradients(self) -> Tensor:
        if self.gradients is None:
            self.gradients = self.buffer(*self.differences[1:].shape).zero_()
        return self.gradients

    def buffer(self, *shape: int) -> Tensor:
        """Allocate uninitialised memory that lives as long as this stream, in its dtype and on its device."""
        return self.buffers.take(self, *shape, dtype=self.mask.dtype, device=self.mask.device)

    def _refuse_another_backward_pass(self) -> None:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a masked pass has no second derivatives: its backward pass writes into buffers that autograd does not "
                "see; call backward() or torch.autograd.grad() without create_graph=True"
            )
        if self.spent:
            raise RuntimeError(
                "a masked pass has one backward pass, and this one has had it (its buffers hold sums of gradients "
                "now); run the masked pass again instead of keeping its graph"
            )


class _Open(Function):
    """The start of the chain: hands the mask's gradient to autograd once everything after it has run backward."""

    @staticmethod
    def forward(ctx: Any, mask: Tensor, stream: Stream) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.stream = stream
        return mask.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor, None]:
        ctx.stream.spent = True
        return ctx.stream.mask_gradient.T, None


class _Read(Function):
    @staticmethod
    def forward(ctx: Any, order: Tensor, stream: Stream, readers: slice, writers: int, base: Tensor) -> Tensor:
        ctx.stream, ctx.readers, ctx.writers = stream, readers, writers
        return stream.mix(readers, writers, base)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.stream.accumulate(ctx.readers, slice(0, ctx.writers), gradients[0])
        return None, None, None, None, None


class _At(Function):
    @staticmethod
    def forward(ctx: Any, order: Tensor, stream: Stream, small: Stream, tokens: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.stream, ctx.small, ctx.tokens = stream, small, tokens
        return order.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[None, ...]:
        ctx.stream.pass_back_from(ctx.small, ctx.tokens)
        return None, None, None, None


class _Move(Function):
    """Each read happens on one device, so the mask's gradient is the sum over devices."""

    @staticmethod
    def forward(ctx: Any, order: Tensor, here: Stream, there: Stream) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.here, ctx.there = here, there
        return there.mask.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[None, ...]:
        here, there = ctx.here, ctx.there
        here.take_back(there)
        here.mask_gradient += there.mask_gradient.to(here.mask_gradient.device)
        return None, None, None


class _Write(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, order: Tensor, stream: Stream, first: int, ablated: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.stream, ctx.first, ctx.count = stream, first, y.shape[0]
        torch.sub(y, ablated, out=stream.slots(first, ctx.count))
        return order.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        return ctx.stream.gradient_of(ctx.first, ctx.count), None, None, None, None
