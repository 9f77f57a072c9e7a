"""Convert the fields of a record to a row with checked types; problems are noted.

Prompts are strings, chats or token ids; answers are strings or token ids.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from edge_pruning.answer_tree import Ids
from edge_pruning.pair import Pair as TokenPair
from edge_pruning.tasks.chat import Chat, begun, is_messages
from edge_pruning.tasks.own.columns import FIELDS, OWN, Columns, Fields
from edge_pruning.tasks.own.problems import Problems
from edge_pruning.tasks.task import SPLITS

PROMPTS = ("clean", "corrupted")
ANSWERS = ("answer", "wrong_answer")


@dataclass(frozen=True)
class Row:
    """One checked pair.

    key: the clean prompt as it is in the source, which decides the split.
    answer, wrong: strings, token ids, or tuples of token ids (of several tokens); an empty answer means the model's own
        prediction.
    tokens: the pair, if the source contains token ids.
    """

    number: int
    clean: str | Ids
    corrupted: str | Ids
    answer: tuple[str | int | Ids, ...]
    wrong: tuple[str | int | Ids, ...]
    split: str | None
    key: str
    tokens: TokenPair | None = None

    @property
    def content(self) -> tuple[Any, ...]:
        """The content that two equal rows share."""
        return self.clean, self.corrupted, self.answer, self.wrong, self.tokens


def rows_of(
    records: Iterable[tuple[int, Fields]], columns: Columns, chat: Chat | None, problems: Problems
) -> list[Row]:
    """Return every record as a row, without those that have problems."""
    rows = (_row(number, record, columns, chat, problems) for number, record in records)
    return [row for row in rows if row is not None]


def _row(number: int, record: Fields, columns: Columns, chat: Chat | None, problems: Problems) -> Row | None:
    try:
        fields = columns.read(record)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        problems.add(number, f"its columns do not hold what their names say ({type(error).__name__}: {error})")
        return None
    wrongs = [*_problems(fields, chat)]
    if not wrongs:
        try:
            row = _checked(number, fields, chat)
            wrongs = [*_problems_between(row)]
        except ValueError as error:
            wrongs = [str(error)]
    for message in wrongs:
        problems.add(number, message)
    return None if wrongs else row


def _checked(number: int, record: Fields, chat: Chat | None) -> Row:
    """Check a record. Raises ValueError if the chat template refuses the messages."""
    clean, corrupted, tokens = record["clean"], record["corrupted"], _tokens(record.get(OWN))
    answer, wrong = (_several(record.get(name)) for name in ANSWERS)
    key = clean if isinstance(clean, str) else json.dumps(clean)
    if chat is not None and not _is_ids(clean):
        if begun(clean) != begun(corrupted):
            raise ValueError("one prompt ends with a message of the assistant, the other does not")
        texts = [tuple(a for a in answers if isinstance(a, str)) for answers in (answer, wrong)]
        rendered = chat.pair(clean, corrupted, texts[0], texts[1])
        clean, corrupted = rendered.clean, rendered.corrupted
        answer, wrong = rendered.answer or answer, rendered.wrong or wrong  # token ids are unchanged
    clean, corrupted = (prompt if isinstance(prompt, str) else tuple(prompt) for prompt in (clean, corrupted))
    return Row(number, clean, corrupted, answer, wrong, record.get("split"), key, tokens)


def _tokens(value: Any) -> TokenPair | None:
    """Parse a pair of token ids, also from a JSON object. Raises ValueError for anything else."""
    if value is None or type(value) is TokenPair:
        return value
    names = {field.name for field in fields(TokenPair)}
    if not isinstance(value, Mapping) or value.keys() | {"prefixes"} != names:
        raise ValueError(f"tokens: expected a pair of token ids, got {value!r:.60}")
    clean, corrupted, positions = (tuple(value[name]) for name in ("clean", "corrupted", "positions"))
    answers, wrong, prefixes = (tuple(map(tuple, value.get(name, ()))) for name in ("answers", "wrong", "prefixes"))
    return TokenPair(clean, corrupted, positions, answers, wrong, value["template"], prefixes)


def _several(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        return () if value is None else (value,)
    return tuple(tuple(one) if isinstance(one, list) else one for one in value)


# --- checks -----------------------------------------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and _is_encodable(value)


def _is_encodable(value: str) -> bool:
    """Return False for half of a surrogate pair, which no tokenizer accepts."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_id, value))


def _is_answer(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and (all(map(_is_text, value)) or all(_is_id(one) or _is_ids(one) for one in value))
    return value is None or _is_text(value) or _is_id(value)


def _problems(fields: Mapping[str, Any], chat: Chat | None) -> Iterable[str]:
    prompt: tuple[Callable[[Any], bool], str] = (
        lambda v: _is_text(v) or _is_ids(v), "a non-empty string or a list of token ids",
    )
    if chat:
        prompt = (
            lambda v: _is_text(v) or is_messages(v) or _is_ids(v), "a string or a list of messages (role, content)",
        )
    elif is_messages(fields.get("clean")):
        yield "these prompts are lists of messages, which need --chat (chat=true)"
        return
    answer = _is_answer, "a string or a list of strings, none empty (or token ids, or lists of them)"
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        **dict.fromkeys(PROMPTS, prompt),
        **dict.fromkeys(ANSWERS, answer),
        "split": (lambda v: v is None or v in SPLITS, f"one of {', '.join(SPLITS)}"),
    }
    missing = [name for name in PROMPTS if name not in fields]
    if missing:
        yield f"missing {', '.join(missing)}; expected the fields {', '.join(FIELDS)}, or use --columns clean=..."
    for name, (fits, expected) in checks.items():
        value = fields.get(name)
        if isinstance(value, str) and not _is_encodable(value):
            yield f"{name}: holds half of a surrogate pair, which is no text"
        elif name in fields and not fits(value):
            yield f"{name}: expected {expected}, got {str(value)[:40]!r}"
    if all(name in fields for name in PROMPTS) and _is_ids(fields["clean"]) != _is_ids(fields["corrupted"]):
        yield "one prompt is token ids, the other is not"
    elif _is_ids(fields.get("clean")) and OWN not in fields:
        texts = [name for name in ANSWERS if any(isinstance(a, str) for a in _several(fields.get(name)))]
        if texts:
            yield f"the prompts are token ids, so {', '.join(texts)} must be token ids, too"


def _problems_between(row: Row) -> Iterable[str]:
    if row.clean == row.corrupted:
        yield "clean and corrupted are the same text"
    both = [answer for answer in row.answer if answer in row.wrong]
    if both:
        yield f"{both[0]!r} is both the answer and the wrong answer"
