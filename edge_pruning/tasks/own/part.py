"""What some rows of a source have become: the unit in which rows are read, and in which ranks exchange them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from edge_pruning.pair import Pair
from edge_pruning.tasks.encoding import TextPair, UnequalLengths
from edge_pruning.tasks.own.problems import Notices


@dataclass(frozen=True)
class Part:
    """Pairs and their texts, or why there are none, by the numbers of the rows.

    unequal: rows whose prompts differ in length. problems: of other rows that could not be read.
    """

    pairs: dict[int, Pair] = field(default_factory=dict)
    texts: dict[int, TextPair] = field(default_factory=dict)
    unequal: dict[int, UnequalLengths] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    notices: Notices = field(default_factory=lambda: Notices("row"))


def plain(part: Part) -> dict[str, Any]:
    """The part of a text source in plain JSON."""
    return {
        "pairs": [[number, _values(pair)] for number, pair in part.pairs.items()],
        "texts": [[number, _values(text)] for number, text in part.texts.items()],
        "unequal": [[number, error.clean, error.corrupted] for number, error in part.unequal.items()],
        "problems": part.problems,
        "rows": part.notices.rows,
        "examples": part.notices.examples,
    }


def of_plain(value: Mapping[str, Any]) -> Part:
    """The part that `plain` wrote."""
    return Part(
        {number: Pair(*map(_as_tuple, values)) for number, values in value["pairs"]},
        {number: TextPair(*map(_as_tuple, values)) for number, values in value["texts"]},
        {number: UnequalLengths(clean, corrupted) for number, clean, corrupted in value["unequal"]},
        [(number, message) for number, message in value["problems"]],
        Notices("row", rows=value["rows"], examples=value["examples"]),
    )


def _values(item: Pair | TextPair) -> list[Any]:
    return [getattr(item, each.name) for each in fields(item)]


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
