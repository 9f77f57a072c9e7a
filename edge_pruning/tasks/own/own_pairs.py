"""A task whose pairs somebody brings: a file, a dataset, a table in memory or a list (see `records.py`).

    {"clean": "The capital of France is", "corrupted": "The capital of Japan is", "answer": " Paris"}

For a vision model `clean` and `corrupted` are paths or addresses of images, and answers are classes.

`answer` may be a list of answers that all count as right; without it the model's own prediction is the target.
Optional: `wrong_answer` (without one there is no logit difference to report) and `split` (all rows or none). A source
with problems is refused as a whole, with all problems at once; `edge-pruning inspect` shows it row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_pruning.models.image_reader import ImageReader
from edge_pruning.pair import Pair
from edge_pruning.provenance import PAIRS_IN_MEMORY
from edge_pruning.tasks.encoding import TextPair, UnequalLengths
from edge_pruning.tasks.image_text import image_reader
from edge_pruning.tasks.own.columns import columns_of
from edge_pruning.tasks.own.encoded import Encoded
from edge_pruning.tasks.own.image_rows import EncodedImages
from edge_pruning.tasks.own.problems import Notices, Problems
from edge_pruning.tasks.own.records import HUB, read
from edge_pruning.tasks.own.rows import Row, rows_of
from edge_pruning.tasks.own.splits import GROUPS, splits_of, why_empty
from edge_pruning.tasks.own.text_rows import EncodedTexts
from edge_pruning.tasks.packed import of_numbers
from edge_pruning.tasks.task import SPLITS, PairSet, Split, TextTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SWITCHES = ("skip_unequal", "space", "first_token", "chat")
OF_TEXT = (*SWITCHES, "bos")
METRICS = ("logit_difference", "probability_difference")
SHOWN = 3  # rows that differ in length, in a message


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
            encoder, chat = self.reader(tokenizer, problems.what)
            return EncodedTexts(
                encoder, chat, problems, notices, space=self.space, first_token=self.first_token, max_length=max_length
            )
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
