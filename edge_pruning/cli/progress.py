"""The progress bar on stderr: current stage, steps, KL, edges, time left.

If stderr is not a terminal (a batch job, a log file), one line per minute is printed instead. If the run announces its
stages (`RunObserver.stages`), the bar and the time left cover the whole run. Otherwise they cover the current stage.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from edge_pruning import ranks
from edge_pruning.objectives import OBJECTIVES
from edge_pruning.runs import RunObserver

FAR_APART = 2  # how much sizes may differ for their mean loss to be shown beside a single size
SECONDS_BETWEEN_LINES = 60
SPEED_OVER = 300  # seconds; steps differ in cost, so the remaining time is estimated from the last minutes only


class ProgressBar(RunObserver):
    """A progress bar. Use it as a context: `with ProgressBar() as bar: discover(..., observer=bar)`."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True, quiet=not ranks.is_first())
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"), TimeRemainingColumn(compact=True),
        )
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal,
                            speed_estimate_period=SPEED_OVER)
        self.words = "starting"
        self.work: dict[str, float] = {}
        self.task = self.bar.add_task(self.words, total=None, state="")
        self.began = self.line_at = time.monotonic()

    def __enter__(self) -> ProgressBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def stages(self, work: Mapping[str, float]) -> None:
        self.work = dict(work)
        self._restart()

    def stage(self, words: str, done: int = 0, total: int = 0, unit: str = "pairs") -> None:
        if words != self.words:
            self.words = words
            if not self.work:
                self._restart()
        self._update(done, total, f"{done:,} of {total:,} {unit}" if total else "")

    def forecast(self, words: str) -> None:
        if not self.bar.disable:
            self.bar.console.print(f"Plan: {escape(words)}", soft_wrap=True, highlight=False)

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        step, last = int(records[-1]["step"]), records[-1]
        name = next(name for name in OBJECTIVES if name in last)
        loss = sum(record[name] for record in records) / len(records)
        edges = f", {_range([record['edges'] for record in records])} edges" if "edges" in last else ""
        self._update(step, total, f"step {step:,} of {total:,}, {OBJECTIVES[name].short} {loss:.3f}{edges}")

    def _restart(self) -> None:
        """Replace the bar with a new one, so that its speed is measured from now on."""
        self.bar.remove_task(self.task)
        self.task = self.bar.add_task(self.words, total=sum(self.work.values()) or None, state="")

    def _update(self, done: int, total: int, state: str) -> None:
        """Show the progress of the current stage, as part of the whole run if its stages are known."""
        if not self.work:
            self._show(done, total or None, state)
            return
        before, shown = 0.0, self.bar.tasks[0].completed
        for words, units in self.work.items():
            if words == self.words:
                before += units * done / max(1, total)
                break
            before += units
        else:  # a stage outside the plan adds no progress
            before = shown
        self._show(max(before, shown), self.bar.tasks[0].total, state)

    def _show(self, completed: float, total: float | None, state: str) -> None:
        self.bar.update(self.task, description=self.words, completed=completed, total=total, state=state)
        now = time.monotonic()
        if self.bar.disable and now - self.line_at >= SECONDS_BETWEEN_LINES:
            self.line_at = now
            left = self.bar.tasks[0].time_remaining
            words = [_clock(now - self.began), self.words, *([state] if state else [])]
            words += [f"{_clock(left)} left"] if left else []
            self.bar.console.print(escape("  ".join(words)), soft_wrap=True, highlight=False)


def _clock(seconds: float) -> str:
    """Format seconds as H:MM:SS."""
    return str(timedelta(seconds=round(seconds)))


def _range(sizes: Sequence[float]) -> str:
    """The last size, or the smallest and the largest if the steps drew theirs at random."""
    low, high = min(sizes), max(sizes)
    return f"{low:,.0f} to {high:,.0f}" if high > FAR_APART * low else f"{sizes[-1]:,.0f}"
