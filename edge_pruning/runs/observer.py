"""Observers of a whole run, such as a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from edge_pruning.discovery import Observer

Callback = Callable[[Mapping[str, float]], object]


class RunObserver(Observer):
    """Watches a whole run: the steps of the method and the current stage."""

    def stages(self, work: Mapping[str, float]) -> None:
        """Receive the stages of a run, in order: the name of each, and its approximate work.

        The unit is one masked forward pass of one pair. Called once, before the first of these stages.
        """

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        """Receive the current stage: its name, and `done` of `total` if known."""

    def forecast(self, words: str) -> None:
        """Receive the estimated cost of the run, before it starts."""


class OneOfSeveral(RunObserver):
    """Adds the number of a run to its stages. The stages of all runs are announced beforehand, so single ones are not.
    """

    def __init__(self, watch: RunObserver, which: str) -> None:
        self.watch, self.which = watch, which

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        self.watch.stage(f"{self.which}: {words}", done, total)

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        self.watch.progress(records, total)


class WithCallback(RunObserver):
    """Forwards everything to an observer, and each step's record to a function."""

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
    """Return the observer, combined with a function if given. Raises ValueError if it is not callable."""
    if callback is None:
        return watch
    if not callable(callback):
        raise ValueError(f"expected callback to be a function of one step's record, got {type(callback).__name__}")
    return WithCallback(watch, callback)
