"""Numbers on a page: short, with a real minus sign, and a dash for what is undefined."""

from __future__ import annotations

import pytest

from edge_pruning.page import words


@pytest.mark.parametrize(("value", "shown"), [
    (0.21, "0.210"), (-0.458, "−0.458"), (-0.0001, "0.000"), (0, "0.000"), (None, "–"),
])
def test_numbers(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


@pytest.mark.parametrize(("value", "shown"), [
    (0.25, "0.2500"), (-0.0012, "−0.0012"), (2.3e-5, "2.3e−05"), (0, "0.0000"), (1.0, "1.0000"), (None, "–"),
])
def test_small_numbers_keep_two_digits(value: float | None, shown: str) -> None:
    assert words.small(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(1519, "1,519"), (99.99999, "100"), (12.34, "12.3"), (None, "–")])
def test_counts(value: float | None, shown: str) -> None:
    assert words.count(value) == shown


def test_shares_and_intervals() -> None:
    assert words.percent(0.967) == "96.7 %"
    assert words.percent(-0.0001) == "0.0 %"
    assert words.interval([0.195, 0.225]) == "0.195 to 0.225"
    assert words.interval([None, 0.2]) == ""
    assert words.percent_interval([0.947, 0.986]) == "94.7 to 98.6 %"
    assert words.percent_interval([None, None]) == ""


def test_only_png_images_inside_the_page_are_shown() -> None:
    good, bad = "data:image/png;base64,iVBORw0=", "data:image/svg+xml;base64,AAAA"
    assert words.picture({"pictures": [good, bad]}, 0) == good
    for pair in ({"pictures": [bad, good]}, {"pictures": [good + '"']}, {"pictures": [3]}, {"pictures": []}, {}):
        assert words.picture(pair, 0) is None
