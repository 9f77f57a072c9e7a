"""Foreign text made fit for a picture."""

from __future__ import annotations

import pytest

from edge_pruning.drawing.svg import number, text
from edge_pruning.drawing.text import printable, shorten, text_width, wrap


@pytest.mark.parametrize("bad", ["\x00", "\x08", "\x7f", "\x9f", "\ud800", "\ufffe", "\uffff", "\u202e", "\u2066"])
def test_what_xml_forbids_or_reverses_the_line_is_replaced(bad: str) -> None:
    assert printable(f"a{bad}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_lines_become_one_line_and_other_scripts_stay() -> None:
    assert printable("Größe\n\t模型  ñ 🙂") == "Größe 模型 ñ 🙂"


@pytest.mark.parametrize("content", ["W" * 500, "word " * 200, "模" * 300, "e" + "\u0301" * 4000, "i" * 900])
def test_shortened_and_wrapped_text_fits(content: str) -> None:
    assert text_width(shorten(content, 120, 11), 11) <= 120
    lines = wrap(content, 120, 11, max_lines=3)
    assert len(lines) == 3
    assert all(text_width(line, 11) <= 120 for line in lines)
    assert lines[-1].endswith("…")


def test_text_that_fits_is_not_touched() -> None:
    assert shorten("short", 100, 11) == "short"
    assert wrap("short", 100, 11, max_lines=2) == ["short"]
    assert wrap("", 100, 11, max_lines=2) == []


def test_wrapping_breaks_at_spaces_and_loses_no_word() -> None:
    content = "the circuit has seven edges and nothing else"
    lines = wrap(content, 100, 11, max_lines=10)
    assert len(lines) > 1
    assert " ".join(lines) == content


def test_a_width_of_nothing_still_ends() -> None:
    assert wrap("abcde", 0, 11, max_lines=4) == ["a", "b", "c", "…"]


@pytest.mark.parametrize(("value", "digits"), [(1.0, "1"), (-0.001, "0"), (12.346, "12.35"), (100.0, "100")])
def test_numbers_are_short(value: float, digits: str) -> None:
    assert number(value) == digits


def test_attributes_and_text_are_escaped() -> None:
    expected = """<text x="0" y="1" data-name="a&quot;b'&lt;">&lt;&amp;"&gt;</text>"""
    assert text('<&">', 0.0, 1.0, data_name="a\"b'<") == expected
