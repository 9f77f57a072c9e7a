"""Nothing gets past a reader: a damaged file is read to something that can be used, or refused with its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from damage import IN_THE_SUITE, changes
from hypothesis import HealthCheck, given, settings
from readers import READERS

from edge_pruning import graph

contents = cache(lambda name: READERS[name].files())


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(
    name: str, inputs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "MOST_ENTRIES", 10**5)  # a claim that is just small enough should not take a second here
    reader = READERS[name]
    for file, content in contents(name).items():
        (tmp_path / file).write_bytes(content)
    target, whole = tmp_path / reader.target, contents(name)[reader.target]
    reader.read(target)

    @settings(
        max_examples=max(1, inputs // reader.slow), deadline=None, database=None, derandomize=inputs == IN_THE_SUITE,
        suppress_health_check=list(HealthCheck),
    )
    @given(changes)
    def fuzz(made: list[tuple[str, int, int]]) -> None:
        target.write_bytes(reader.damage(whole, made))
        assert reader.target in (refusal(reader.read, target) or reader.target)

    fuzz()


def refusal(read: Callable[[Path], object], path: Path) -> str | None:
    """The error of a reader; None where it reads the file."""
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return None
