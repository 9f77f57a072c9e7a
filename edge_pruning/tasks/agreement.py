"""Subject-verb agreement: "The keys near the cabinet" -> " are", " were" or " have", not " is", " was" or " has".

The verb agrees with the first noun, whatever the second one is (Linzen and others 2016). The corrupted prompt has the
first noun in the other number and the same second noun, which is singular in half of the pairs. Metric: probability of
the verbs that agree minus that of the others. Nouns are held out between the splits; a noun is left out if its plural
has another number of tokens.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.plurals import Plurals
from edge_pruning.tasks.task import GeneratedTask, Split, task

TEMPLATES = (
    "The {subject} near the {other}",
    "The {subject} behind the {other}",
    "The {subject} next to the {other}",
    "The {subject} in front of the {other}",
    "The {subject} that I saw with the {other}",
    "The {subject} from the story about the {other}",
    "We all know that the {subject} beside the {other}",
    "In the morning, the {subject} by the {other}",
)
VERBS = ((" is", " was", " has"), (" are", " were", " have"))  # singular, plural


@task
@dataclass(frozen=True, kw_only=True)
class Agreement(GeneratedTask):
    """Whether the verb is singular or plural."""

    name = "agreement"
    summary = "subject-verb agreement: 'The keys near the cabinet' -> ' are', not ' is'"
    metric = "probability_difference"

    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        self._check_verbs(encoder)
        words = Plurals.words[split]
        nouns = [noun for noun in words if len({len(encoder.encode(f"The {form}")) for form in noun}) == 1]
        verdict = "have as many tokens in the plural as in the singular"
        encoder.report("nouns", nouns, words, verdict, least=4)
        for template in itertools.cycle(TEMPLATES):
            for number, other_number in itertools.product((0, 1), repeat=2):
                subject, other = rng.sample(nouns, 2)
                yield _pair(template, subject, number, other[other_number])

    def _check_verbs(self, encoder: Encoder) -> None:
        split = [verb for verbs in VERBS for verb in verbs if not encoder.is_single(verb, after="The dog")]
        if split:
            raise ValueError(
                f"{encoder.what} needs a tokenizer in which each verb is a single token; {', '.join(map(repr, split))} "
                "are not; choose another task or model"
            )


def _pair(template: str, subject: tuple[str, str], number: int, other: str) -> TextPair:
    return TextPair(
        clean=template.format(subject=subject[number], other=other),
        corrupted=template.format(subject=subject[1 - number], other=other),
        answer=VERBS[number],
        wrong=VERBS[1 - number],
        template=template.format(subject=("[noun]", "[nouns]")[number], other="[other]"),
    )
