"""Write a folder beside an old one and then exchange the two: at any moment there is a complete folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exchanged(target: Path) -> Iterator[Path]:
    """Yield a path to write the new folder to. If no error is raised, it takes the place of `target` afterwards."""
    staging, retired = target.with_name(target.name + ".new"), target.with_name(target.name + ".old")
    for leftover in (staging, retired):
        shutil.rmtree(leftover, ignore_errors=True)
    yield staging
    if target.exists():
        target.rename(retired)
    staging.rename(target)
    shutil.rmtree(retired, ignore_errors=True)
