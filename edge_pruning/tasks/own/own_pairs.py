"""A task whose pairs somebody brings: a file, a dataset, a table in memory or a list (see `records.py`).

    {"clean": "The capital of France is", "corrupted": "The capital of Japan is", "answer": " Paris"}

For a vision model `clean` and `corrupted` are paths or addresses of images, and answers are classes.

`answer` may be a list of answers that all count as right; without it the model's own prediction is the target.
Optional: `wrong_answer` (without one there is no logit difference to report) and `split` (all rows or none). A source
with problems is refused as a whole, with all problems at once; `edge-pruning inspect` shows it row by row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_pruning import ranks
from edge_pruning.answer_tree import Ids
from edge_pruning.models.image_reader import ImageReader
from edge_pruning.pair import Pair
from edge_pruning.provenance import PAIRS_IN_MEMORY
from edge_pruning.tasks.encoding import TextPair, UnequalLengths, pair_of_ids, whole_answers
from edge_pruning.tasks.image_text import image_reader
from edge_pruning.tasks.own.border import settle, special_tokens
from edge_pruning.tasks.own.columns import columns_of
from edge_pruning.tasks.own.encoded import Encoded, blocks
from edge_pruning.tasks.own.image_files import is_image_name
from edge_pruning.tasks.own.image_rows import EncodedImages
from edge_pruning.tasks.own.part import Part, of_plain, plain
from edge_pruning.tasks.own.problems import Notices, Problems
from edge_pruning.tasks.own.records import HUB, read
from edge_pruning.tasks.own.rows import Row, rows_of
from edge_pruning.tasks.own.splits import GROUPS, splits_of, why_empty
from edge_pruning.tasks.packed import Numbered, PackedPairs, PackedTexts, of_numbers
from edge_pruning.tasks.task import SPLITS, PairSet, Split, TextTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SWITCHES = ("skip_unequal", "space", "first_token", "chat")
OF_TEXT = (*SWITCHES, "bos")
METRICS = ("logit_difference", "probability_difference")
DIGITS = 12  # of a digest, in a message
SHOWN = 3  # numbers of rows that differ in length, in a message


@dataclass(frozen=True)
class Reading:
    """Every row of a source, as far as it could be read. pairs, texts, splits: by the number of their row.

    unequal: the rows whose prompts differ in length. about: sentences about the source as a whole.
    """

    rows: Sequence[Row]
    pairs: Mapping[int, Pair]
    texts: Mapping[int, TextPair]
    splits: Mapping[int, Split]
    unequal: Mapping[int, UnequalLengths]
    problems: Problems
    notices: Notices
    about: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """Everything that should be known about the source."""
        return [*self.about, *self.notices.sentences]


@dataclass(frozen=True)
class OwnPairs(TextTask):
    """Pairs from a source. Raises ValueError for settings that it does not have, FileNotFoundError for a missing file.

    columns: what the source calls the fields, `clean=prompt,answer=label`, or the same as a dictionary.
    skip_unequal: leave out pairs whose prompts differ in length.
    group: rows that stay in one split: those with one `clean` prompt, or each `row` by itself.
    space: answers that begin without a space get one.
    first_token: answers are judged by the first token in which they differ.
    metric: how answers are judged, logit_difference or probability_difference.
    train, validation, test: at most so many pairs of each split.
    """

    source: Any = field(repr=False)
    name_of_source: str = PAIRS_IN_MEMORY
    columns: str | Mapping[str, str] = ""
    skip_unequal: bool = False
    group: str = "clean"
    space: bool = False
    first_token: bool = False
    metric: str = field(default="logit_difference", kw_only=True)  # type: ignore[misc]
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    _last: list[tuple[Any, int | None, Reading]] = field(default_factory=list, init=False, repr=False, compare=False)

    name = "pairs"
    summary = "your own pairs: a file, a table or a list (clean, corrupted, answer)"

    def __post_init__(self) -> None:
        if isinstance(self.source, Iterator):
            object.__setattr__(self, "source", list(self.source))  # it is read once per split
        if isinstance(self.source, str | Path):
            name = str(self.source)
            object.__setattr__(self, "name_of_source", name)
            if not name.startswith(HUB) and not Path(name).exists():
                raise FileNotFoundError(f"task file {name!r} does not exist; expected a file with pairs")
        if isinstance(self.columns, Mapping):
            said = ",".join(f"{name}={column}" for name, column in self.columns.items())
            object.__setattr__(self, "columns", said)
        problems = [] if isinstance(self.columns, str) else [f"columns must be a string, got {self.columns!r}"]
        problems += [
            f"{name} must be true or false, got {getattr(self, name)!r}" for name in SWITCHES
            if not isinstance(getattr(self, name), bool)
        ]
        problems += [f"group must be {' or '.join(GROUPS)}, got {self.group!r}"] if self.group not in GROUPS else []
        if self.metric not in METRICS:
            problems.append(f"metric must be {' or '.join(METRICS)}, got {self.metric!r}")
        sizes = {split: getattr(self, split) for split in SPLITS}
        problems += [
            f"{split} must be a number of pairs, at least 1, got {size!r}" for split, size in sizes.items()
            if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1)
        ]
        if problems:
            raise ValueError(f"task {self.name_of_source!r}: {'; '.join(problems)}")

    def pairs(self, tokenizer: PreTrainedTokenizerBase, split: str, *, max_length: int | None = None) -> PairSet:
        """The whole source is checked, whichever split is asked for: a problem shows before anything is computed."""
        split, reading = self.check_split(split), self.reading(tokenizer, max_length=max_length)
        reading.problems.raise_all()
        usable = [row for row in reading.rows if row.number in reading.pairs]
        kept, notices = _without_repeats([row for row in usable if reading.splits.get(row.number) == split])
        if not kept:
            raise ValueError(f"{reading.problems.what}: {why_empty(split, usable, reading.problems.unit)}")
        kept, limits = _limited(kept, split, getattr(self, split))
        numbers = [row.number for row in kept]
        if reading.unequal:
            left_out = f"{len(reading.unequal)} of {len(reading.rows)} left out because their prompts differ in length"
            notices = [f"rows: {left_out}", *notices]
        return PairSet(
            self.name_of_source, split, self.metric, of_numbers(reading.pairs, numbers),
            of_numbers(reading.texts, numbers), (*notices, *limits, *reading.sentences), self.objective,
        )

    def reading(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int | None = None) -> Reading:
        """Every row as tokens, with everything that is wrong and everything that should be known; the last is kept."""
        if self._last and self._last[0][0] is tokenizer and self._last[0][1] == max_length:
            return self._last[0][2]
        reading = self._read(tokenizer, max_length)
        self._last[:] = [(tokenizer, max_length, reading)]
        return reading

    def _read(self, tokenizer: Any, max_length: int | None) -> Reading:
        problems = Problems(f"task {self.name_of_source!r}")
        records = read(self.source, problems, self.seed)
        columns = columns_of(records, str(self.columns))
        notices = Notices(problems.unit, len(records))
        encoded = self._encoded(tokenizer, problems, notices, max_length)
        rows = rows_of(records, columns, encoded.chat, problems)
        del records  # as large as the rows
        notices.total = len(rows)
        encoded.add_all(rows)
        usable = [row for row in rows if row.number in encoded.pairs]
        splits = splits_of(usable, self.seed, self.group, problems)
        about = (*columns.notices, *encoded.about, *_about_answers(encoded.unanswered, len(usable)))
        if encoded.unequal and not self.skip_unequal:
            problems.add(None, _describe_unequal(encoded.unequal, len(rows), problems.unit))
        return Reading(rows, encoded.pairs, encoded.texts, splits, encoded.unequal, problems, notices, about)

    def _encoded(self, tokenizer: Any, problems: Problems, notices: Notices, max_length: int | None) -> Encoded:
        """What reads rows for this model. Raises ValueError for settings of text where the model reads images."""
        if tokenizer is not None and not isinstance(tokenizer, ImageReader):
            return _EncodedTexts(self, tokenizer, problems, notices, max_length)
        given = [name for name in OF_TEXT if getattr(self, name) not in (None, False)]
        if given:
            words = ", ".join(given)
            raise ValueError(f"{problems.what}: the model reads images, so {words} would have no effect; leave it out")
        return EncodedImages(image_reader(tokenizer, problems.what), self._folder, problems, notices)

    @property
    def _folder(self) -> Path:
        """Where relative paths of images begin: the folder of the source, or the current one."""
        if not isinstance(self.source, str | Path) or str(self.source).startswith(HUB):
            return Path()
        path = Path(self.source)
        return path if path.is_dir() else path.parent


class _EncodedTexts(Encoded):
    """Rows as token ids. Every rank tokenises a share of them."""

    def __init__(
        self, task: OwnPairs, tokenizer: Any, problems: Problems, notices: Notices, max_length: int | None
    ) -> None:
        super().__init__(problems, notices)
        self.pairs, self.texts = Numbered(PackedPairs()), Numbered(PackedTexts())
        self.task, self.max_length = task, max_length
        self.encoder, self.chat = task.reader(tokenizer, problems.what)
        self._lengths: dict[int, int] = {}
        self._trees = False  # whether the answers of any row form one

    @property
    def about(self) -> Sequence[str]:
        return self.encoder.notices

    def add_all(self, rows: Sequence[Row]) -> None:
        if rows and all(is_image_name(row.clean) for row in rows):
            raise ValueError(
                f"{self.problems.what}: its pairs are images, but the model does not read images; use a vision model "
                "(--model), such as a ViT"
            )
        if ranks.count() > 1:
            ranks.refuse_differences({f"the digest of {self.problems.what}": _digest(rows)})
        super().add_all(rows)
        self._judge_alike(rows)
        for number, length in self._lengths.items():
            if self.max_length is not None and number in self.pairs and length > self.max_length:
                self.problems.add(number, f"{length} tokens, but the model's context ends at {self.max_length}")

    def parts(self, rows: Sequence[Row], read: Callable[[Sequence[Row]], Part]) -> Iterator[Part]:
        return ranks.in_shares(blocks(rows), read, plain, of_plain)

    def part(self, rows: Sequence[Row]) -> Part:
        self.encoder.prepare(
            string for row in rows if isinstance(row.clean, str) and isinstance(row.corrupted, str)
            for string in TextPair(row.clean, row.corrupted, _texts(row.answer), _texts(row.wrong)).strings
        )
        part = super().part(rows)
        self.encoder.forget()
        return part

    def add(self, part: Part) -> None:
        super().add(part)
        for number, pair in part.pairs.items():
            self._lengths[number] = pair.length
            self._trees = self._trees or bool(pair.prefixes)

    def _judge_alike(self, rows: Sequence[Row]) -> None:
        """If the answers of any row form a tree, let those of all rows: one metric has one meaning within a source."""
        if not self._trees:
            return
        usable = [row for row in rows if row.number in self.pairs]
        self.pairs = Numbered(PackedPairs())
        for part in self.parts(usable, self._with_whole_answers):
            for number, pair in part.pairs.items():
                self.pairs[number], self._lengths[number] = pair, pair.length
            self.notices.add_all(part.notices)

    def _with_whole_answers(self, rows: Sequence[Row]) -> Part:
        part = Part()
        self.encoder.prepare(text for row in rows for text in self.texts[row.number].strings)
        for row in rows:
            pair = self._pair(row, self.texts[row.number], whole=True)
            part.pairs[row.number] = pair
            if pair.prefixes:
                words = (
                    "answers: {n} rows have answers of several tokens; whole answers are compared, in one run of "
                    "the prompt for each of their different beginnings"
                )
                part.notices.add(words, row.number, partial("{} runs".format, len(pair.branches)))
        self.encoder.forget()
        return part

    def encoded(self, row: Row, notices: Notices) -> tuple[TextPair, Pair]:
        if isinstance(row.clean, str) and isinstance(row.corrupted, str):
            return self._from_text(row, row.clean, row.corrupted, notices)
        pair = _from_ids(row)
        answers = (*pair.answers, *pair.wrong, *pair.prefixes)
        self._check_ids((*pair.clean, *pair.corrupted, *(i for ids in answers for i in ids)))
        clean, corrupted = (self._decoded(ids) for ids in (pair.clean, pair.corrupted))
        answer, wrong = (tuple(map(self._decoded, whole_answers(pair, ids))) for ids in (pair.answers, pair.wrong))
        text = TextPair(clean, corrupted, answer, wrong)
        if self.encoder.start and pair.clean[: len(self.encoder.start)] != self.encoder.start:
            usual = self._decoded(self.encoder.start)
            words = f"prompts: {{n}} rows of token ids do not begin with {usual}"
            notices.add(words, row.number, lambda: clean[:40])
        return text, pair

    def _from_text(self, row: Row, clean: str, corrupted: str, notices: Notices) -> tuple[TextPair, Pair]:
        text = TextPair(clean, corrupted, _texts(row.answer), _texts(row.wrong))
        if self.task.chat and special_tokens(self.encoder, row.key):
            raise ValueError("the prompt is already a rendered chat; leave out --chat")
        task = self.task
        text = settle(text, self.encoder, row.number, notices, space=task.space, chat=task.chat)
        unknown = self.encoder.unknown_words(text.clean, text.corrupted)
        if unknown:
            words = "prompts: {n} rows contain words outside this tokenizer's vocabulary"
            notices.add(words, row.number, lambda: ", ".join(map(repr, unknown)))
        if self.task.first_token:
            text = self._beginnings(text, row.number, notices)
        answer, wrong = _ids(row.answer), _ids(row.wrong)
        self._check_ids([i for ids in (*answer, *wrong) for i in ids])
        pair = self._pair(row, text)
        if answer or wrong:
            text = replace(
                text, answer=text.answer or tuple(map(self._decoded, answer)),
                wrong=text.wrong or tuple(map(self._decoded, wrong)),
            )
            shown = ", ".join(f"{_as_written(ids)} is {self._decoded(ids)!r}" for ids in (answer or wrong)[:SHOWN])
            words = "answers: those of {n} rows are numbers, and were read as token ids"
            notices.add(words, row.number, lambda: shown)
        return text, pair

    def _pair(self, row: Row, text: TextPair, *, whole: bool = False) -> Pair:
        """The pair of a row with this text. Answers that are token ids are taken from the row, not from the text."""
        if not isinstance(row.clean, str):
            return _from_ids(row, whole=whole)
        right, wrong = ({ids: self._decoded(ids) for ids in _ids(answers)} for answers in (row.answer, row.wrong))
        text = replace(text, answer=() if right else text.answer, wrong=() if wrong else text.wrong)
        return self.encoder.pair(text, right, wrong, whole=whole)

    def _beginnings(self, text: TextPair, number: int, notices: Notices) -> TextPair:
        """The first tokens in which the answers differ; what begins right ones is not wrong."""
        shared = self.encoder.shared_beginning(text.clean, text.answer + text.wrong)
        if shared:
            text = TextPair(
                text.clean + shared, text.corrupted + shared, _without(shared, text.answer),
                _without(shared, text.wrong), text.template,
            )
            words = "answers: what all answers of {n} rows begin with was moved to the prompts"
            notices.add(words, number, lambda: repr(shared))
        answer, wrong = (
            tuple(dict.fromkeys(self.encoder.beginning(text.clean, a) or a for a in answers))
            for answers in (text.answer, text.wrong)
        )
        if (answer, wrong) != (text.answer, text.wrong):
            words = "answers: those of {n} rows are judged by their first token"
            notices.add(words, number, lambda: f"{text.answer[:1]} by {answer[:1]}")
        return replace(text, answer=answer, wrong=tuple(w for w in wrong if w not in answer))

    def _check_ids(self, ids: Sequence[int]) -> None:
        beyond = [i for i in ids if i >= len(self.encoder.tokenizer)]
        if beyond:
            raise ValueError(f"token id {beyond[0]} is beyond this tokenizer's {len(self.encoder.tokenizer):,} tokens")

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self.encoder.tokenizer.decode(list(ids)))


def _from_ids(row: Row, *, whole: bool = False) -> Pair:
    if type(row.tokens) is Pair:
        return row.tokens
    clean, corrupted = tuple(map(int, row.clean)), tuple(map(int, row.corrupted))
    if len(clean) != len(corrupted):
        raise UnequalLengths(len(clean), len(corrupted))
    right, wrong = ({ids: str(_as_written(ids)) for ids in _ids(answers)} for answers in (row.answer, row.wrong))
    return pair_of_ids(clean, corrupted, right, wrong, whole=whole)


def _digest(rows: Sequence[Row]) -> str:
    """Some digits that differ between sources with different rows."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr((row.number, row.split, row.key, row.content)).encode())
    return digest.hexdigest()[:DIGITS]


