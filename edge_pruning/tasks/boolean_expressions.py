"""Boolean expressions: "( True and False ) or True is" -> " True", after examples or by instruction.

The case study of Bhaskar and others (2024, section 6). An expression has one to six literals, drawn uniformly. Random
reductions with `and`, `or` and `not` join them until one expression is left; compound operands are in parentheses.
Expressions nest at most three deep, and no `not` stands directly in another one.

The corrupted prompt has an expression of the other value with as many tokens, from the same split. (How the authors
paired their prompts is not published.) A hash of an expression's text determines its split: half to train, a tenth to
validation, four tenths to test. Those of the examples belong to none.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from edge_pruning.tasks.chat import Messages
from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.styles import INSTRUCTION, StyledTask
from edge_pruning.tasks.task import Split, task

MOST_LITERALS, DEEPEST = 6, 3


@dataclass(frozen=True)
class Expression:
    """An expression, its value, and its depth (0: a literal)."""

    text: str
    value: bool
    depth: int = 0

    @property
    def operand(self) -> str:
        """The text of the expression as an operand."""
        return f"( {self.text} )" if self.depth else self.text


@task
@dataclass(frozen=True, kw_only=True)
class BooleanExpressions(StyledTask):
    """Whether a Boolean expression is true."""

    name = "boolean-expressions"
    summary = "Boolean expressions: '( True and False ) or True is' after examples, or by instruction -> ' True'"
    line = "{word} is"
    instruction = "Evaluate the following boolean expression as either 'True' or 'False'.\n{word}"
    reply = "'"
    examples = (
        ("(True and False) or (False and True)", "False"),
        ("(True or (not True)) and False", "False"),
        ("(not (True and False)) or (False and True)", "True"),
    )

    def messages(self, prompt: str) -> str | Messages:
        """Format a prompt as the authors do: the instruction as system message, the expression as user message, and an
        opening quotation mark.
        """
        if self.style != INSTRUCTION:
            return prompt
        roles = ("system", "user", "assistant")
        return [{"role": role, "content": text} for role, text in zip(roles, prompt.split("\n"), strict=True)]

    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        space = "" if self.style == INSTRUCTION else " "
        pattern = self.prompt("[expression]").splitlines()[-1]
        known: dict[tuple[int, bool], list[str]] = defaultdict(list)  # by the number of tokens and the value
        while True:
            expression = random_expression(rng)
            if split_of(expression.text) != split:
                continue
            prompt, value = self.prompt(expression.text), expression.value
            length = len(encoder.encode(prompt))
            known[length, value].append(prompt)
            if partners := known[length, not value]:
                answers = (f"{space}{value}",), (f"{space}{not value}",)
                yield TextPair(prompt, rng.choice(partners), *answers, pattern)


def random_expression(rng: random.Random) -> Expression:
    """Draw an expression of one to six literals."""
    while True:
        parts = [Expression(str(value), value) for value in rng.choices((True, False), k=rng.randint(1, MOST_LITERALS))]
        while len(parts) > 1 or rng.random() < 1 / 3:
            _reduce(parts, rng)
        if parts[0].depth <= DEEPEST and "not ( not" not in parts[0].text:
            return parts[0]


def _reduce(parts: list[Expression], rng: random.Random) -> None:
    """Put `not` before one of the parts, or `and` or `or` between two neighbours, in place."""
    operator = rng.choice(("and", "or", "not")) if len(parts) > 1 else "not"
    if operator == "not":
        i = rng.randrange(len(parts))
        parts[i] = Expression(f"not {parts[i].operand}", not parts[i].value, parts[i].depth + 1)
        return
    i = rng.randrange(len(parts) - 1)
    a, b = parts[i : i + 2]
    value = (a.value and b.value) if operator == "and" else (a.value or b.value)
    parts[i : i + 2] = [Expression(f"{a.operand} {operator} {b.operand}", value, 1 + max(a.depth, b.depth))]


def split_of(text: str) -> Split | None:
    """The split that an expression belongs to; None for those of the examples."""
    alone = "".join(text.split())
    if alone in {"".join(shot.split()) for shot, _ in BooleanExpressions.examples}:
        return None
    tenth = hashlib.sha256(alone.encode()).digest()[0] * 10 // 256
    return "train" if tenth < 5 else "validation" if tenth < 6 else "test"
