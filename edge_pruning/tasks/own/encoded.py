"""Rows as a model reads them: what texts and images have in common. Read some at a time, and many stay packed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

from edge_pruning.pair import Pair
from edge_pruning.tasks.chat import Chat
from edge_pruning.tasks.encoding import TextPair, UnequalLengths
from edge_pruning.tasks.own.part import Part
from edge_pruning.tasks.own.problems import Notices, Problems
from edge_pruning.tasks.own.rows import Row
from edge_pruning.tasks.packed import Numbered

AT_ONCE = 1_000  # rows


class Encoded(ABC):
    """Pairs and their texts, by the number of their row; what cannot be encoded is noted.

    chat: how chats become texts, where rows are chats. about: sentences about the source as a whole.
    unanswered: number of pairs without an answer.
    """

    chat: Chat | None = None

    def __init__(self, problems: Problems, notices: Notices) -> None:
        self.problems, self.notices = problems, notices
        self.pairs: dict[int, Pair] | Numbered[Pair] = {}
        self.texts: dict[int, TextPair] | Numbered[TextPair] = {}
        self.unequal: dict[int, UnequalLengths] = {}
        self.unanswered = 0

    @property
    def about(self) -> Sequence[str]:
        return ()

    def add_all(self, rows: Sequence[Row]) -> None:
        """Encode all rows. Raises ValueError if they are of another kind than the model reads."""
        for part in self.parts(rows, self.part):
            self.add(part)

    def parts(self, rows: Sequence[Row], read: Callable[[Sequence[Row]], Part]) -> Iterable[Part]:
        """What `read` makes of all rows, some of them at a time."""
        return map(read, blocks(rows))

    def part(self, rows: Sequence[Row]) -> Part:
        """Encode some of the rows."""
        part = Part()
        for row in rows:
            try:
                part.texts[row.number], part.pairs[row.number] = self.encoded(row, part.notices)
            except UnequalLengths as error:
                part.unequal[row.number] = error
            except ValueError as error:
                part.problems.append((row.number, str(error)))
        return part

    def add(self, part: Part) -> None:
        for number, pair in part.pairs.items():
            self.pairs[number], self.texts[number] = pair, part.texts[number]
            self.unanswered += not any(pair.answers)
        self.unequal |= part.unequal
        self.problems.messages += part.problems
        self.notices.add_all(part.notices)

    @abstractmethod
    def encoded(self, row: Row, notices: Notices) -> tuple[TextPair, Pair]:
        """The row in words and as the model reads it. Raises ValueError if it cannot be read, with the reason."""


def blocks(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """The rows, divided into blocks of those that are read together."""
    return [rows[first : first + AT_ONCE] for first in range(0, len(rows), AT_ONCE)]
