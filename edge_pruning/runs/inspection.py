"""Show pairs as a model reads them, before a search: every row as tokens, with the model's predictions.

Images are shown as small pictures. Without a model, only the tokens are shown, those of the bundled model's tokenizer.
Cost with a model: one unmasked run on every pair. The pairs are read as in `discover`, but nothing is refused: problems
are shown with their row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.loading.loading import describe_model, load_model
from edge_pruning.loading.model import Model
from edge_pruning.loading.model_source import NAMED
from edge_pruning.masked_pass.devices import indices_on
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.models.image_reader import ImageReader
from edge_pruning.pair import Pair
from edge_pruning.tasks import SPLITS, Encoder, PairSet, Task, TextPair, get_task
from edge_pruning.tasks.image_text import ImageText
from edge_pruning.tasks.own import OwnPairs
from edge_pruning.tasks.own.border import tokens_of
from edge_pruning.tasks.own.own_pairs import Reading
from edge_pruning.tasks.own.rows import Row
from edge_pruning.tasks.packed import of_numbers, without

TOP = 3  # number of predictions shown


@dataclass(frozen=True)
class InspectedRow:
    """One row of a task.

    clean, corrupted: the text of each token, or the source of the image.
    differs: the positions where the two prompts differ.
    answer, wrong: texts.
    left_out: the reasons why `discover` does not use the row.
    notices: possible mistakes.
    top: the model's most likely tokens after the prompt, with their probabilities.
    right: whether the model's answer is right.
    totals: the model's total probability of the answers and of the wrong answers, where they form a tree.
    pictures: the images as data URIs.
    """

    number: int
    split: str | None
    clean: tuple[str, ...]
    corrupted: tuple[str, ...]
    answer: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    top: tuple[tuple[str, float], ...] = ()
    right: bool | None = None
    totals: tuple[float, float] | None = None
    pictures: tuple[str, ...] = ()

    @property
    def differs(self) -> tuple[int, ...]:
        shared = min(len(self.clean), len(self.corrupted))
        beyond = range(shared, max(len(self.clean), len(self.corrupted)))
        return (*(i for i in range(shared) if self.clean[i] != self.corrupted[i]), *beyond)


@dataclass(frozen=True)
class Inspection:
    """The pairs of a task.

    rows: some of them, starting with those that are left out.
    total: the number of all rows.
    refused: the reasons why `discover` refuses the source as a whole.
    lengths: the fewest and most tokens of usable prompts.
    accuracy: that of the model on the `judged` rows, which are the usable ones with an answer.
    of_images: whether the pairs are images.
    """

    task: str
    tokenizer: str
    unit: str
    rows: tuple[InspectedRow, ...]
    splits: Mapping[str, int]
    lengths: tuple[int, int]
    notices: tuple[str, ...]
    refused: tuple[str, ...]
    total: int = 0
    judged: int = 0
    accuracy: float | None = None
    of_images: bool = False

    @property
    def usable(self) -> int:
        return sum(self.splits.values())

    def to_json(self) -> dict[str, Any]:
        rows = [{**asdict(row), "differs": list(row.differs)} for row in self.rows]
        return {**asdict(self), "usable": self.usable, "rows": rows}


def inspect(
    task: Any,
    *,
    model: Any = None,
    rows: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    **settings: Any,
) -> Inspection:
    """Read the pairs of a task as a model reads them.

    model: as for `discover`; None shows tokens (or images) only.
    rows: number of rows to show in detail; None for all.
    settings: those of the task.

    Raises ValueError if there is nothing to show.
    """
    task = get_task(task, **settings)
    known = describe_model(_usual_model(task)) if model is None else load_model(model, device=device, dtype=dtype)
    longest = None if model is None else known.adapter.max_length
    reader = "image processor" if known.adapter.reads_images else "tokenizer"
    name = f"the bundled model's {reader}" if model is None else f"the {reader} of {known.name}"
    inspection, pairs = _read(task, known, longest, name, rows)
    return inspection if model is None else _judged(inspection, pairs, known, task.metric)


def _usual_model(task: Task) -> str:
    """Return the bundled model that reads this task."""
    model = task.defaults.get("model")
    return model if model in NAMED else "bundled"


def _read(
    task: Task, model: Model, longest: int | None, name: str, most: int | None
) -> tuple[Inspection, Mapping[int, Pair]]:
    if isinstance(task, OwnPairs):
        reading = task.reading(model.tokenizer, max_length=longest)
        bad = reading.problems.numbers
        pairs = without(reading.pairs, bad)
        return _of_reading(task, reading, pairs, model.tokenizer, name, most), pairs
    sets = [task.pairs(model.tokenizer, split, max_length=longest) for split in SPLITS]
    pairs = dict(enumerate((pair for of in sets for pair in of.pairs), 1))
    return _of_sets(sets, pairs, model.tokenizer, name, most), pairs


def _of_sets(
    sets: Sequence[PairSet], pairs: Mapping[int, Pair], tokenizer: Any, name: str, most: int | None
) -> Inspection:
    """Inspect pairs of a built-in task, which has no faulty rows."""
    each = [(of.split, pair, text) for of in sets for pair, text in zip(of.pairs, of.texts, strict=True)]
    rows = [
        InspectedRow(number, split, *_prompts(tokenizer, pair, text), text.answer, text.wrong, pictures=_pictures(text))
        for number, (split, pair, text) in enumerate(each[:most], 1)
    ]
    notices = tuple(dict.fromkeys(notice for of in sets for notice in of.notices))
    splits = {of.split: len(of.pairs) for of in sets}
    return Inspection(
        sets[0].task, name, "pair", tuple(rows), splits, _lengths(pairs), notices, (), len(pairs),
        of_images=isinstance(tokenizer, ImageReader),
    )


def _prompts(tokenizer: Any, pair: Pair, text: TextPair) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return both prompts as the texts of their tokens, or the sources of both images."""
    if isinstance(text, ImageText):
        return (text.clean,), (text.corrupted,)
    end = pair.positions[0] + 1  # without the teacher-forced part of the answer
    return tuple(tokens_of(tokenizer, pair.clean[:end])), tuple(tokens_of(tokenizer, pair.corrupted[:end]))


