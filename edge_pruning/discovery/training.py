"""Edge Pruning: learn a mask over the edges by gradient descent, so that the sparse model predicts what the whole does.

One loop for every way to parameterise the mask. Each step draws a batch and a mask z, and descends on

    KL(model || circuit run with z)  +  what the parameterisation adds (a penalty on its size, or nothing)

averaged over the compared positions; a task whose outputs are not distributions names another objective. Cost: one
masked forward and backward pass per step; frozen passes are cached. Everything random is a function of seed and step,
so a run resumed from a checkpoint is bit for bit the same run.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.gradient import Capturing, mask_gradient
from edge_pruning.discovery.search import Diverged, Search
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.objectives import get_objective

ROUNDING = 1e-6  # of a mean KL in float32
REPORT_EVERY = 10  # steps between reads of the losses: each read synchronises with the device


@dataclass(frozen=True)
class Draw:
    """One step's mask over the candidate edges [edge], what it adds to the loss, and what to write down about it."""

    mask: Tensor
    penalty: Tensor | None
    record: Mapping[str, Tensor | float]


class MaskParameters(ABC):
    """Learnable numbers that become a mask over `n` candidate edges."""

    def __init__(self) -> None:
        self.parameters: dict[str, Tensor] = {}

    @abstractmethod
    def draw(self, step: int, generator: torch.Generator) -> Draw: ...

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer: ...

    @abstractmethod
    def schedule(self, step: int) -> float:
        """The factor of all learning rates at a step."""

    def adjust(self, loss: Tensor) -> None:  # noqa: B027  (most have no use for it)
        """Called with the loss of the mask just drawn (a device tensor), so that the next draw can depend on it."""


