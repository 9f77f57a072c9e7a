"""Who is told what a whole run is doing: a progress bar, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from edge_pruning.discovery import Observer

Callback = Callable[[Mapping[str, float]], object]


class RunObserver(Observer):
    """Watches a whole run: besides the steps of the method, what it is doing now."""

    def stages(self, work: Mapping[str, float]) -> None:
        """Receive the stages of a run, in order: the words of each, and roughly how much work it is.

        The unit is one masked forward pass of one pair. Called once, before the first of these stages.
        """

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        """`words`: what is being done; `done` of `total` where that is known."""

    def forecast(self, words: str) -> None:
        """`words`: what the run will cost, said before it starts."""


class OneOfSeveral(RunObserver):
    """Says which run of several a stage belongs to. The stages of all are announced before, so single ones are not."""

    def __init__(self, watch: RunObserver, which: str) -> None:
        self.watch, self.which = watch, which

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        self.watch.stage(f"{self.which}: {words}", done, total)

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        self.watch.progress(records, total)


class WithCallback(RunObserver):
    """Passes everything on to an observer, and each step's record to a function."""

    def __init__(self, watch: RunObserver, callback: Callback) -> None:
        self.watch, self.callback = watch, callback

    def stages(self, work: Mapping[str, float]) -> None:
        self.watch.stages(work)

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        self.watch.stage(words, done, total)

    def forecast(self, words: str) -> None:
        self.watch.forecast(words)

    def resume(self) -> Mapping[str, Tensor] | None:
        return self.watch.resume()

    def checkpoint(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        self.watch.checkpoint(state)

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        self.watch.progress(records, total)
        for record in records:
            self.callback({**record, "total": total})


def with_callback(watch: RunObserver, callback: Callback | None) -> RunObserver:
    """The observer, or one that calls a function as well. Raises ValueError for what cannot be called."""
    if callback is None:
        return watch
    if not callable(callback):
        raise ValueError(f"expected a function of one step's record as callback, got {type(callback).__name__}")
    return WithCallback(watch, callback)
