"""Greater-than: "The war lasted from the year 1732 to the year 17" -> "33", "34", ... "99".

Events end later than they began (Hanna and others 2023). The corrupted prompt starts in the year 01 of the same
century, so that every end is possible. Metric: probability of the later years minus probability of the others. Nouns
and start years (the pair of century and year) are held out between the splits.

The answer is the one decisive token, which depends on how the tokenizer splits a year (`SPELLINGS`):

    " 17" "32"           the two digits of the year: right is every year after the start                   (GPT-2)
    " " "1" "7" "3" "2"  the tens digit: right is every later decade              (Llama 2, Gemma, Qwen, SmolLM)
    " " "173" "2"        century and tens digit together: right is every later decade of the century     (Llama 3)

A token for a decade is right if all of its years are later than the start, and wrong if none is; a decade with both
counts as neither. The task notes the kind of answer.

With `whole=true` every answer is a whole year (`WHOLE`), and its probability that of all its tokens: exact for every
tokenizer, but ten runs of a prompt where years are written in digits (`answer_tree.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.task import GeneratedTask, Split, task

TEMPLATE = "The {noun} lasted from the year {century}{start} to the year {century}"
CENTURIES = tuple(range(11, 18))
FIRST = 1  # the start year of every corrupted prompt; never one of a clean prompt
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
    """Return the split of a start year: each split has every century and every two digits, but not the same
    combinations.
    """
    return next(split for split, residues in RESIDUES.items() if (century + year) % 4 in residues)


@dataclass(frozen=True)
class Spelling:
    """How a tokenizer splits the end year.

    written: whether the prompt ends with the century.
    tokens: the text of each possible answer, in which {century} stands for the century, and the years from 0 to 99 that
        it can begin.
    whole: the answers are whole years, of any number of tokens.
    """

    summary: str
    written: bool
    tokens: Mapping[str, range]
    whole: bool = False

    def before(self, century: int) -> str:
        """Return the text that precedes the answer."""
        return f"the year {century}" if self.written else "the year "

    def answers(self, encoder: Encoder, century: int) -> dict[str, range]:
        """Return the answers that follow the end of the prompt, as one token unless `whole`, and that really begin all
        of their years.
        """
        before = self.before(century)
        texts = {token.format(century=century): years for token, years in self.tokens.items()}
        encoder.prepare(before + text for text in texts)
        return {
            text: years for text, years in texts.items()
            if (encoder.follows(text, after=before) if self.whole else encoder.is_single(text, after=before))
            and all(_begins(encoder, _year(century, year), before + text) for year in years)
        }

    def starts(self, encoder: Encoder, century: int, answers: Mapping[str, range]) -> list[int]:
        """Return the start years that are split like the corrupted one, and that have answers before and after them."""
        if not answers:
            return []
        split = {year: _split(encoder, self.before(century), _year(century, year)) for year in range(100)}
        return [
            year for year in range(FIRST + 1, 100)
            if split[year] and split[year] == split[FIRST] and all(_judged(answers, year))
        ]


TWO_DIGITS = {f"{year:02d}": range(year, year + 1) for year in range(100)}
SPELLINGS = (
    Spelling("the two digits of the end year", True, TWO_DIGITS),
    Spelling(
        "the tens digit of the end year; the decade of the start counts for neither side", True,
        {f"{tens}": range(10 * tens, 10 * tens + 10) for tens in range(10)},
    ),
    Spelling(
        "the century with the tens digit; the decade of the start counts for neither side", False,
        {f"{{century}}{tens}": range(10 * tens, 10 * tens + 10) for tens in range(10)},
    ),
)
WHOLE = (
    Spelling("the end year behind its century, with all its tokens", True, TWO_DIGITS, whole=True),
    Spelling(
        "the end year, with all its tokens", False, {f"{{century}}{end}": years for end, years in TWO_DIGITS.items()},
        whole=True,
    ),
)


@task
@dataclass(frozen=True, kw_only=True)
class GreaterThan(GeneratedTask):
    """Which years come after the start of an event.

    whole: answers are whole years, whatever tokens they have; otherwise the one decisive token.
    """

    name = "greater-than"
    summary = "greater-than: 'The war lasted from the year 1732 to the year 17' -> any of '33' to '99'"
    metric = "probability_difference"

    whole: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.whole, bool):
            raise ValueError(f"task {self.name!r}: expected whole=true or whole=false, got {self.whole!r}")

    @property
    def whole_answers(self) -> bool:
        return self.whole

    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        spelling, answers, starts = _best_spelling(encoder, WHOLE if self.whole else SPELLINGS)
        own = [(century, year) for century, year in starts if split_of(century, year) == split]
        if not own:
            raise ValueError(_explain(encoder))
        possible = sum(split_of(century, year) == split for century in CENTURIES for year in range(2, 99))
        encoder.notices.append(f"start years: {len(own)} of {possible} fit this tokenizer")
        encoder.notices.append(f"the answer is {spelling.summary}")
        while True:
            century, start = rng.choice(own)
            yield _pair(rng.choice(NOUNS[split]), century, start, spelling, answers[century])


def _best_spelling(
    encoder: Encoder, possible: Sequence[Spelling]
) -> tuple[Spelling, dict[int, dict[str, range]], list[tuple[int, int]]]:
    """Return the spelling that leaves the most start years, with its answers per century and its start years."""
    spellings = []
    encoder.prepare(_year(century, year) for century in CENTURIES for year in range(100))
    for spelling in possible:
        answers = {century: spelling.answers(encoder, century) for century in CENTURIES}
        starts = [(century, year) for century in CENTURIES
                  for year in spelling.starts(encoder, century, answers[century])]
        spellings.append((spelling, answers, starts))
    return max(spellings, key=lambda one: len(one[2]))


def _year(century: int, year: int) -> str:
    return f"the year {century}{year:02d}"


def _begins(encoder: Encoder, text: str, beginning: str) -> bool:
    """Return whether the tokens of a text begin with those of another."""
    ids = encoder.encode(beginning)
    return encoder.encode(text)[: len(ids)] == ids


def _split(encoder: Encoder, before: str, text: str) -> list[int]:
    """Return the lengths of the tokens that follow `before` in a text, as a pattern; empty if they merge with it."""
    after = encoder.encode(text)[len(encoder.encode(before)) :]
    return [len(encoder.tokenizer.decode([token])) for token in after] if _begins(encoder, text, before) else []


def _judged(answers: Mapping[str, range], start: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the answers that are certainly later than the start, and those that are certainly not."""
    right = tuple(text for text, years in answers.items() if years[0] > start)
    wrong = tuple(text for text, years in answers.items() if years[-1] <= start)
    return right, wrong


def _pair(noun: str, century: int, start: int, spelling: Spelling, answers: Mapping[str, range]) -> TextPair:
    def prompt(start: str, noun: str = noun) -> str:
        text = TEMPLATE.format(noun=noun, century=century, start=start)
        return text if spelling.written else text.removesuffix(f"{century}")

    right, wrong = _judged(answers, start)
    return TextPair(prompt(f"{start:02d}"), prompt(f"{FIRST:02d}"), right, wrong, prompt("[start]", "[noun]"))


def _explain(encoder: Encoder) -> str:
    before = len(encoder.encode("the year"))
    pieces = encoder.tokenizer.convert_ids_to_tokens(list(encoder.encode("the year 1732")[before:]))
    return (
        f"{encoder.what} needs a tokenizer that splits years into century and two digits, [' 17']['32'], into digits, "
        f"or into three digits and one; this one splits ' 1732' into {len(pieces)} tokens, {pieces}; choose another "
        "task or model"
    )
