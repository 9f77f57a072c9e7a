"""What a sweep will cost: the plan of every cell, without the weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from edge_pruning.planning import Plan
from edge_pruning.planning.devices import named_device
from edge_pruning.runs import RunConfig
from edge_pruning.runs.planned import described, device_here, pairs_of, planned
from edge_pruning.sweep.grid import Cell, Sweep

T = TypeVar("T")


@dataclass(frozen=True)
class CellPlan:
    """The plan of cells that cost the same. cell: the first of them; count: how many there are."""

    cell: Cell
    count: int
    plan: Plan

    @property
    def seconds(self) -> float | None:
        """Of all of them, one after the other; None if a method's cost is not known before."""
        return None if self.plan.seconds is None else self.count * self.plan.seconds


def forecast(sweep: Sweep, device: str | None = None) -> list[CellPlan]:
    """Plan every cell from arithmetic. device: a name as for `edge-pruning plan`; None: that of each cell.

    Raises ValueError as `plan` does.
    """
    made = _Made()
    plans: dict[str, tuple[Cell, Plan]] = {}
    counts: dict[str, int] = {}
    for cell in sweep.cells:
        plan = made.plan(cell.config, device or cell.config.device)
        cost = json.dumps({**plan.to_json(), "task": cell.config.task})
        plans.setdefault(cost, (cell, plan))
        counts[cost] = counts.get(cost, 0) + 1
    return [CellPlan(cell, counts[cost], plan) for cost, (cell, plan) in plans.items()]


class _Made:
    """Models without weights and pairs, which many cells have in common."""

    def __init__(self) -> None:
        self._made: dict[str, object] = {}

    def plan(self, config: RunConfig, device: str) -> Plan:
        which = config.model, config.revision, config.search_dtype, config.trust_remote_code, device
        model = self._once(which, lambda: described(config, device))
        pairs, guessed = self._once((*which, config.task, dict(config.data)), lambda: pairs_of(config, model))
        place = named_device(device, model.dtype) or device_here(device, model.dtype)
        return planned(config, model, pairs, place, guessed=guessed)

    def _once(self, key: object, make: Callable[[], T]) -> T:
        name = json.dumps(key)
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]  # type: ignore[assignment]  # what this key's function has made
        return made
