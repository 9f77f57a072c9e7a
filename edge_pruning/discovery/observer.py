"""Observers: how progress and checkpoints leave a running method, without the method knowing files or screens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor


class Observer:
    """Receives progress and checkpoints, and ignores them. Run folders and progress bars override what they need."""

    def resume(self) -> Mapping[str, Tensor] | None:
        """Return the last state that `checkpoint` received, so that the method continues from it; None starts anew."""
        return None

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        """Receive one record per finished step (`step`, `kl`, ...) of `total` steps. Called every few steps."""

    def checkpoint(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Receive a function that returns the state for `resume`. Called every few steps; calling it may be skipped."""
