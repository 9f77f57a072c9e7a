"""Who is told what a whole run is doing: a progress bar, or nobody."""

from __future__ import annotations

from collections.abc import Mapping

from edge_pruning.discovery import Observer


class RunObserver(Observer):
    """Watches a whole run: besides the steps of the method, what it is doing now."""

    def plan(self, work: Mapping[str, float]) -> None:
        """Receive what a run is going to do, in order: the words of each stage, and roughly how much work it is.

        The unit is one masked forward pass of one pair. Called once, before the first of these stages.
        """

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        """`words`: what is being done; `done` of `total` where that is known."""

    def forecast(self, words: str) -> None:
        """`words`: what the run will cost, said before it starts."""
