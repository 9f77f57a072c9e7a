"""Indirect object identification: "Then Mary and John drove to the store. John gave a drink to" -> " Mary".

Two names, one of which is repeated; the answer is the other one (Wang and others 2022). The corrupted prompt has three
other names in the same places, as in Edge Pruning, so that it does not contain the answer. Metric: logit of the
indirect object minus logit of the repeated subject. Every template is used in both orders: the subject second (ABBA)
and first (BABA). Names are held out between the splits.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.names import all_names
from edge_pruning.tasks.task import GeneratedTask, Split, task

TEMPLATES = (
    "Then {first} and {second} drove to the {place}. {subject} gave a {object} to",
    "Yesterday, {first} and {second} met at the {place}. {subject} handed a {object} to",
    "After lunch, {first} and {second} walked to the {place}. {subject} brought a {object} for",
    "While {first} and {second} were waiting at the {place}, {subject} passed a {object} to",
    "When {first} and {second} arrived at the {place}, {subject} showed a {object} to",
    "In the morning, {first} and {second} worked at the {place}, and {subject} sold a {object} to",
    "Later, {first} and {second} sat near the {place}. {subject} threw a {object} to",
    "Because {first} and {second} were friends, {subject} bought a {object} for",
    "On the way to the {place}, {first} and {second} talked, and {subject} offered a {object} to",
    "Friends {first} and {second} found a {object} at the {place}. {subject} gave it to",
    "Before {first} and {second} left the {place}, {subject} gave back a {object} to",
    "Last week, {first} and {second} had a long talk at the {place}. Then {subject} sent a {object} to",
    "At the {place}, {first} and {second} were looking for a {object}. {subject} took it and gave it to",
    "The day after {first} and {second} visited the {place}, {subject} mailed a {object} to",
    "As {first} and {second} were cleaning the {place}, {subject} found a {object} and returned it to",
    "Once {first} and {second} were inside the {place}, {subject} lent a {object} to",
)
PLACES = tuple(
    "store park school office garden beach station library museum market restaurant farm river house".split()
)
OBJECTS = tuple("drink book ring ball letter hat key cake coin map bottle basket gift toy cup pen bag box".split())


@task
@dataclass(frozen=True, kw_only=True)
class IOI(GeneratedTask):
    """Which of two people receives something, if the giver is named twice."""

    name = "ioi"
    summary = "indirect object identification: 'Then Mary and John drove to the store. John gave a drink to' -> ' Mary'"

    templates: int = len(TEMPLATES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.templates <= len(TEMPLATES):
            raise ValueError(f"task {self.name!r}: expected 1 to {len(TEMPLATES)} templates, got {self.templates}")

    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        names = encoder.keep_single(all_names(split), "names", least=10)
        for template in itertools.cycle(TEMPLATES[: self.templates]):
            for subject_first in (False, True):
                yield _pair(template, rng.sample(names, 5), subject_first, rng)


@task
@dataclass(frozen=True, kw_only=True)
class IOIOneTemplate(IOI):
    """IOI with a single template, for which a circuit is easier to find and to read."""

    name = "ioi-t1"
    summary = "indirect object identification in a single template"

    templates: int = 1


def _pair(template: str, names: list[str], subject_first: bool, rng: random.Random) -> TextPair:
    """Make a pair. `names`: the indirect object, the subject, and three unrelated people for the corrupted prompt."""
    indirect, subject, *others = names
    first, second = (subject, indirect) if subject_first else (indirect, subject)
    words = {"place": rng.choice(PLACES), "object": rng.choice(OBJECTS)}
    order = {"first": "[B]", "second": "[A]"} if subject_first else {"first": "[A]", "second": "[B]"}
    return TextPair(
        clean=template.format(first=first, second=second, subject=subject, **words),
        corrupted=template.format(first=others[0], second=others[1], subject=others[2], **words),
        answer=(" " + indirect,),
        wrong=(" " + subject,),
        template=template.format(**order, subject="[B]", place="[place]", object="[object]"),
    )
