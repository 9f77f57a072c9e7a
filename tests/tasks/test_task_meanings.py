"""What the built-in tasks hold out between their splits, and what their pairs mean."""

from __future__ import annotations

import itertools
import re

import pytest
from transformers import PreTrainedTokenizerBase

from edge_pruning.tasks import SPLITS, get_task, ioi
from edge_pruning.tasks.agreement import VERBS
from edge_pruning.tasks.names import STORY_GIRLS, all_names
from edge_pruning.tasks.plurals import Plurals

SMALL = {"train": 16, "validation": 16, "test": 16}


# --- what is held out ----------------------------------------------------------------------------------------------


def test_names_belong_to_one_split_and_are_many() -> None:
    names = [name for split in SPLITS for name in all_names(split)]
    assert len(names) == len(set(names)) >= 120


@pytest.mark.parametrize("name", ["ioi", "ioi-t1", "gendered-pronoun"])
def test_a_split_uses_only_its_own_names(name: str, all_words: PreTrainedTokenizerBase) -> None:
    for split in SPLITS:
        others = {n for other in SPLITS if other != split for n in all_names(other)}
        texts = get_task(name, **SMALL).pairs(all_words, split).texts
        used = {word for text in texts for word in re.findall(r"[A-Z][a-z]+", text.clean + " " + text.corrupted)}
        assert used & set(all_names(split))
        assert not used & others


def test_greater_than_holds_out_nouns_and_start_years(all_words: PreTrainedTokenizerBase) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    for split in SPLITS:
        texts = get_task("greater-than", **SMALL).pairs(all_words, split).texts
        seen.append(({t.clean.split()[1] for t in texts}, {t.clean.split()[6] for t in texts}))
    for a, b in itertools.combinations(seen, 2):
        assert not a[0] & b[0]
        assert not a[1] & b[1]


def test_gendered_pronoun_holds_out_templates(all_words: PreTrainedTokenizerBase) -> None:
    used = [{t.template for t in get_task("gendered-pronoun").pairs(all_words, split).texts} for split in SPLITS]
    assert not used[0] & used[1]
    assert not used[0] & used[2]
    assert not used[1] & used[2]


# --- each task's own meaning ---------------------------------------------------------------------------------------


def test_ioi_names_the_giver_twice_and_the_receiver_once(all_words: PreTrainedTokenizerBase) -> None:
    data = get_task("ioi", test=100).pairs(all_words, "test")
    orders = set()
    for text in data.texts:
        (receiver,), (giver,) = text.answer, text.wrong
        assert text.clean.count(receiver) == 1
        assert text.clean.count(giver) == 2
        assert receiver.strip() not in text.corrupted
        assert giver.strip() not in text.corrupted
        orders.add(text.clean.index(giver) < text.clean.index(receiver))
    assert orders == {True, False}
    assert len({text.template for text in data.texts}) == 32  # 16 wordings in two orders


def test_ioi_t1_has_one_wording_in_two_orders(all_words: PreTrainedTokenizerBase) -> None:
    assert len({text.template for text in get_task("ioi-t1", **SMALL).pairs(all_words, "test").texts}) == 2


def test_ioi_refuses_templates_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="expected 1 to 16 templates, got 17"):
        get_task("ioi", templates=17)


def test_agreement_changes_the_number_of_the_first_noun_only(all_words: PreTrainedTokenizerBase) -> None:
    texts = get_task("agreement", **SMALL).pairs(all_words, "test").texts
    for text in texts:
        changed = [(a, b) for a, b in zip(text.clean.split(), text.corrupted.split(), strict=True) if a != b]
        assert len(changed) == 1
        assert (changed[0][::-1] in Plurals.words["test"]) == (text.answer == VERBS[1])
        assert changed[0] in Plurals.words["test"] or changed[0][::-1] in Plurals.words["test"]
        assert {text.answer, text.wrong} == set(VERBS)
    numbers = {(text.answer, text.clean.split()[-1] in dict(Plurals.words["test"])) for text in texts}
    assert len(numbers) == 4  # every number of the subject beside every number of the other noun


def test_induction_answers_with_what_followed_the_last_word(all_words: PreTrainedTokenizerBase) -> None:
    for text in get_task("induction", **SMALL).pairs(all_words, "train").texts:
        for prompt, answer in ((text.clean, text.answer[0]), (text.corrupted, text.wrong[0])):
            listed, begun = (re.findall(r" (\w+)[,.]", part) for part in prompt.removeprefix("A list:").split("Again:"))
            assert len(set(listed)) == 6
            assert answer == f" {listed[listed.index(begun[-1]) + 1]}"
        assert text.clean.split("Again:")[1] == text.corrupted.split("Again:")[1]


def test_agreement_refuses_a_tokenizer_without_its_verbs(pieces: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="each verb is a single token; ' is', ' was', ' has', .* are not"):
        get_task("agreement").pairs(pieces, "train")


def test_gendered_pronoun_has_both_genders_and_swaps_the_name_only(all_words: PreTrainedTokenizerBase) -> None:
    texts = get_task("gendered-pronoun", **SMALL).pairs(all_words, "test").texts
    assert {text.answer + text.wrong for text in texts} == {(" She", " He"), (" He", " She")}
    for text in texts:
        changed = [(a, b) for a, b in zip(text.clean.split(), text.corrupted.split(), strict=True) if a != b]
        assert len(changed) == 1
        girl, other = (name.strip(",.") in STORY_GIRLS["test"] for name in changed[0])
        assert girl == (text.answer == (" She",))
        assert other != girl


# --- tokenizers that do not fit ------------------------------------------------------------------------------------


def test_ioi_refuses_a_tokenizer_without_names(pieces: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="task 'ioi' needs at least 10 names, but only 0 of 68 are single tokens"):
        get_task("ioi").pairs(pieces, "train")


def test_gendered_pronoun_refuses_a_tokenizer_without_pronouns(pieces: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="needs a tokenizer in which ' She' is a single token"):
        get_task("gendered-pronoun").pairs(pieces, "train")


def test_notices_count_the_words_that_are_left_if_some_are_left_out(
    all_words: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get_task("ioi", **SMALL).pairs(all_words, "train").notices == ()
    monkeypatch.setattr(ioi, "all_names", lambda split: [*all_names(split), "Zyxwv"])
    assert get_task("ioi", **SMALL).pairs(all_words, "train").notices == (
        "names: 68 of 69 are single tokens in this tokenizer; the others are left out",
    )
