"""A task from a file: one pair per line, as JSON.

    {"clean": "The capital of France is", "corrupted": "The capital of Japan is", "answer": " Paris"}

With `chat`, prompts are what a user says, or lists of messages (`[{"role": "user", "content": "..."}]`).

`answer` may be a list of single tokens that all count as right. Optional: `wrong_answer` (a text or a list; without one
there is no logit difference to report) and `split` (train, validation or test; all rows or none). Rows without a split
are divided 60 / 20 / 20 by a hash of their clean prompt: the order of the rows does not matter, and two rows with the
same clean prompt are never on both sides. A file with problems is refused as a whole, with all problems at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_pruning.batch import Pair
from edge_pruning.tasks.chat import Chat, begun, is_messages
from edge_pruning.tasks.encoding import Encoder, TextPair, UnequalLengths
from edge_pruning.tasks.task import SPLITS, PairSet, Split, TextTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HELD_OUT = 0.2  # the share of the validation rows, and that of the test rows
FIELDS = ("clean", "corrupted", "answer", "wrong_answer", "split")
SHOWN = 20  # problems printed; a file with more of them has one cause


@dataclass(frozen=True)
class Row:
    """One line of the file, checked as text."""

    line: int
    text: TextPair
    split: str | None
    key: str  # the clean prompt as it stands in the file, which decides the split


@dataclass(frozen=True)
class JsonlTask(TextTask):
    """Pairs from a JSON Lines file, one object per line."""

    path: str | Path
    skip_unequal: bool = False

    name = "jsonl"
    summary = "your own pairs: a file with one JSON object per line (clean, corrupted, answer)"

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            raise FileNotFoundError(
                f"task file {str(self.path)!r} does not exist; expected a JSON Lines file with pairs"
            )

    def pairs(self, tokenizer: PreTrainedTokenizerBase, split: str, *, max_length: int | None = None) -> PairSet:
        """The whole file is checked, whichever split is asked for: a problem shows before anything is computed."""
        split, problems = self.check_split(split), Problems(f"task {str(self.path)!r}")
        encoder, chat = self.reader(tokenizer, problems.what)
        rows = self._rows(problems, chat)
        encoder.prepare(string for row in rows for string in row.text.strings)
        pairs = _encode(rows, encoder, problems, skip_unequal=self.skip_unequal, max_length=max_length)
        splits = _splits([row for row in rows if row.line in pairs], self.seed, problems)
        problems.raise_all()
        kept = _without_repeats((row for row in rows if splits.get(row.line) == split), encoder.notices)
        if not kept:
            raise ValueError(
                f"{problems.what}: split {split!r} has no pairs; the file has {len(pairs)} usable rows in all"
            )
        texts = tuple(row.text for row in kept)
        return PairSet(
            str(self.path), split, self.metric, tuple(pairs[row.line] for row in kept), texts, tuple(encoder.notices),
            self.objective,
        )

    def _rows(self, problems: Problems, chat: Chat | None) -> list[Row]:
        lines = Path(self.path).read_bytes().split(b"\n")
        numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not numbered:
            problems.add(None, "the file is empty; expected one JSON object per line")
        rows = (_row(number, line, problems, chat) for number, line in numbered)
        return [row for row in rows if row is not None]


class Problems:
    """What is wrong with a file, collected so that all of it is reported at once."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._found: list[tuple[int, str]] = []

    def add(self, line: int | None, message: str) -> None:
        self._found.append((line or 0, f"line {line}: {message}" if line else message))

    def raise_all(self) -> None:
        if not self._found:
            return
        messages = [message for _, message in sorted(self._found)]
        more = [f"and {len(messages) - SHOWN} more"] if len(messages) > SHOWN else []
        count = "1 problem" if len(messages) == 1 else f"{len(messages)} problems"
        raise ValueError("\n  ".join([f"{self.what}: {count}", *messages[:SHOWN], *more]))


# --- one line ------------------------------------------------------------------------------------------------------


def _row(line: int, raw: bytes, problems: Problems, chat: Chat | None) -> Row | None:
    """A line as a checked row; None, with its problems noted, if it cannot be used."""
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # what is no JSON, and what is no UTF-8
        problems.add(line, f"not valid JSON ({error})")
        return None
    if not isinstance(value, dict):
        problems.add(line, f"expected an object with the fields {', '.join(FIELDS[:3])}, got {type(value).__name__}")
        return None
    wrongs = [*_field_problems(value, chat)]
    if not wrongs:
        try:
            text = _text_pair(value, chat)
            wrongs = [*_text_problems(text)]
        except ValueError as error:
            wrongs = [str(error)]
    for message in wrongs:
        problems.add(line, message)
    return None if wrongs else Row(line, text, value.get("split"), _key(value["clean"]))


def _text_pair(value: Mapping[str, Any], chat: Chat | None) -> TextPair:
    """A row's texts; chats are written out. Raises ValueError where the chat template refuses them."""
    clean, corrupted = value["clean"], value["corrupted"]
    answers = _texts(value["answer"]), _texts(value.get("wrong_answer"))
    if chat is None:
        return TextPair(clean, corrupted, *answers)
    if begun(clean) != begun(corrupted):
        raise ValueError("one prompt ends with a message of the assistant, the other does not")
    return chat.pair(clean, corrupted, *answers)


