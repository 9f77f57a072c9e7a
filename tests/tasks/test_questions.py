"""Tasks that ask questions: their words, their styles, and answers of several tokens."""

from __future__ import annotations

import re
from typing import Any

import pytest
from splitting import splitting_numbers
from transformers import PreTrainedTokenizerBase

from edge_pruning.tasks import SPLITS, TASKS, get_task, task_names
from edge_pruning.tasks.plurals import Plurals
from edge_pruning.tasks.questions import QuestionTask

SMALL = {"train": 16, "validation": 16, "test": 16}
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
def test_styles_ask_the_same_questions(name: str, all_words: PreTrainedTokenizerBase) -> None:
    few, told = (get_task(name, style=style).pairs(all_words, "test") for style in ("few-shot", "instruction"))
    assert {text.answer + text.wrong for text in few.texts} != set()
    assert {text.answer for text in few.texts} == {text.answer for text in told.texts}
    for text in told.texts:
        assert "\n" in text.clean
        assert not any(example in text.clean.split() for example, _ in TASKS[name].examples)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_wrong_answer_is_that_of_the_corrupted_prompt(name: str, all_words: PreTrainedTokenizerBase) -> None:
    answers = {f" {answer}": word for word, answer in TASKS[name].words["test"]}  # type: ignore[attr-defined]
    for text in get_task(name, **SMALL).pairs(all_words, "test").texts:
        right, wrong = answers[text.answer[0]], answers[text.wrong[0]]
        assert text.corrupted == text.clean.replace(right, wrong)


def test_a_question_task_has_all_words_that_fit_and_says_how_many(all_words: PreTrainedTokenizerBase) -> None:
    data = get_task("plurals", test=1000).pairs(all_words, "test")
    total = len(Plurals.words["test"])
    assert len(data.pairs) == total
    assert f"test: {total} pairs, all that fit this tokenizer; 1000 were requested" in data.notices


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
