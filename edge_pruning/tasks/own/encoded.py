"""Rows as a model reads them: what texts and images have in common. Read some at a time, and many stay packed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from edge_pruning.pair import Pair
from edge_pruning.tasks.chat import Chat
from edge_pruning.tasks.encoding import TextPair, UnequalLengths
from edge_pruning.tasks.own.problems import Problems
from edge_pruning.tasks.own.rows import Row
from edge_pruning.tasks.packed import Numbered

AT_ONCE = 1_000  # rows


class Encoded(ABC):
    """Pairs and their texts, by the number of their row; what cannot be encoded is noted.

    chat: how chats become texts, where rows are chats. about: sentences about the source as a whole.
    unanswered: number of pairs without an answer.
    """

    chat: Chat | None = None

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.pairs: dict[int, Pair] | Numbered[Pair] = {}
        self.texts: dict[int, TextPair] | Numbered[TextPair] = {}
        self.unequal: dict[int, UnequalLengths] = {}
        self.unanswered = 0

    @property
    def about(self) -> Sequence[str]:
        return ()

    def add_all(self, rows: Sequence[Row]) -> None:
        """Encode all rows. Raises ValueError if they are of another kind than the model reads."""
        for first in range(0, len(rows), AT_ONCE):
            self.add(rows[first : first + AT_ONCE])

    def add(self, rows: Sequence[Row]) -> None:
        """Encode some of the rows."""
        for row in rows:
            try:
                text, pair = self.encoded(row)
            except UnequalLengths as error:
                self.unequal[row.number] = error
                continue
            except ValueError as error:
                self.problems.add(row.number, str(error))
                continue
            self.pairs[row.number], self.texts[row.number] = pair, text
            self.unanswered += not any(pair.answers)

    @abstractmethod
    def encoded(self, row: Row) -> tuple[TextPair, Pair]:
        """The row in words and as the model reads it. Raises ValueError if it cannot be read, with the reason."""
