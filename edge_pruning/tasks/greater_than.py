"""Greater-than: "The war lasted from the year 1732 to the year 17" -> "33", "34", ... "99".

Something ends later than it began (Hanna and others 2023). Right is every two-digit token greater than the start, wrong
every other one. The corrupted prompt starts in the year 01 of the same century, so that every end is possible. Metric:
probability of the later years minus probability of the others. Nouns and start years (the pair of century and year) are
held out between the splits. Needs a tokenizer that splits years as [" 17"]["32"], as GPT-2's does.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.task import GeneratedTask, Split, task

TEMPLATE = "The {noun} lasted from the year {century}{start} to the year {century}"
CENTURIES = tuple(range(11, 18))
FIRST = "01"  # the start year of every corrupted prompt; never one of a clean prompt
NOUNS: dict[Split, tuple[str, ...]] = {
    "train": tuple(
        """war siege drought voyage strike reign famine journey alliance dispute campaign search plague rebellion
        marriage partnership experiment tour occupation crisis debate restoration custom mission contract feud
        exile""".split()
    ),
    "validation": tuple(
        "treaty project conflict friendship study blockade tradition rivalry migration mystery".split()
    ),
    "test": tuple("expedition peace trade construction program truce silence investigation boom ban".split()),
}
RESIDUES: dict[Split, tuple[int, ...]] = {"train": (0, 1), "validation": (2,), "test": (3,)}


def split_of(century: int, year: int) -> Split:
    """The split a start year belongs to: each has every century and every two digits, but not the same combinations."""
    return next(split for split, residues in RESIDUES.items() if (century + year) % 4 in residues)


@task
@dataclass(frozen=True, kw_only=True)
class GreaterThan(GeneratedTask):
    """Which years come after the one in which something began."""

    name = "greater-than"
    summary = "greater-than: 'The war lasted from the year 1732 to the year 17' -> any of '33' to '99'"
    metric = "probability_difference"

    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        ends = {century: _splitting_years(encoder, century) for century in CENTURIES}
        starts = [(c, y) for c in CENTURIES for y in _starts(ends[c]) if split_of(c, int(y)) == split]
        if not starts:
            raise ValueError(_explain(encoder))
        possible = sum(split_of(c, y) == split for c in CENTURIES for y in range(2, 99))
        encoder.notices.append(f"start years: {len(starts)} of {possible} are [century][two digits] in this tokenizer")
        while True:
            century, start = rng.choice(starts)
            yield _pair(rng.choice(NOUNS[split]), century, start, ends[century])


def _splitting_years(encoder: Encoder, century: int) -> list[str]:
    """The two-digit years that are one token after their century. " 1776" can be a token of its own: then 76 is not."""
    if not encoder.is_single(f" {century}", after="the year"):
        return []
    before, years = f"the year {century}", [f"{year:02d}" for year in range(100)]
    encoder.prepare(before + year for year in years)
    return [year for year in years if encoder.is_single(year, after=before)]


def _starts(ends: list[str]) -> list[str]:
    """The years that can begin a clean prompt: after 01, with at least one later year."""
    return [year for year in ends if FIRST < year < ends[-1]] if FIRST in ends else []


def _pair(noun: str, century: int, start: str, ends: list[str]) -> TextPair:
    return TextPair(
        clean=TEMPLATE.format(noun=noun, century=century, start=start),
        corrupted=TEMPLATE.format(noun=noun, century=century, start=FIRST),
        answer=tuple(year for year in ends if year > start),
        wrong=tuple(year for year in ends if year <= start),
        template=TEMPLATE.format(noun="[noun]", century=f"{century}", start="[start]"),
    )


def _explain(encoder: Encoder) -> str:
    before = len(encoder.encode("the year"))
    pieces = encoder.tokenizer.convert_ids_to_tokens(list(encoder.encode("the year 1732")[before:]))
    return (
        f"{encoder.what} needs a tokenizer that splits years into century and two digits, [' 17']['32']; "
        f"this one splits ' 1732' into {len(pieces)} tokens, {pieces}; choose another task or model"
    )
