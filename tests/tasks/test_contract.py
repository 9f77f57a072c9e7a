"""What every registered task promises, and what the built-in ones hold out between their splits."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from splitting import splitting_numbers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from edge_pruning.tasks import SPLITS, TASKS, Encoder, GeneratedTask, PairSet, Task, TextPair, get_task, task_names
from edge_pruning.tasks.agreement import VERBS
from edge_pruning.tasks.names import STORY_GIRLS, all_names
from edge_pruning.tasks.plurals import Plurals
from edge_pruning.tasks.questions import QuestionTask
from edge_pruning.tasks.task import Split, TextTask, task

SMALL = {"train": 16, "validation": 16, "test": 16}
TEXT = [name for name in task_names() if issubclass(TASKS[name], TextTask)]  # for images: test_digits.py
STYLED = [(name, style) for name in TEXT for style in getattr(TASKS[name], "styles", (None,))]


@pytest.fixture(params=STYLED, ids=lambda case: " ".join(filter(None, case)))
def small(request: pytest.FixtureRequest) -> Task:
    name, style = request.param
    return get_task(name, **SMALL, **({"style": style} if style else {}))


@pytest.fixture
def words(all_words: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    return all_words


@pytest.fixture
def data(small: Task, words: PreTrainedTokenizerBase) -> dict[str, PairSet]:
    return {split: small.pairs(words, split) for split in SPLITS}


def test_the_same_settings_give_the_same_pairs(small: Task, words: PreTrainedTokenizerBase) -> None:
    first, again = (small.pairs(words, "train") for _ in range(2))
    assert first == again
    assert first.hash == again.hash


def test_another_seed_gives_other_pairs(small: Task, words: PreTrainedTokenizerBase) -> None:
    other = dataclasses.replace(small, seed=1)
    assert small.pairs(words, "test").hash != other.pairs(words, "test").hash


def test_there_are_as_many_pairs_as_asked_for_and_none_twice(data: dict[str, PairSet]) -> None:
    for split, pairs in data.items():
        assert len(pairs.pairs) == len(pairs.texts) == SMALL[split]
        assert len({pair.clean for pair in pairs.pairs}) == SMALL[split]


def test_pair_sets_are_enlarged_by_later_pairs_of_the_split(
    small: Task, data: dict[str, PairSet], words: PreTrainedTokenizerBase
) -> None:
    for split, pairs in data.items():
        same, more = pairs.enlarged(SMALL[split]), pairs.enlarged(40)
        assert same is pairs
        assert more.pairs[: SMALL[split]] == pairs.pairs
        assert len(more.pairs) == 40 or small.sizes_are_limits
        asked = dataclasses.replace(small, **{split: 40}).pairs(words, split)
        assert more == dataclasses.replace(asked, notices=more.notices)


class Greetings(GeneratedTask):
    """As many different prompts as there are ordered pairs of three names, again and again."""

    name = "greetings"

    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        while True:
            one, other = rng.sample(all_names(split)[:3], 2)
            yield TextPair(f"{one} saw {other} and", f"{other} saw {one} and", (f" {other}",), (f" {one}",))


def test_pair_sets_are_enlarged_as_far_as_there_are_pairs(words: PreTrainedTokenizerBase) -> None:
    pairs = Greetings(train=4).pairs(words, "train")
    everything = pairs.enlarged(100)
    assert (len(pairs.pairs), len(everything.pairs)) == (4, 6)
    assert everything.pairs[:4] == pairs.pairs


def test_pairs_that_were_picked_are_not_enlarged(words: PreTrainedTokenizerBase) -> None:
    pairs = get_task("ioi", **SMALL).pairs(words, "train")
    picked = dataclasses.replace(pairs, pairs=pairs.pairs[3:])
    assert picked.enlarged(40) is picked
    assert dataclasses.replace(pairs, writer=None).enlarged(40).pairs == pairs.pairs


def test_splits_share_no_prompt(data: dict[str, PairSet]) -> None:
    for a, b in itertools.combinations(SPLITS, 2):
        assert not {text.clean for text in data[a].texts} & {text.clean for text in data[b].texts}


def test_answers_continue_their_prompts(data: dict[str, PairSet], words: PreTrainedTokenizerBase) -> None:
    for pairs in data.values():
        for pair, text in zip(pairs.pairs, pairs.texts, strict=True):
            assert words.decode(pair.clean) == text.clean
            assert words.decode(pair.corrupted) == text.corrupted
            assert pair.positions == (len(pair.clean) - 1,)
            assert [words.decode([*pair.clean, token]) for token in pair.answers[0]] == [
                text.clean + answer for answer in text.answer
            ]


def test_pairs_differ_between_clean_and_corrupted_and_right_and_wrong(data: dict[str, PairSet]) -> None:
    for pairs in data.values():
        for pair in pairs.pairs:
            assert pair.clean != pair.corrupted
            assert pair.wrong[0]
            assert not set(pair.answers[0]) & set(pair.wrong[0])


def test_nothing_is_unknown(data: dict[str, PairSet], words: PreTrainedTokenizerBase) -> None:
    for pairs in data.values():
        assert not any(words.unk_token_id in pair.clean + pair.corrupted for pair in pairs.pairs)


def test_a_task_says_what_it_is(small: Task) -> None:
    assert small.summary
    assert "\n" not in small.summary
    assert small.metric in ("logit_difference", "probability_difference")


def test_an_unknown_split_is_refused(small: Task, words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="expected split 'train', 'validation', 'test', got 'dev'"):
        small.pairs(words, "dev")


def test_a_context_that_is_too_short_is_refused(small: Task, words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="longest pair has [0-9]+ tokens .* ends at 2"):
        small.pairs(words, "train", max_length=2)


def test_a_split_without_pairs_is_refused(small: Task) -> None:
    with pytest.raises(ValueError, match="at least one pair per split, got test=0"):
        get_task(small.name, test=0)


def test_more_pairs_than_there_are_is_refused(words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="only [0-9]+ different pairs of split 'validation' .* 100000 were asked for"):
        get_task("gendered-pronoun", validation=100_000).pairs(words, "validation")


def test_a_tokenizer_that_knows_no_prompt_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>")), unk_token="<unk>"
    )
    with pytest.raises(ValueError, match="no pair of split 'train' fits this tokenizer: its prompts have"):
        get_task("boolean-expressions").pairs(tokenizer, "train")


# --- what is held out ----------------------------------------------------------------------------------------------


def test_names_belong_to_one_split_and_are_many() -> None:
    names = [name for split in SPLITS for name in all_names(split)]
    assert len(names) == len(set(names)) >= 120


@pytest.mark.parametrize("name", ["ioi", "ioi-t1", "gendered-pronoun"])
def test_a_split_uses_only_its_own_names(name: str, words: PreTrainedTokenizerBase) -> None:
    for split in SPLITS:
        others = {n for other in SPLITS if other != split for n in all_names(other)}
        texts = get_task(name, **SMALL).pairs(words, split).texts
        used = {word for text in texts for word in re.findall(r"[A-Z][a-z]+", text.clean + " " + text.corrupted)}
        assert used & set(all_names(split))
        assert not used & others


def test_greater_than_holds_out_nouns_and_start_years(words: PreTrainedTokenizerBase) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    for split in SPLITS:
        texts = get_task("greater-than", **SMALL).pairs(words, split).texts
        seen.append(({t.clean.split()[1] for t in texts}, {t.clean.split()[6] for t in texts}))
    for a, b in itertools.combinations(seen, 2):
        assert not a[0] & b[0]
        assert not a[1] & b[1]


def test_gendered_pronoun_holds_out_templates(words: PreTrainedTokenizerBase) -> None:
    used = [{t.template for t in get_task("gendered-pronoun").pairs(words, split).texts} for split in SPLITS]
    assert not used[0] & used[1]
    assert not used[0] & used[2]
    assert not used[1] & used[2]


# --- each task's own meaning ---------------------------------------------------------------------------------------


def test_ioi_names_the_giver_twice_and_the_receiver_once(words: PreTrainedTokenizerBase) -> None:
    data = get_task("ioi", test=100).pairs(words, "test")
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


def test_ioi_t1_has_one_wording_in_two_orders(words: PreTrainedTokenizerBase) -> None:
    assert len({text.template for text in get_task("ioi-t1", **SMALL).pairs(words, "test").texts}) == 2


def test_ioi_refuses_templates_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="expected 1 to 16 templates, got 17"):
        get_task("ioi", templates=17)


def test_greater_than_divides_the_years_at_the_start(words: PreTrainedTokenizerBase) -> None:
    for text in get_task("greater-than", **SMALL).pairs(words, "test").texts:
        start = re.findall(r"\d{4}", text.clean)[0]
        assert start[2:] not in ("00", "01", "99")
        assert text.wrong == tuple(f"{year:02d}" for year in range(int(start[2:]) + 1))
        assert text.answer == tuple(f"{year:02d}" for year in range(int(start[2:]) + 1, 100))
        assert text.corrupted == text.clean.replace(start, start[:2] + "01")


@pytest.mark.parametrize("kind", ["digits", "sentencepiece"])
def test_where_digits_are_tokens_the_tens_digit_decides(kind: str) -> None:
    tokenizer = splitting_numbers(kind)
    data = get_task("greater-than", **SMALL).pairs(tokenizer, "test")
    assert any(notice.startswith("the answer is the tens digit of the end year") for notice in data.notices)
    for text, pair in zip(data.texts, data.pairs, strict=True):
        tens, units = map(int, re.findall(r"\d{4}", text.clean)[0][2:])
        assert text.clean.endswith("to the year " + text.template[-2:])
        assert text.answer == tuple(str(digit) for digit in range(tens + 1, 10))
        assert text.wrong == tuple(str(digit) for digit in range(tens + (units == 9)))
        assert tokenizer.convert_ids_to_tokens(list(pair.answers[0])) == list(text.answer)
        assert len([1 for a, b in zip(pair.clean, pair.corrupted, strict=True) if a != b]) in (1, 2)


def test_where_three_digits_are_a_token_the_century_comes_with_the_tens_digit() -> None:
    tokenizer = splitting_numbers("triples")
    data = get_task("greater-than", **SMALL).pairs(tokenizer, "train")
    assert any("the century with the tens digit" in notice for notice in data.notices)
    for text, pair in zip(data.texts, data.pairs, strict=True):
        century, tens, units = map(int, re.findall(r"(\d\d)(\d)(\d)", text.clean)[0])
        assert text.clean.endswith(" to the year ")
        assert text.answer == tuple(f"{century}{digit}" for digit in range(tens + 1, 10))
        assert text.wrong == tuple(f"{century}{digit}" for digit in range(tens + (units == 9)))
        assert tokenizer.convert_ids_to_tokens(list(pair.answers[0])) == list(text.answer)


def test_where_a_year_is_century_and_two_digits_both_digits_decide() -> None:
    tokenizer = splitting_numbers("pairs")
    data = get_task("greater-than", **SMALL).pairs(tokenizer, "validation")
    assert "the answer is the two digits of the end year" in data.notices
    for text in data.texts:
        start = int(re.findall(r"\d{4}", text.clean)[0][2:])
        assert text.answer == tuple(f"{year:02d}" for year in range(start + 1, 100))


def test_a_year_that_is_one_token_is_neither_a_start_nor_an_answer() -> None:
    """GPT-2 has " 1776" as one token, beside " 17" and "76"."""
    tokenizer = splitting_numbers("pairs", whole_years=("1776",))
    data = get_task("greater-than", train=150).pairs(tokenizer, "train")
    texts = [text for text in data.texts if text.template.endswith("17")]
    assert texts
    assert not any("1776" in text.clean or "76" in text.answer + text.wrong for text in texts)
    assert all("76" in text.answer + text.wrong for text in data.texts if not text.template.endswith("17"))


def test_agreement_changes_the_number_of_the_first_noun_only(words: PreTrainedTokenizerBase) -> None:
    texts = get_task("agreement", **SMALL).pairs(words, "test").texts
    for text in texts:
        changed = [(a, b) for a, b in zip(text.clean.split(), text.corrupted.split(), strict=True) if a != b]
        assert len(changed) == 1
        assert (changed[0][::-1] in Plurals.words["test"]) == (text.answer == VERBS[1])
        assert changed[0] in Plurals.words["test"] or changed[0][::-1] in Plurals.words["test"]
        assert {text.answer, text.wrong} == set(VERBS)
    numbers = {(text.answer, text.clean.split()[-1] in dict(Plurals.words["test"])) for text in texts}
    assert len(numbers) == 4  # every number of the subject beside every number of the other noun


def test_induction_answers_with_what_followed_the_last_word(words: PreTrainedTokenizerBase) -> None:
    for text in get_task("induction", **SMALL).pairs(words, "train").texts:
        for prompt, answer in ((text.clean, text.answer[0]), (text.corrupted, text.wrong[0])):
            listed, begun = (re.findall(r" (\w+)[,.]", part) for part in prompt.removeprefix("A list:").split("Again:"))
            assert len(set(listed)) == 6
            assert answer == f" {listed[listed.index(begun[-1]) + 1]}"
        assert text.clean.split("Again:")[1] == text.corrupted.split("Again:")[1]


# --- questions -----------------------------------------------------------------------------------------------------

QUESTIONS = [name for name in task_names() if issubclass(TASKS[name], QuestionTask)]


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_word_is_in_two_splits_and_the_examples_give_no_answer_away(name: str) -> None:
    cls: Any = TASKS[name]
    groups = [cls.examples, *(cls.words[split] for split in SPLITS)]
    words = [word for group in groups for word, _ in group]
    answers = [answer for group in groups for _, answer in group]
    assert len(words) == len(set(words))
    assert len(answers) == len(set(answers))
    assert not set(words) & set(answers)


@pytest.mark.parametrize("name", QUESTIONS)
def test_styles_ask_the_same_questions(name: str, words: PreTrainedTokenizerBase) -> None:
    few, told = (get_task(name, style=style).pairs(words, "test") for style in ("few-shot", "instruction"))
    assert {text.answer + text.wrong for text in few.texts} != set()
    assert {text.answer for text in few.texts} == {text.answer for text in told.texts}
    for text in told.texts:
        assert "\n" in text.clean
        assert not any(example in text.clean.split() for example, _ in TASKS[name].examples)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_wrong_answer_is_that_of_the_corrupted_prompt(name: str, words: PreTrainedTokenizerBase) -> None:
    answers = {f" {answer}": word for word, answer in TASKS[name].words["test"]}  # type: ignore[attr-defined]
    for text in get_task(name, **SMALL).pairs(words, "test").texts:
        right, wrong = answers[text.answer[0]], answers[text.wrong[0]]
        assert text.corrupted == text.clean.replace(right, wrong)


def test_a_question_task_has_all_words_that_fit_and_says_how_many(words: PreTrainedTokenizerBase) -> None:
    data = get_task("plurals", test=1000).pairs(words, "test")
    total = len(Plurals.words["test"])
    assert len(data.pairs) == total
    assert f"test: {total} pairs, all that fit this tokenizer; 1000 were asked for" in data.notices


def test_an_answer_of_several_tokens_is_judged_by_its_first() -> None:
    tokenizer = splitting_numbers("initials")
    data = get_task("capitals", **SMALL).pairs(tokenizer, "train")
    kept, total = map(int, re.findall(r"words: (\d+) of (\d+)", data.notices[0])[0])
    assert 4 <= kept < total
    assert f"answers: {kept} of {kept} are judged by their first token" in data.notices
    for text in data.texts:
        assert re.fullmatch(" [A-Z]", text.answer[0])
        assert text.answer != text.wrong


def test_answers_that_all_begin_with_the_same_token_are_refused() -> None:
    with pytest.raises(ValueError, match="task 'capitals' needs at least 4 words, but only 0 of 40 have a partner"):
        get_task("capitals").pairs(splitting_numbers("digits"), "train")


def test_a_style_that_a_task_does_not_have_is_refused() -> None:
    expected = "task 'capitals': expected style few-shot or instruction or zero-shot, got 'socratic'"
    with pytest.raises(ValueError, match=expected):
        get_task("capitals", style="socratic")


def test_agreement_refuses_a_tokenizer_without_its_verbs(pieces: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="each verb is a single token; ' is', ' was', ' has', .* are not"):
        get_task("agreement").pairs(pieces, "train")


def test_gendered_pronoun_has_both_genders_and_swaps_the_name_only(words: PreTrainedTokenizerBase) -> None:
    texts = get_task("gendered-pronoun", **SMALL).pairs(words, "test").texts
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


def test_greater_than_explains_how_the_tokenizer_splits_years() -> None:
    message = r"splits years into century and two digits.*this one splits ' 1732' into 5 tokens"
    with pytest.raises(ValueError, match=message):
        get_task("greater-than").pairs(splitting_numbers("none"), "train")


def test_gendered_pronoun_refuses_a_tokenizer_without_pronouns(pieces: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="needs a tokenizer in which ' She' is a single token"):
        get_task("gendered-pronoun").pairs(pieces, "train")


def test_notices_count_the_words_that_are_left(words: PreTrainedTokenizerBase) -> None:
    assert get_task("ioi", **SMALL).pairs(words, "train").notices == (
        "names: 68 of 68 are single tokens in this tokenizer",
    )


# --- by name -------------------------------------------------------------------------------------------------------


def test_an_unknown_task_lists_the_nearest_names() -> None:
    with pytest.raises(ValueError, match="there is no task 'greater_then'; nearest: greater-than.*; or give a file"):
        get_task("greater_then")


def test_an_unknown_setting_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="task 'ioi' has no setting size; its settings are seed, .*train, .*templates"):
        get_task("ioi", size=3)


def test_two_tasks_cannot_share_a_name() -> None:
    class Impostor(GeneratedTask):
        name = "ioi"

    with pytest.raises(ValueError, match="two tasks are called 'ioi': edge_pruning.tasks.ioi.IOI and .*Impostor"):
        task(Impostor)
    assert TASKS["ioi"].__name__ == "IOI"


def test_a_pair_set_hash_depends_on_the_tokens_only(words: PreTrainedTokenizerBase) -> None:
    pair = Encoder(words).pair(TextPair("One day, Lily", "One day, Tim", (" was",)))
    one, same = (PairSet(name, "test", "logit_difference", (pair,), ()) for name in ("a", "b"))
    other = PairSet("a", "test", "logit_difference", (dataclasses.replace(pair, wrong=((5,),)),), ())
    assert one.hash == same.hash != other.hash
