"""Induction: "A list: dog, tree, box, king. Again: dog, tree, box," -> " king": a list of words begins again.

The answer is what followed the last word the first time (Olsson and others 2022). The corrupted prompt has the words of
the first list in another order, so that another word follows: the wrong answer. Words are held out between the splits,
and single tokens, so that every order has as many tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.plurals import Plurals
from edge_pruning.tasks.task import GeneratedTask, Split, task

LENGTH = 6  # words in a list
REPEATED = range(3, LENGTH)  # number of repeated words


@task
@dataclass(frozen=True, kw_only=True)
class Induction(GeneratedTask):
    """Which word comes next in a repeated list."""

    name = "induction"
    summary = "induction: 'A list: dog, tree, box, king. Again: dog, tree, box,' -> ' king'"

    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        nouns = [singular for singular, _ in Plurals.words[split]]
        known = encoder.keep_single(nouns, "words", least=2 * LENGTH)
        while True:
            words, again = rng.sample(known, LENGTH), rng.choice(REPEATED)
            yield _pair(words, _reordered(words, again, rng), again)


def _reordered(words: list[str], again: int, rng: random.Random) -> list[str]:
    """Reorder the words so that another word follows the last repeated one."""
    while True:
        order = rng.sample(words, len(words))
        place = order.index(words[again - 1])
        if place + 1 < len(order) and order[place + 1] != words[again]:
            return order


def _pair(words: list[str], reordered: list[str], again: int) -> TextPair:
    begun = "".join(f" {word}," for word in words[:again])
    wrong = reordered[reordered.index(words[again - 1]) + 1]
    return TextPair(
        clean=f"A list: {', '.join(words)}. Again:{begun}",
        corrupted=f"A list: {', '.join(reordered)}. Again:{begun}",
        answer=(f" {words[again]}",),
        wrong=(f" {wrong}",),
        template=f"{LENGTH} words, {again} again",
    )
