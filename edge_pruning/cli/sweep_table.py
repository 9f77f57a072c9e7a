"""The state of a sweep as a table, once or alive."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from edge_pruning.cli.report import new_table, number
from edge_pruning.objectives import OBJECTIVES
from edge_pruning.planning.plan import duration, gigabytes
from edge_pruning.sweep import CellPlan, CellState, SweepFolder

ORDER = ("running", "failed", "interrupted", "finished", "waiting")
COLOURS = {"running": "cyan", "failed": "red", "interrupted": "yellow", "finished": "green", "waiting": "dim"}
FRAME = 8  # lines of a terminal that rows cannot have
BETWEEN, BETWEEN_LINES = 2.0, 60.0  # seconds


def state_row(state: CellState) -> dict[str, Any]:
    """What is known about a cell: its loss and size on test pairs, or those of the last training step."""
    step, evaluation = state.last_step, state.evaluation
    loss = evaluation["loss"] if evaluation else next((name for name in OBJECTIVES if name in step), None)
    now: Any = evaluation["circuit"] if evaluation else step
    return {
        "cell": state.cell.name, "state": state.state, "step": int(step["step"]) if "step" in step else None,
        "edges": now.get("edges"), "loss": loss, "value": now.get(loss), "seconds": round(state.seconds, 1),
        "worker": state.claims[-1].worker if state.claims else None,
        "error": state.failure["error"] if state.failure else None,
    }


def status_table(folder: SweepFolder, states: Sequence[CellState], rows: int | None = None) -> Table:
    """Running cells first. rows: how many are shown at most."""
    table = new_table(escape(f"{folder.path}: {_counts(states)}"))
    for column in ("cell", "state", "step", "loss", "edges", "time", "worker"):
        table.add_column(column, justify="left" if column in ("cell", "state", "worker") else "right")
    ordered = sorted(states, key=lambda state: ORDER.index(state.state))
    shown = ordered if rows is None or len(ordered) <= rows else ordered[: max(1, rows - 1)]
    for state in shown:
        row = state_row(state)
        loss = f"{OBJECTIVES[row['loss']].short} {number(row['value'], '.3f')}" if row["loss"] else "–"
        step = "–" if row["step"] is None else f"{row['step']:,}"
        words = f"[{COLOURS[state.state]}]{state.state}[/]"
        took = str(timedelta(seconds=round(state.seconds))) if state.claims else "–"
        table.add_row(escape(row["cell"]), words, step, loss, number(row["edges"], ",.0f"), took,
                      escape(row["error"] or row["worker"] or ""))  # fmt: skip
    if len(shown) < len(ordered):
        table.add_row(f"and {len(ordered) - len(shown):,} more: {_counts(ordered[len(shown):])}")
    return table


def follow(folder: SweepFolder, console: Console) -> None:
    """Keep the table up to date until every cell is settled."""
    with looking(folder, console) as look:
        while not all(folder.is_settled(cell) for cell in folder.cells):
            time.sleep(BETWEEN)
            look()


@contextmanager
def looking(folder: SweepFolder, console: Console) -> Iterator[Callable[[], None]]:
    """A function that brings the table up to date; without a terminal, it prints a line once a minute."""
    if not console.is_terminal:
        yield _Lines(folder, console)
        return

    def table() -> Table:
        return status_table(folder, folder.states(), max(1, console.height - FRAME))

    with Live(table(), console=console, auto_refresh=False, transient=True) as live:
        last = time.monotonic()

        def look() -> None:
            nonlocal last
            if time.monotonic() - last >= BETWEEN:
                live.update(table(), refresh=True)
                last = time.monotonic()

        yield look


class _Lines:
    """Prints the counts now and then."""

    def __init__(self, folder: SweepFolder, console: Console) -> None:
        self.folder, self.console = folder, console
        self.last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.last >= BETWEEN_LINES:
            self.last = time.monotonic()
            self.console.print(escape(_counts(self.folder.states())), highlight=False)


def plan_table(plans: Sequence[CellPlan]) -> Table:
    """Memory and time of cells, those that cost the same in one row, and of all."""
    known = [one.seconds for one in plans]
    total = sum(seconds or 0.0 for seconds in known)
    words = f"at least {duration(total)}" if None in known else duration(total)
    table = new_table(f"{sum(one.count for one in plans):,} cells, one after the other: {words}")
    for column in ("cells like", "cells", "edges", "memory", "time each", "all", "estimate"):
        table.add_column(column, justify="left" if column in ("cells like", "estimate") else "right")
    for one in plans:
        plan, edges = one.plan, next(iter(one.plan.edges.values()))
        memory = gigabytes(plan.peak) if plan.fits else f"{gigabytes(plan.least)}: too much"
        times = ["–" if seconds is None else duration(seconds) for seconds in (plan.seconds, one.seconds)]
        row = (escape(one.cell.name), str(one.count), f"{edges:,}", memory, *times, escape(plan.speed.source))
        table.add_row(*row)
    return table


def _counts(states: Sequence[CellState]) -> str:
    counted: Counter[str] = Counter(state.state for state in states)
    return ", ".join(f"{counted[state]:,} {state}" for state in ORDER if counted[state])
