"""First names, each in one split: a circuit found with some names is validated and tested with others.

The story names are those known to a model of children's stories; the other names are common enough to be single tokens
in most tokenizers. No name is also an ordinary word, and none is common for both genders.
"""

from __future__ import annotations

from collections.abc import Mapping

Names = Mapping[str, tuple[str, ...]]


def _split(train: str, validation: str, test: str) -> Names:
    return {"train": tuple(train.split()), "validation": tuple(validation.split()), "test": tuple(test.split())}


STORY_GIRLS = _split(
    train="Lily Mia Sally Lila Amy Lena Ella Molly Emily Anna Amanda Annie",
    validation="Lisa Sue Mimi Lucy Jane Melissa",
    test="Sara Mary Sarah Nora Bella Emma Julia Olivia",
)
STORY_BOYS = _split(
    train="Tim Max Tommy Leo Mike Roy Jack Jake Carl Billy Benjamin John Richard Raymond",
    validation="Bob Jim Peter Joe Jimmy Robert",
    test="Ken Brian Timothy Fred Todd Nathan Roger Victor",
)
OTHER_WOMEN = _split(
    train="""Alice Laura Maria Hannah Rachel Jessica Karen Susan Helen Claire Katie Michelle Elizabeth Barbara Christine
             Caroline Angela Samantha Vanessa Lauren Martha Zoe""",
    validation="Sophie Jennifer Nancy Diana Nicole Margaret Catherine Monica Clara Betty",
    test="Rebecca Linda Kate Megan Victoria Patricia Charlotte Andrea Allison Eva",
)
OTHER_MEN = _split(
    train="""James David Daniel Paul Henry William Thomas Kevin Edward Anthony Matthew Larry Scott Andrew Joshua Dennis
             Patrick Douglas Ryan Jonathan""",
    validation="Michael Charles Jason Gary Stephen Gregory Walter Justin Adam Louis",
    test="George Joseph Steven Eric Arthur Keith Samuel Philip Simon Oliver",
)


def all_names(split: str) -> tuple[str, ...]:
    """Return all names of a split, of both genders."""
    return tuple(name for names in (STORY_GIRLS, STORY_BOYS, OTHER_WOMEN, OTHER_MEN) for name in names[split])
