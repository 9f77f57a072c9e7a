"""Foreign text inside a picture: made printable, measured, wrapped and shortened.

Names of models, tasks and prompts can contain anything: control characters, half of a surrogate pair, characters that
reverse the writing direction, ten thousand letters without a space. Widths are upper estimates for common sans-serif
fonts, because an SVG does not know which font its reader has.
"""

from __future__ import annotations

import unicodedata
from itertools import accumulate, takewhile

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
WRITING_DIRECTION = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
NARROW, WIDE = set(" iljtfrI.,:;'|!()[]"), set("mwMW@%&_" + ELLIPSIS + REPLACEMENT)
BOLD = 1.15  # bold letters are this much wider


def printable(text: object) -> str:
    """The text on one line, without anything that XML forbids or that would disturb its surroundings."""
    return "".join(map(_printable_character, " ".join(str(text).split())))


def _printable_character(character: str) -> str:
    unprintable = unicodedata.category(character) in ("Cc", "Cs", "Cn") or character in WRITING_DIRECTION
    return REPLACEMENT if unprintable else character


def text_width(text: str, size: float) -> float:
    """How wide the text is at most, in the units of the font size."""
    return size * sum(map(_em, text))


def _em(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF" or character in WIDE:
        return 1.0
    if unicodedata.category(character) == "Mn":  # drawn over its neighbour; above 0, so that long runs are cut, too
        return 0.2
    if character in NARROW:
        return 0.4
    return 0.72 if character.isupper() or ord(character) > 0x2000 else 0.62


def shorten(text: str, width: float, size: float) -> str:
    """The text, or as much of its beginning as fits with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    return text[: _fitting(text, width - text_width(ELLIPSIS, size), size)].rstrip() + ELLIPSIS


def wrap(text: str, width: float, size: float, max_lines: int) -> list[str]:
    """Lines that fit, broken at spaces where possible. An ellipsis replaces what does not fit into `max_lines`."""
    lines: list[str] = []
    rest = text.strip()
    while rest and len(lines) < max_lines - 1 and text_width(rest, size) > width:
        end = _line_end(rest, width, size)
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*lines, shorten(rest, width, size)] if rest else lines


def _line_end(text: str, width: float, size: float) -> int:
    """Where a line that begins with `text` ends: after its last word that fits, or inside a word longer than a line."""
    end = _fitting(text, width, size)
    space = text.rfind(" ", 0, end + 1)
    return space if space > 0 else max(end, 1)


def _fitting(text: str, width: float, size: float) -> int:
    """How many characters of the text fit."""
    widths = accumulate(text_width(character, size) for character in text)
    return sum(1 for _ in takewhile(lambda used: used <= width, widths))
