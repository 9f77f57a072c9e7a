"""The progress bar: what is being done, steps, KL, edges, time left. On stderr, and only if that is a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from edge_pruning.objectives import OBJECTIVES
from edge_pruning.runs import RunObserver


class ProgressBar(RunObserver):
    """Use as a context: `with ProgressBar() as bar: discover(..., observer=bar)`."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"), TimeRemainingColumn(compact=True),
        )
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.words = "starting"
        self.task = self.bar.add_task(self.words, total=None, state="")

    def __enter__(self) -> ProgressBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        if words != self.words:
            self.bar.remove_task(self.task)
            self.words, self.task = words, self.bar.add_task(words, total=None, state="")
        state = f"{done:,} of {total:,} pairs" if total else ""
        self.bar.update(self.task, completed=done, total=total or None, state=state)

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        step, last = int(records[-1]["step"]), records[-1]
        name = next(name for name in OBJECTIVES if name in last)
        loss = sum(record[name] for record in records) / len(records)
        edges = f", {last['edges']:,.0f} edges" if "edges" in last else ""
        state = f"step {step:,} of {total:,}, {OBJECTIVES[name].short} {loss:.3f}{edges}"
        self.bar.update(self.task, completed=step, total=total, state=state)