def _pictures(text: TextPair) -> tuple[str, ...]:
    return text.pictures if isinstance(text, ImageText) else ()


def _of_reading(
    task: OwnPairs, reading: Reading, usable: Mapping[int, Pair], tokenizer: Any, name: str, most: int | None
) -> Inspection:
    unit, of_images = reading.problems.unit, isinstance(tokenizer, ImageReader)
    encoder = None if of_images else Encoder(tokenizer, bos=False if task.chat else task.bos)
    by_number = {row.number: row for row in reading.rows}
    numbers = sorted({*by_number, *reading.problems.numbers})
    shown = sorted(sorted(numbers, key=lambda number: number in usable)[:most])
    rows = tuple(_row(number, by_number.get(number), reading, encoder) for number in shown)
    refused = reading.problems.sentences
    splits: dict[str, int] = {split: sum(reading.splits.get(number) == split for number in usable) for split in SPLITS}
    refused += [f"split {split!r} has no pairs" for split, n in splits.items() if not n and usable]
    return Inspection(
        task.name_of_source, name, unit, rows, splits, _lengths(usable), tuple(reading.sentences), tuple(refused),
        len(numbers), of_images=of_images,
    )


def _row(number: int, row: Row | None, reading: Reading, encoder: Encoder | None) -> InspectedRow:
    """Return a row as tokens or images, as far as it could be read. encoder: None for images."""
    problems = tuple(reading.problems.of(number))
    if row is None:
        return InspectedRow(number, None, (), (), left_out=problems)
    if number in reading.unequal:
        problems = (*problems, f"the prompts differ in length: {reading.unequal[number]}")
    pair, text = reading.pairs.get(number), reading.texts.get(number)
    split, notices = reading.splits.get(number), tuple(reading.notices.of(number))
    if pair is None or text is None:
        prompts = (_alone(row.clean, encoder), _alone(row.corrupted, encoder))
        answer, wrong = (tuple(map(str, answers)) for answers in (row.answer, row.wrong))
        return InspectedRow(number, split, *prompts, answer, wrong, problems, notices)
    prompts = _prompts(encoder and encoder.tokenizer, pair, text)
    return InspectedRow(
        number, split, *prompts, text.answer, text.wrong, problems, notices, pictures=_pictures(text)
    )


