"""How a command ends: with a message, and of several ranks with one."""

from __future__ import annotations

import pytest

from edge_pruning import ranks
from edge_pruning.cli.errors import errors_reported


@pytest.mark.parametrize(("error", "code"), [(ValueError("too few pairs"), 2), (KeyError("a bug"), 1)])
def test_a_rank_that_is_not_the_first_to_fail_ends_silently(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ranks, "speaks_of_failure", lambda: False)
    with pytest.raises(SystemExit) as ended, errors_reported():
        raise error
    assert ended.value.code == code
    assert capsys.readouterr().err == ""


def test_the_one_that_speaks_prints_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, errors_reported():
        raise ValueError("too few pairs")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: too few pairs\n"
