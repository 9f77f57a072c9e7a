"""Prompt styles: the same questions in several forms, so that the circuits of two forms can be compared.

    few-shot       examples, then the question             "... Italy -> Rome\\nJapan ->"
    instruction    an instruction, and the reply begun     "What is the capital of Japan?\\nThe capital of Japan is"
    zero-shot      the question alone                      "Japan ->"

The examples (shots) are the same in clean and corrupted prompts, so they never tell the two prompts of a pair apart.
With `chat`, an instruction is the user's message, and the reply begins as the assistant's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edge_pruning.tasks.chat import Messages
from edge_pruning.tasks.task import GeneratedTask

Question = tuple[str, str]  # the word, and the answer
FEW_SHOT, INSTRUCTION, ZERO_SHOT = "few-shot", "instruction", "zero-shot"


@dataclass(frozen=True, kw_only=True)
class StyledTask(GeneratedTask):
    """A task that asks its questions in the style `style`.

    examples: the questions that a few-shot prompt shows with their answers.
    line, instruction, reply: the text around a {word}: a few-shot line up to its answer, an instruction, its reply.
    """

    examples: ClassVar[tuple[Question, ...]]
    instruction: ClassVar[str]
    reply: ClassVar[str]
    line: ClassVar[str] = "{word} ->"
    styles: ClassVar[tuple[str, ...]] = (FEW_SHOT, INSTRUCTION, ZERO_SHOT)

    style: str = FEW_SHOT

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.style not in self.styles:
            raise ValueError(f"task {self.name!r}: expected style {' or '.join(self.styles)}, got {self.style!r}")

    @property
    def shown(self) -> tuple[Question, ...]:
        """The questions that a prompt shows with their answers."""
        return self.examples if self.style == FEW_SHOT else ()

    def prompt(self, word: str) -> str:
        """Return the question about a word, up to its answer."""
        if self.style == INSTRUCTION:
            return f"{self.instruction}\n{self.reply}".format(word=word)
        shown = [f"{self.line} {answer}".format(word=example) for example, answer in self.shown]
        return "\n".join([*shown, self.line.format(word=word)])

    def messages(self, prompt: str) -> str | Messages:
        if self.style != INSTRUCTION:
            return prompt
        instruction, _, reply = prompt.rpartition("\n")
        return [{"role": "user", "content": instruction}, {"role": "assistant", "content": reply}]