def _alone(prompt: str | Sequence[int], encoder: Encoder | None) -> tuple[str, ...]:
    """Return one prompt of a row that could not be read as a pair."""
    if encoder is None:
        return (str(prompt),)
    return tuple(tokens_of(encoder.tokenizer, encoder.encode(prompt) if isinstance(prompt, str) else prompt))


def _lengths(pairs: Mapping[int, Pair]) -> tuple[int, int]:
    lengths = [pair.positions[0] + 1 for pair in pairs.values()] or [0]
    return min(lengths), max(lengths)


# --- the model's predictions ------------------------------------------------------------------------------------------


def _judged(inspection: Inspection, pairs: Mapping[int, Pair], model: Model, metric: str) -> Inspection:
    """Add the model's predictions after each prompt, and its accuracy."""
    if not pairs:
        return inspection
    made = dict(zip(pairs, predictions(model.engine(), of_numbers(pairs, pairs), metric), strict=True))
    answered = {number for number, pair in pairs.items() if any(pair.answers)}
    rows = tuple(
        replace(
            row, totals=made[row.number].totals, right=made[row.number].right if row.number in answered else None,
            top=tuple((str(model.tokenizer.decode([token])), p) for token, p in made[row.number].top),
        ) if row.number in made else row
        for row in inspection.rows
    )  # fmt: skip
    right = [made[number].right for number in pairs if number in answered]
    return replace(inspection, rows=rows, judged=len(right), accuracy=sum(right) / len(right) if right else None)


@dataclass(frozen=True)
class Prediction:
    """The most likely tokens after a prompt with their probabilities, and whether the prediction is right.

    totals: the total probability of the answers and of the wrong answers, where they form a tree.
    """

    top: tuple[tuple[int, float], ...]
    right: bool
    totals: tuple[float, float] | None


@torch.no_grad()
def predictions(engine: MaskedPass, pairs: Sequence[Pair], metric: str) -> list[Prediction]:
    """Run the model on every pair. Synchronises once per micro-batch."""
    made: dict[int, Prediction] = {}

    def run(ids: list[int]) -> Tensor:
        some = [pairs[i] for i in ids]
        batch = engine.batch(some)
        logits = engine.own_logits(batch).float()
        starts = [*accumulate((len(pair.positions) for pair in some[:-1]), initial=0)]  # first rows in the logits
        first = logits[indices_on(starts, logits.device)]
        top = first.softmax(-1).topk(min(TOP, logits.shape[-1]))
        right = metrics.accuracy(logits, batch, metric)
        columns = [*metrics.total_probabilities(logits, batch), right.float()] if batch.tree else [right.float()]
        return torch.cat([top.values, top.indices.float(), torch.stack(columns, 1)], 1).cpu()  # one copy

    for ids, columns in over_tiles(engine, pairs, run):
        for i, (*row, right) in zip(ids, columns.tolist(), strict=True):
            *row, totals = (*row[:-2], tuple(row[-2:])) if pairs[i].prefixes else (*row, None)
            n = len(row) // 2
            made[i] = Prediction(tuple(zip(map(int, row[n:]), row[:n], strict=True)), bool(right), totals)
    return [made[i] for i in range(len(pairs))]
