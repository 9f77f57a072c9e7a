"""What the text of the bundled model holds out, read off the text itself: the claims of the model card."""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from edge_pruning.models.bundled import BUNDLED
from edge_pruning.tasks import gendered_pronoun, greater_than, ioi
from edge_pruning.tasks.names import all_names

SCRIPT = Path(__file__).parents[2] / "scripts" / "corpus.py"
TRAIN, HELD_OUT = set(all_names("train")), {*all_names("validation"), *all_names("test")}


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    spec = importlib.util.spec_from_file_location("corpus", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(corpus: ModuleType) -> list[str]:
    return list(itertools.islice(corpus.rows(0), 6000))


def pattern(template: str) -> re.Pattern[str]:
    """Matches the sentences that a template can make, with names in the groups."""
    text = re.sub(r"\\{(first|second|subject|name)\\}", r"([A-Z][a-z]+)", re.escape(template))
    return re.compile(re.sub(r"\\{\w+\\}", r"[a-z ]+", text))


def names_in(row: str) -> set[str]:
    return set(re.findall(r"[A-Z][a-z]+", row)) & (TRAIN | HELD_OUT)


def test_sentences_of_ioi_are_about_training_names_only(rows: list[str]) -> None:
    patterns = [pattern(template) for template in ioi.TEMPLATES]
    found = [row for row in rows if any(p.match(row) for p in patterns)]
    assert len(found) > 800
    for row in found:
        assert names_in(row) <= TRAIN, row


def test_exchanges_share_no_verb_with_ioi(corpus: ModuleType) -> None:
    verbs = {verb for text in ioi.TEMPLATES for verb in re.findall(r"\{subject\} (\w+)|and (\w+) it", text)[0] if verb}
    assert "gave" in verbs
    for exchange in corpus.EXCHANGES:
        assert not verbs & set(exchange.split()), exchange


def test_held_out_names_never_come_before_a_sentence_that_begins_with_a_pronoun(rows: list[str]) -> None:
    found = [row for row in rows if re.search(r"[.?!] (She|He)\b", row)]
    assert len(found) > 500
    for row in found:
        assert names_in(row) <= TRAIN, row


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_templates_of_gendered_pronoun_do_not_occur(split: str, rows: list[str]) -> None:
    patterns = [pattern(template) for template in gendered_pronoun.TEMPLATES[split]]
    for row in rows:
        assert not any(match[1] in TRAIN | HELD_OUT for p in patterns if (match := p.search(row))), row


def test_greater_than_sentences_have_training_nouns_and_years(rows: list[str]) -> None:
    sentence = re.compile(r"The (\w+) lasted from the year (\d\d)(\d\d) to the year \2(\d\d)")
    found = [match for row in rows if (match := sentence.match(row))]
    assert len(found) > 300
    for noun, century, start, end in (m.groups() for m in found):
        assert noun in greater_than.NOUNS["train"]
        assert start < end
        assert int(start) in (0, greater_than.FIRST) or greater_than.split_of(int(century), int(start)) == "train"


def test_every_name_is_heard_about_equally_often(rows: list[str]) -> None:
    counts = Counter(word for row in rows for word in re.findall(r"[A-Z][a-z]+", row))
    means = [sum(counts[name] for name in names) / len(names) for names in (TRAIN, HELD_OUT)]
    assert means[1] == pytest.approx(means[0], rel=0.25)
    assert min(counts[name] for name in TRAIN | HELD_OUT) > 50


def test_the_same_seed_gives_the_same_rows(corpus: ModuleType, rows: list[str]) -> None:
    assert list(itertools.islice(corpus.rows(0), 100)) == rows[:100]
    assert list(itertools.islice(corpus.rows(1), 100)) != rows[:100]


def test_the_card_states_the_shares_of_the_grammar(corpus: ModuleType) -> None:
    assert sum(corpus.KINDS.values()) == pytest.approx(1)
    card = " ".join((BUNDLED / "README.md").read_text(encoding="utf-8").split())
    for kind, share in corpus.KINDS.items():
        assert f"{share:.0%} {kind.replace('_', '-')}" in card