def train(
    masks: MaskParameters,
    search: Search,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    batch_uses: int = 1,
    cache_bytes: int | None = None,
    masks_per_step: int = 1,
    root: bool = False,
) -> None:
    """Run the loop, and leave the result in `masks.parameters`. Raises Diverged.

    batch_uses: how many steps in a row use a batch, whose frozen passes are computed once.
    masks_per_step: masks that are drawn for the pairs of one step, whose gradients are averaged.
    root: descend on the square root of the objective if it compares with the model, whose minimum is then 0.
    Nodes that no candidate edge needs are not computed. Initial scores are the caller's to apply.
    """
    engine, ablation, candidates, observer = search.engine, search.ablation, search.candidates, search.observer
    optimizer = masks.optimizer()
    rates = [group["lr"] for group in optimizer.param_groups]
    first = _restore(masks, optimizer, observer.resume())
    if not candidates.equal(engine.graph.edge_mask):
        engine = engine.restricted(candidates, consistent=ablation.consistent)
    pairs, objective = search.data.pairs, get_objective(search.data.objective)
    objective.check(pairs)
    reused = _pairs_drawn(len(pairs), steps, batch_size, batch_uses) > len(pairs)
    cache = FrozenCache(engine, pairs, ablation, cache_bytes if reused else 0, remember=batch_uses > 1)
    capturing = Capturing(engine, objective, pairs)
    indices = candidates.flatten().nonzero().squeeze(1).to(engine.adapter.device)
    generator = torch.Generator(engine.adapter.device)
    pending: list[dict[str, Tensor | float]] = []
    for step in range(first, steps):
        generator.manual_seed(derived_seed(seed, "noise", step))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * masks.schedule(step)
        if step % batch_uses == 0:
            cache.forget()
        ids, losses = drawn(len(pairs), batch_size, step // batch_uses, seed), []
        for _ in range(masks_per_step):
            draw = masks.draw(step, generator)
            z = _on_graph(engine, draw.mask.detach(), indices)
            loss, gradient = mask_gradient(engine, cache, ids, z, objective, capturing)
            masks.adjust(loss)
            slope = _slope_of_root(loss) if root and objective.compares else 1.0
            _backward(draw, slope * gradient.flatten()[indices], 1 / masks_per_step)
            losses.append(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        pending.append({"step": step + 1, objective.name: torch.stack(losses).mean(), **draw.record})
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            observer.progress(_checked(pending), steps)
            pending = []
            _check_parameters(masks, step + 1)
            observer.checkpoint(lambda done=step + 1: _state(masks, optimizer, done))  # type: ignore[misc]


def training_cost(pairs: int, *, steps: int, batch_size: int, batch_uses: int = 1, masks_per_step: int = 1) -> Cost:
    """Count what `train` with the same settings computes on so many pairs."""
    batch_size = min(batch_size, pairs)
    needed = _pairs_drawn(pairs, steps, batch_size, batch_uses)
    kept = pairs if needed > pairs else batch_size if batch_uses > 1 else 0
    return Cost(
        gradients=steps * masks_per_step * batch_size, forwards=0, frozen=min(pairs, needed), step_pairs=batch_size,
        kept=kept,
    )  # fmt: skip


def _pairs_drawn(n: int, steps: int, batch_size: int, batch_uses: int) -> int:
    """How many times a training draws one of `n` pairs; if more than n, pairs are drawn again."""
    return math.ceil(steps / batch_uses) * min(batch_size, n)


def drawn(n: int, batch_size: int, step: int, seed: int) -> list[int]:
    """Draw the pairs of a step: epochs in random order, without replacement; a function of seed and step alone."""
    batch_size = min(batch_size, n)
    first, ids = step * batch_size, []
    for epoch in range(first // n, (first + batch_size - 1) // n + 1):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(derived_seed(seed, "epoch", epoch)))
        ids += order[max(0, first - epoch * n) : first + batch_size - epoch * n].tolist()
    return ids


def derived_seed(seed: int, purpose: str, number: int) -> int:
    """Derive a seed for one step. It is hashed, because generators use 32 bits only and near seeds start alike."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose} {number}".encode()).digest()[:4])


def _on_graph(engine: MaskedPass, z: Tensor, indices: Tensor) -> Tensor:
    """Scatter the masks of the candidates [edge] into a mask [w, r]; all other edges are ablated."""
    shape = engine.graph.edge_mask.shape
    return torch.zeros(shape.numel(), device=z.device).index_copy_(0, indices, z.float()).view(shape)


def _slope_of_root(loss: Tensor) -> Tensor:
    """The derivative of the square root; next to the minimum, where a loss is all rounding, that of a larger loss."""
    return 0.5 * loss.clamp_min(ROUNDING).rsqrt()


def _backward(draw: Draw, gradient: Tensor, weight: float = 1.0) -> None:
    roots, gradients = [draw.mask], [weight * gradient]
    if draw.penalty is not None:
        roots.append(draw.penalty)
        gradients.append(torch.full_like(draw.penalty, weight))
    torch.autograd.backward(roots, gradients)


def _checked(pending: list[dict[str, Tensor | float]]) -> list[dict[str, float]]:
    """Copy the records to the CPU with one synchronisation. Raises Diverged at the first loss that is not finite."""
    on_device = [value for record in pending for value in record.values() if isinstance(value, Tensor)]
    read = iter(torch.stack([value.float() for value in on_device]).tolist())
    records = [{k: next(read) if isinstance(v, Tensor) else v for k, v in record.items()} for record in pending]
    for record in records:
        if not all(torch.isfinite(torch.tensor(list(record.values())))):
            raise Diverged(
                f"the loss is not finite at step {int(record['step'])}: {record}. The last checkpoint was kept. "
                "Try a lower learning rate, --dtype float32, or check the model's logits for infinities."
            )
    return records


def _check_parameters(masks: MaskParameters, done: int) -> None:
    """Raise Diverged if a parameter is not finite. A finite loss can have a gradient that is not."""
    broken = [name for name, value in masks.parameters.items() if not value.isfinite().all()]
    if broken:
        raise Diverged(
            f"{' and '.join(broken)} are not finite after step {done}. The last checkpoint was kept. "
            "Try a lower learning rate or --dtype float32."
        )


def _state(masks: MaskParameters, optimizer: torch.optim.Optimizer, done: int) -> dict[str, Tensor]:
    """Return parameters and optimizer state as a flat dictionary of tensors, without the model's weights."""
    state = {f"parameter.{name}": value.detach() for name, value in masks.parameters.items()}
    for i, slots in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{i}.{name}": value for name, value in slots.items()}
    return state | {"steps": torch.tensor(done)}


def _restore(masks: MaskParameters, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor] | None) -> int:
    """Restore a state, and return how many steps it had done."""
    if state is None:
        return 0
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        kind, _, name = key.partition(".")
        if kind == "parameter":
            masks.parameters[name].data.copy_(value)
        elif kind == "optimizer":
            i, _, slot = name.partition(".")
            slots.setdefault(int(i), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state["steps"])
