"""A pair as written by the user. `edge_pruning/pair.py` has its form as token ids, for one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Prompt = str | Sequence[int] | Sequence[dict[str, str]]
Answer = str | int | Sequence[str] | Sequence[int]


@dataclass(frozen=True)
class Pair:
    """A clean and a corrupted prompt that differ in one fact, with the same number of tokens.

    clean, corrupted: strings, token ids, or chats (lists of messages).
    answer: the continuation, with its leading space. A list means several right answers. None: the model's own
        prediction.
    wrong_answer: the continuation that the corrupted prompt suggests; also a list.
    split: train, validation or test. None: assigned by the clean prompt.
    """

    clean: Prompt
    corrupted: Prompt
    answer: Answer | None = None
    wrong_answer: Answer | None = None
    split: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}
