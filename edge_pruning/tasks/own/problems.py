"""What is wrong with a source of pairs, and what should be known about it: collected, and said at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

SHOWN, ROWS = 20, 5  # problems printed, and rows that have the same one


@dataclass
class Problems:
    """Problems by row number. what: how messages call the source. unit: what they call a row (line, row, pair)."""

    what: str
    unit: str = "line"
    messages: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int | None, message: str) -> None:
        """number: of the row; None for what is wrong with the whole source."""
        self.messages.append((number or 0, message))

    @property
    def numbers(self) -> set[int]:
        """The rows that have problems."""
        return {number for number, _ in self.messages if number}

    def of(self, number: int) -> list[str]:
        """The problems of one row."""
        return [message for of, message in self.messages if of == number]

    def raise_all(self) -> None:
        """Raises ValueError with every problem, the first ones in full."""
        if not self.messages:
            return
        lines, n = self.sentences, len(self.messages)
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise ValueError("\n  ".join([f"{self.what}: {n} problem{'s' * (n > 1)}", *lines[:SHOWN], *more]))

    @property
    def sentences(self) -> list[str]:
        """Each problem once, with the rows that have it: `lines 2, 3, 5 and 7 more: ...`."""
        rows: dict[str, list[int]] = {}
        for number, words in sorted(self.messages):
            rows.setdefault(words, []).append(number)
        return [f"{where}: {words}" if (where := self._rows(numbers)) else words for words, numbers in rows.items()]

    def _rows(self, numbers: list[int]) -> str:
        """Which rows these are, in words; nothing for what is wrong with the whole source."""
        if len(numbers) < 2:
            return f"{self.unit} {numbers[0]}" if numbers[0] else ""
        more = f" and {len(numbers) - ROWS} more" if len(numbers) > ROWS else ""
        return f"{self.unit}s {', '.join(map(str, numbers[:ROWS]))}{more}"


@dataclass
class Notices:
    """Notices that concern many rows, each said once: how many rows, and what the first of them looks like."""

    unit: str
    total: int = 0
    rows: dict[str, list[int]] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, words: str, number: int, example: Callable[[], str]) -> None:
        """words: of the notice, with `{n}` for the count. example: gives what the row looks like; asked once."""
        if words not in self.rows:
            self.examples[words] = example()
        self.rows.setdefault(words, []).append(number)

    def add_all(self, later: Notices) -> None:
        """Add the notices about later rows."""
        for words, numbers in later.rows.items():
            self.examples.setdefault(words, later.examples[words])
            self.rows.setdefault(words, []).extend(numbers)

    def of(self, number: int) -> list[str]:
        """The notices about one row."""
        return [
            words.replace("{n} rows", "rows like this")
            for words, numbers in self.rows.items() if number in numbers
        ]

    @property
    def sentences(self) -> list[str]:
        return [
            words.replace("{n}", f"{len(numbers)} of {self.total}")
            + f" ({self.unit} {numbers[0]}: {self.examples[words]})"
            for words, numbers in self.rows.items()
        ]