def _without(beginning: str, answers: Sequence[str]) -> tuple[str, ...]:
    return tuple(answer.removeprefix(beginning) for answer in answers)


def _texts(answers: Sequence[str | int | Ids]) -> tuple[str, ...]:
    return tuple(answer for answer in answers if isinstance(answer, str))


def _ids(answers: Sequence[str | int | Ids]) -> tuple[Ids, ...]:
    return tuple((a,) if isinstance(a, int) else a for a in answers if not isinstance(a, str))


def _as_written(ids: Ids) -> int | list[int]:
    return ids[0] if len(ids) == 1 else list(ids)


def _describe_unequal(unequal: Mapping[int, UnequalLengths], total: int, unit: str) -> str:
    number, first = next(iter(unequal.items()))
    others = [str(other) for other in list(unequal)[1 : 1 + SHOWN]] + ["..."] * (len(unequal) > 1 + SHOWN)
    also = f"; also {unit}s {', '.join(others)}" if others else ""
    return (
        f"{len(unequal)} of {total} pairs differ in length (first: {unit} {number}, {first.clean} and "
        f"{first.corrupted} tokens{also}). Drop them with skip_unequal=True."
    )


def _about_answers(without: int, rows: int) -> list[str]:
    """Where the model's own prediction is the target, accuracy means agreement."""
    if not without:
        return []
    which = "no row has an answer" if without == rows else f"{without} of {rows} rows have no answer"
    return [f"answers: {which}, so the model's own prediction is the target, and accuracy means agreement with it"]


def _without_repeats(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The first of every group of equal rows."""
    kept: dict[Any, Row] = {}
    for row in rows:
        kept.setdefault(row.content, row)
    repeats = len(rows) - len(kept)
    return list(kept.values()), [f"rows: {repeats} left out as repeats within this split"] * bool(repeats)


def _limited(rows: list[Row], split: str, most: int | None) -> tuple[list[Row], list[str]]:
    """The first `most` rows."""
    if most is None or len(rows) == most:
        return rows, []
    if len(rows) < most:
        return rows, [f"{split}: {len(rows)} pairs, all there are; {most} were requested"]
    return rows[:most], [f"{split}: the first {most} of {len(rows)} pairs"]