def _key(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


def _texts(value: str | list[str] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_answer(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))


def _field_problems(value: dict[str, Any], chat: Chat | None) -> Iterable[str]:
    prompt: tuple[Callable[[Any], bool], str] = (_is_text, "a text that is not empty")
    if chat:
        prompt = (lambda v: _is_text(v) or is_messages(v)), "a text or a list of messages with role and content"
    elif is_messages(value.get("clean")):
        yield "these prompts are lists of messages, which need --chat (chat=true)"
        return
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "clean": prompt,
        "corrupted": prompt,
        "answer": (_is_answer, "a text or a list of texts, none empty"),
        "wrong_answer": (lambda v: v is None or _is_answer(v), "a text or a list of texts, none empty"),
        "split": (lambda v: v is None or v in SPLITS, f"one of {', '.join(SPLITS)}"),
    }
    missing = [name for name in FIELDS[:3] if name not in value]
    if missing:
        yield f"missing {', '.join(missing)}"
    for name, (fits, expected) in checks.items():
        if name in value and not fits(value[name]):
            yield f"{name}: expected {expected}, got {str(value[name])[:40]!r}"
    unknown = [name for name in value if name not in FIELDS]
    if unknown:
        yield f"unknown field {', '.join(unknown)}; the fields are {', '.join(FIELDS)}"


def _text_problems(text: TextPair) -> Iterable[str]:
    if text.clean == text.corrupted:
        yield "clean and corrupted are the same text"
    both = [answer for answer in text.answer if answer in text.wrong]
    if both:
        yield f"{both[0]!r} is both the answer and the wrong answer"


# --- all lines -----------------------------------------------------------------------------------------------------


def _encode(
    rows: list[Row], encoder: Encoder, problems: Problems, *, skip_unequal: bool, max_length: int | None
) -> dict[int, Pair]:
    """The rows as token ids, by line number; what cannot be encoded is noted."""
    pairs: dict[int, Pair] = {}
    unequal: dict[int, UnequalLengths] = {}
    for row in rows:
        try:
            pair = encoder.pair(row.text)
        except UnequalLengths as error:
            unequal[row.line] = error
            continue
        except ValueError as error:
            problems.add(row.line, str(error))
            continue
        if max_length is not None and len(pair.clean) > max_length:
            problems.add(row.line, f"{len(pair.clean)} tokens, but the model's context ends at {max_length}")
        pairs[row.line] = pair
    if unequal and skip_unequal:
        encoder.notices.append(f"rows: {len(unequal)} of {len(rows)} left out, their prompts differ in length")
    elif unequal:
        problems.add(None, _describe_unequal(unequal, len(rows)))
    return pairs


def _describe_unequal(unequal: dict[int, UnequalLengths], total: int) -> str:
    line, first = next(iter(unequal.items()))
    others = "".join(f", {other}" for other in list(unequal)[1:SHOWN]) + (", ..." if len(unequal) > SHOWN else "")
    also = f"; also lines {others[2:]}" if others else ""
    return (
        f"{len(unequal)} of {total} pairs differ in length (first: line {line}, {first.clean} and {first.corrupted} "
        f"tokens{also}). Drop them with skip_unequal=True."
    )


def _splits(rows: list[Row], seed: int, problems: Problems) -> dict[int, Split]:
    """The split of every row, by line number: as the file says, or by the hash of the clean prompt."""
    given = {row.line: split for row in rows for split in SPLITS if row.split == split}
    if not given:
        return _hashed_splits(rows, seed)
    for row in rows:
        if row.line not in given:
            problems.add(row.line, "has no split, but other rows do; give every row one, or none")
    seen: dict[str, Row] = {}
    for row in rows:
        first = seen.setdefault(row.key, row)
        if first.split != row.split:
            problems.add(
                row.line, f"the clean prompt of line {first.line} ({first.split}) is here in split {row.split}"
            )
    return given


def _hashed_splits(rows: list[Row], seed: int) -> dict[int, Split]:
    """Clean prompts in the order of their hashes, cut at the shares; three or more prompts leave no split empty."""
    unique = {row.key for row in rows}
    prompts = sorted(unique, key=lambda text: hashlib.sha256(f"{seed} {text}".encode()).digest())
    held_out = max(1, round(HELD_OUT * len(prompts)))
    order: list[Split] = [*repeat(SPLITS[2], held_out), *repeat(SPLITS[1], held_out)]
    order = order[: max(0, len(prompts) - 1)]  # a circuit cannot be found without training rows
    order += repeat(SPLITS[0], len(prompts) - len(order))
    by_prompt = dict(zip(prompts, order, strict=True))
    return {row.line: by_prompt[row.key] for row in rows}


def _without_repeats(rows: Iterable[Row], notices: list[str]) -> list[Row]:
    """The first of every group of equal rows."""
    kept: dict[TextPair, Row] = {}
    repeats = 0
    for row in rows:
        repeats += row.text in kept
        kept.setdefault(row.text, row)
    if repeats:
        notices.append(f"rows: {repeats} left out, they repeat another row of this split")
    return list(kept.values())
