"""What a sweep will cost: the plan of every kind of cell, without the weights."""

from __future__ import annotations

import json
from dataclasses import dataclass

from edge_pruning.planning import Plan
from edge_pruning.runs.planned import plan
from edge_pruning.sweep.grid import Cell, Sweep


@dataclass(frozen=True)
class CellPlan:
    """The plan of cells that differ in their seed alone. cell: one of them; count: how many there are."""

    cell: Cell
    count: int
    plan: Plan

    @property
    def seconds(self) -> float | None:
        """Of all of them, one after the other; None if a method's cost is not known before."""
        return None if self.plan.seconds is None else self.count * self.plan.seconds


def forecast(sweep: Sweep, device: str | None = None) -> list[CellPlan]:
    """Plan every kind of cell. device: a name as for `edge-pruning plan`; None: that of each cell.

    Raises ValueError as `plan` does.
    """
    kinds: dict[str, list[Cell]] = {}
    for cell in sweep.cells:
        settings = {**cell.config.to_json(), "seed": 0, **({} if device is None else {"device": device})}
        kinds.setdefault(json.dumps(settings), []).append(cell)
    return [CellPlan(same[0], len(same), plan(calibrate=False, **json.loads(kind))) for kind, same in kinds.items()]
