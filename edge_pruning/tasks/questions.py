"""Questions about one word, with an answer of one word, asked in one of several styles (see `styles.py`).

All styles use the same questions in the same splits. The corrupted prompt asks about another word of the same split, in
a prompt of as many tokens; its answer is the wrong one. The examples use words outside all splits; other examples can
be given (`shots=France:Paris Spain:Madrid`), also only from such words.

A search that wants more pairs than there are words gets the words again, beside other corrupted prompts.

An answer of several tokens is judged by its first token. Words are left out if they have no partner with the same
number of tokens and another first token of the answer. To add such a task, add a file with its words and a frozen
dataclass that derives from `QuestionTask` under `@task`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.styles import FEW_SHOT, Question, StyledTask
from edge_pruning.tasks.task import SPLITS, Split


def questions(text: str) -> tuple[Question, ...]:
    """Parse questions such as "France:Paris Japan:Tokyo"."""
    return tuple((word, answer) for word, _, answer in (item.partition(":") for item in text.split()))


@dataclass(frozen=True, kw_only=True)
class QuestionTask(StyledTask):
    """A task that asks about words.

    words: the questions of each split.
    shots: the questions that a few-shot prompt shows, as "France:Paris Spain:Madrid"; empty: the task's `examples`.
    """

    words: ClassVar[Mapping[Split, tuple[Question, ...]]]
    sizes_are_limits: ClassVar[bool] = True

    shots: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = list(self._problems_with_shots()) if self.shots else []
        if problems:
            raise ValueError(f"task {self.name!r}: {'; '.join(problems)}")

    @property
    def shown(self) -> tuple[Question, ...]:
        return questions(self.shots) if self.shots else super().shown

    def _problems_with_shots(self) -> Iterator[str]:
        if self.style != FEW_SHOT:
            yield f"shots belong to style {FEW_SHOT}, and this is style {self.style}; leave them out"
        if not all(word and answer for word, answer in self.shown):
            yield f"expected shots as WORD:ANSWER, with spaces between them, got {self.shots!r}"
        used = {text for split in SPLITS for question in self.words[split] for text in question}
        given_away = sorted({text for question in self.shown for text in question} & used)
        if given_away:
            yield f"these shots contain words of the pairs: {', '.join(given_away)}; choose other words"

    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        partners = self._partners(encoder, split)
        order = list(partners)
        pattern = self.prompt("[word]").splitlines()[-1]
        while True:
            rng.shuffle(order)
            for word, answer in order:
                other, wrong = rng.choice(partners[word, answer])
                yield TextPair(self.prompt(word), self.prompt(other), (answer,), (wrong,), pattern)

    def _partners(self, encoder: Encoder, split: Split) -> dict[Question, list[Question]]:
        """Return every usable word of a split and the token of its answer, with the words for its corrupted prompt."""
        prompts = {word: self.prompt(word) for word, _ in self.words[split]}
        whole = {word: f" {answer}" for word, answer in self.words[split]}
        encoder.prepare(text for word, prompt in prompts.items() for text in (prompt, prompt + whole[word]))
        first = {word: encoder.beginning(prompt, whole[word]) for word, prompt in prompts.items()}
        tokens = {word: len(encoder.encode(prompt)) for word, prompt in prompts.items()}
        known = [(word, answer) for word, answer in first.items() if answer]
        partners = {
            (word, answer): [(w, a) for w, a in known if tokens[w] == tokens[word] and a != answer]
            for word, answer in known
        }
        kept = {question: others for question, others in partners.items() if others}
        verdict = "have a partner with equally many tokens in this tokenizer"
        encoder.report("words", [*kept], [*prompts], verdict, least=4)
        cut = sum(answer != whole[word] for word, answer in kept)
        if cut:
            encoder.notices.append(f"answers: {cut} of {len(kept)} are judged by their first token")
        return kept
