"""Gendered pronoun: "One day, Lily went to the park." -> " She", not " He".

The corrupted prompt is the same sentence with a name of the other gender. A name need not be a single token: the two
names of a pair have the same number. Metric: logit of the right pronoun minus logit of the other one. Names and
templates are held out between the splits. Written like a children's story, so that small story models solve it too.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.names import STORY_BOYS, STORY_GIRLS
from edge_pruning.tasks.task import GeneratedTask, Split, task

TEMPLATES: dict[Split, tuple[str, ...]] = {
    "train": (
        "One day, {name} went to the {place}.",
        "Once, {name} had a new {toy}.",
        "One day, a child named {name} was playing with a {toy}.",
        "One {daytime}, {name} was very {feeling}.",
        "At night, {name} looked at the {sky}.",
        "One day, {name} found a {toy} in the {place}.",
        "{name} was very {feeling}.",
        "{name} had a small {animal}.",
        "Then, {name} saw a {toy}.",
        "{name} was a kind child.",
        "Once upon a time, {name} lived near the {place}.",
        "That day, {name} felt {feeling}.",
        "One day, {name} heard a loud noise.",
        "{name} liked to play in the {place}.",
        "Later, {name} ran home.",
        "On a sunny day, {name} went for a walk.",
        "Soon, {name} was {feeling} again.",
        "In the {daytime}, {name} was {feeling}.",
        "One day, {name} lost a {toy} at the {place}.",
        "{name} wanted to see the {animal}.",
        "One cold day, {name} stayed at home.",
        "{name} ran to the {place}.",
        "{name} loved the {toy}.",
        "One day, {name} made a cake.",
    ),
    "validation": (
        "The next day, {name} went to the {place}.",
        "One day, {name} wanted to {wish}.",
        "One {daytime}, {name} woke up and saw a {toy}.",
        "On a rainy day, {name} sat by the {place}.",
        "After lunch, {name} went to the {place}.",
        "In the end, {name} was {feeling}.",
    ),
    "test": (
        "On {weekday}, {name} was at the {place}.",
        "One day, {name} felt very {feeling}.",
        "One morning, {name} ran to the {place}.",
        "One sunny day, {name} was walking in the {place}.",
        "One day, {name} climbed a tall {tall}.",
        "{name} looked at the {toy} and smiled.",
        "After a nap, {name} was {feeling}.",
        "One {daytime}, {name} played with a {toy}.",
        "Once upon a time, {name} found a {toy}.",
        "Today, {name} was {feeling}.",
    ),
}
SLOTS = {
    "place": tuple("park garden beach farm lake forest school store river zoo".split()),
    "toy": tuple("ball doll kite car boat bear train truck book drum".split()),
    "daytime": ("morning", "evening", "night", "day"),
    "feeling": ("happy", "sad", "tired", "hungry", "scared", "bored", "excited", "thirsty"),
    "tall": ("tree", "hill", "tower", "ladder", "wall"),
    "animal": tuple("dog cat bird frog bunny duck fish bear".split()),
    "wish": ("play outside", "sing a song", "ride a bike", "swim", "dance", "bake a cake", "go home"),
    "weekday": tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()),
    "sky": ("stars", "moon", "sky", "clouds", "lights"),
}
PRONOUNS = (" She", " He")


@task
@dataclass(frozen=True, kw_only=True)
class GenderedPronoun(GeneratedTask):
    """Whether the next sentence begins with "She" or "He"."""

    name = "gendered-pronoun"
    summary = "gendered pronoun: 'One day, Lily went to the park.' -> ' She'"

    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        for pronoun in PRONOUNS:
            if not encoder.is_single(pronoun, after="One day."):
                raise ValueError(
                    f"{encoder.what} needs a tokenizer in which {pronoun!r} is a single token after a sentence"
                )
        partners = _partners(encoder, split)
        girls, boys = [n for n in partners if n in STORY_GIRLS[split]], [n for n in partners if n in STORY_BOYS[split]]
        for template in itertools.cycle(TEMPLATES[split]):
            for names, (right, wrong) in ((girls, PRONOUNS), (boys, PRONOUNS[::-1])):
                name = rng.choice(names)
                yield _pair(template, name, rng.choice(partners[name]), right, wrong, rng)


def _partners(encoder: Encoder, split: Split) -> dict[str, list[str]]:
    """Return every name that has a partner, with the names of the other gender and the same number of tokens."""
    girls, boys = STORY_GIRLS[split], STORY_BOYS[split]
    # A name at the start of a text has no space and may be split differently there: both counts have to agree.
    tokens = {name: tuple(len(encoder.encode(text + name)) for text in ("", "One day, ")) for name in girls + boys}
    known = [name for name in tokens if encoder.knows(f"One day, {name}")]
    partners = {
        name: [other for other in known if (other in girls) != (name in girls) and tokens[other] == tokens[name]]
        for name in known
    }
    kept = {name: others for name, others in partners.items() if others}
    verdict = "have a partner of the other gender with equally many tokens in this tokenizer"
    encoder.report("names", list(kept), girls + boys, verdict, least=4)
    return kept


def _pair(template: str, name: str, other: str, right: str, wrong: str, rng: random.Random) -> TextPair:
    words = {slot: rng.choice(choices) for slot, choices in SLOTS.items()}
    return TextPair(
        clean=template.format(name=name, **words),
        corrupted=template.format(name=other, **words),
        answer=(right,),
        wrong=(wrong,),
        template=template.replace("{", "[").replace("}", "]"),
    )
