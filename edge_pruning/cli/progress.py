"""The progress bar: what is being done, steps, KL, edges, time left. On stderr, and only if that is a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from edge_pruning.runs import RunObserver


class ProgressBar(RunObserver):
    """Use as a context: `with ProgressBar() as bar: discover(..., observer=bar)`."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"), TimeRemainingColumn(compact=True),
        )
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bar.add_task("starting", total=None, state="")
        self.words = "starting"

    def __enter__(self) -> ProgressBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        if words != self.words:
            self.words = words
            self.bar.reset(self.task, description=words, state="")
        self.bar.update(self.task, completed=done, total=total or None)

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        last = records[-1]
        kl = sum(record["kl"] for record in records) / len(records)
        edges = f"  edges {last['edges']:,.0f}" if "edges" in last else ""
        self.bar.update(self.task, completed=last["step"], total=total, state=f"KL {kl:.3f} nats{edges}")
