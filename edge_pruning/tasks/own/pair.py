"""A pair as its writer gives it. `edge_pruning/pair.py` has the same as token ids, for one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Prompt = str | Sequence[int] | Sequence[dict[str, str]]
Answer = str | int | Sequence[str] | Sequence[int]


@dataclass(frozen=True)
class Pair:
    """A clean and a corrupted prompt that differ in one fact, with equally many tokens.

    clean, corrupted: texts, token ids, or chats (lists of messages).
    answer: what should come next, with the space in front of it. A list holds several right answers. None: whatever
    the model predicts.
    wrong_answer: what the corrupted prompt suggests; also a list.
    split: train, validation or test. None: the pair is assigned by its clean prompt.
    """

    clean: Prompt
    corrupted: Prompt
    answer: Answer | None = None
    wrong_answer: Answer | None = None
    split: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}
