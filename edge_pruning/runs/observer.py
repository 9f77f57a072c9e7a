"""Who is told what a whole run is doing: a progress bar, or nobody."""

from __future__ import annotations

from edge_pruning.discovery import Observer


class RunObserver(Observer):
    """Watches a whole run: besides the steps of the method, what it is doing now."""

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        """`words`: what is being done; `done` of `total` where that is known."""
