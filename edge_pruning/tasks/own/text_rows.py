"""Rows whose prompts and answers are text or token ids, as a language model reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from edge_pruning import ranks
from edge_pruning.answer_tree import Ids
from edge_pruning.pair import Pair
from edge_pruning.tasks.chat import Chat
from edge_pruning.tasks.encoding import Encoder, TextPair, UnequalLengths, pair_of_ids, whole_answers
from edge_pruning.tasks.own.border import settle, special_tokens
from edge_pruning.tasks.own.encoded import Encoded, blocks
from edge_pruning.tasks.own.image_files import is_image_name
from edge_pruning.tasks.own.part import Part, of_plain, plain
from edge_pruning.tasks.own.problems import Notices, Problems
from edge_pruning.tasks.own.rows import Row
from edge_pruning.tasks.packed import Numbered, PackedPairs, PackedTexts

DIGITS = 12  # of a digest, in a message
SHOWN = 3  # answers that are token ids, in a message


class EncodedTexts(Encoded):
    """Every rank tokenises a share of the rows.

    space: answers that begin without a space get one.
    first_token: answers are judged by the first token in which they differ.
    max_length: at most so many tokens, if the model's context ends there.
    """

    def __init__(
        self,
        encoder: Encoder,
        chat: Chat | None,
        problems: Problems,
        notices: Notices,
        *,
        space: bool,
        first_token: bool,
        max_length: int | None,
    ) -> None:
        super().__init__(problems, notices)
        self.pairs, self.texts = Numbered(PackedPairs()), Numbered(PackedTexts())
        self.encoder, self.chat, self.max_length = encoder, chat, max_length
        self.space, self.first_token = space, first_token
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
        if self.chat and special_tokens(self.encoder, row.key):
            raise ValueError("the prompt is already a rendered chat; leave out --chat")
        text = settle(text, self.encoder, row.number, notices, space=self.space, chat=self.chat is not None)
        unknown = self.encoder.unknown_words(text.clean, text.corrupted)
        if unknown:
            words = "prompts: {n} rows contain words outside this tokenizer's vocabulary"
            notices.add(words, row.number, lambda: ", ".join(map(repr, unknown)))
        if self.first_token:
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
