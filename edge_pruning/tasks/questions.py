"""Questions about one word, with an answer of one word, asked in one of several styles.

    few-shot       examples, then the question             "... Italy -> Rome\\nJapan ->"
    instruction    an instruction, and the reply begun     "What is the capital of Japan?\\nThe capital of Japan is"

The styles ask the same questions of the same splits, so that circuits for two ways of asking can be compared. The
corrupted prompt asks about another word of the same split, in a prompt of as many tokens; its answer is the wrong one.
The examples are fixed and made from words that no split uses, so they never tell the two prompts of a pair apart. With
`chat`, an instruction is what the user says, and the reply is begun in the assistant's name.

An answer of several tokens is judged by the first of them. Words are left out that have no partner with equally many
tokens and another first token of the answer.
To add such a task, add a file with its words and a frozen dataclass that derives from `QuestionTask` under `@task`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from edge_pruning.tasks.chat import Messages
from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.task import GeneratedTask, Split

Question = tuple[str, str]  # a word and its answer
FEW_SHOT, INSTRUCTION = "few-shot", "instruction"


def questions(text: str) -> tuple[Question, ...]:
    """The questions of a text such as "France:Paris Japan:Tokyo"."""
    return tuple((word, answer) for word, _, answer in (item.partition(":") for item in text.split()))


@dataclass(frozen=True, kw_only=True)
class QuestionTask(GeneratedTask):
    """A task that asks about words, in the style `style`.

    examples, words: the questions in a few-shot prompt, and those of each split.
    line, instruction, reply: the text around a {word}: a few-shot line up to its answer, an instruction, its reply.
    """

    examples: ClassVar[tuple[Question, ...]]
    words: ClassVar[Mapping[Split, tuple[Question, ...]]]
    instruction: ClassVar[str]
    reply: ClassVar[str]
    line: ClassVar[str] = "{word} ->"
    styles: ClassVar[tuple[str, ...]] = (FEW_SHOT, INSTRUCTION)
    sizes_are_limits: ClassVar[bool] = True

    style: str = FEW_SHOT

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.style not in self.styles:
            raise ValueError(f"task {self.name!r}: expected style {' or '.join(self.styles)}, got {self.style!r}")

    def prompt(self, word: str) -> str:
        """The question about a word, up to its answer."""
        if self.style == INSTRUCTION:
            return f"{self.instruction}\n{self.reply}".format(word=word)
        shown = [f"{self.line} {answer}".format(word=example) for example, answer in self.examples]
        return "\n".join([*shown, self.line.format(word=word)])

    def messages(self, prompt: str) -> str | Messages:
        if self.style != INSTRUCTION:
            return prompt
        instruction, reply = prompt.split("\n")
        return [{"role": "user", "content": instruction}, {"role": "assistant", "content": reply}]

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
        """Every usable word of a split and the token that answers it, with those that can be its corrupted prompt."""
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
