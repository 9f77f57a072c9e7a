"""Numbers as a page shows them. What is undefined (None) becomes a dash."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edge_pruning.contents import PICTURE

DASH = "–"
MINUS = "\N{MINUS SIGN}"
VERDICTS = {"idle": "no clear effect"}  # of minimality; the others are shown as they are stored


def number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else _signed(f"{value:.{digits}f}")


def small(value: float | None) -> str:
    """Two significant digits, however small."""
    return DASH if value is None else _signed(f"{value:.4f}" if abs(value) >= 0.001 or not value else f"{value:.1e}")


def percent(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else _signed(f"{100 * value:.{digits}f}") + " %"


def count(value: float | None) -> str:
    """Whole numbers with separators; others (means of counts) with one decimal."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if round(value, 1) == round(value) else f"{value:,.1f}"


def interval(ends: Sequence[float | None], digits: int = 3) -> str:
    low, high = ends
    return "" if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def percent_interval(ends: Sequence[float | None]) -> str:
    low, high = ends
    return "" if low is None or high is None else f"{percent(low).removesuffix(' %')} to {percent(high)}"


def spaced(name: str) -> str:
    """`exact_match` as `exact match`."""
    return name.replace("_", " ")


def verdict(stored: str) -> str:
    """The verdict on an edge, as pages show it."""
    return VERDICTS.get(stored, stored)


def picture(pair: Mapping[str, Any], side: int) -> str | None:
    """The clean (0) or corrupted (1) image of a pair, where it has one: a data URI that a page may show."""
    pictures = pair.get("pictures") or ()
    found = pictures[side] if side < len(pictures) else None
    return found if isinstance(found, str) and re.fullmatch(PICTURE, found) else None


def _signed(text: str) -> str:
    text = text.replace("-", MINUS)
    return text.lstrip(MINUS) if not text.strip(MINUS + "0.") else text
