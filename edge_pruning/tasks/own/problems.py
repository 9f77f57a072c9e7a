"""What is wrong with a source of pairs, and what should be known about it: collected, and said at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

SHOWN = 20  # problems printed; a file with more of them has one cause


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
        lines = [f"{self.unit} {number}: {words}" if number else words for number, words in sorted(self.messages)]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise ValueError("\n  ".join([f"{self.what}: {count}", *lines[:SHOWN], *more]))


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
