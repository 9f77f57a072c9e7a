"""Greater-than: years, whatever tokens a tokenizer splits them into."""

from __future__ import annotations

import re

import pytest
from splitting import splitting_numbers
from transformers import PreTrainedTokenizerBase

from edge_pruning.tasks import get_task
from edge_pruning.tasks.encoding import whole_answers

SMALL = {"train": 16, "validation": 16, "test": 16}


def test_greater_than_divides_the_years_at_the_start(all_words: PreTrainedTokenizerBase) -> None:
    for text in get_task("greater-than", **SMALL).pairs(all_words, "test").texts:
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


@pytest.mark.parametrize(("kind", "branches"), [("digits", 10), ("sentencepiece", 10), ("triples", 10), ("pairs", 1)])
def test_whole_years_are_answers_in_every_tokenizer(kind: str, branches: int) -> None:
    tokenizer = splitting_numbers(kind)
    data = get_task("greater-than", **SMALL, whole=True).pairs(tokenizer, "test")
    for text, pair in zip(data.texts, data.pairs, strict=True):
        start = int(re.findall(r"\d{4}", text.clean)[0])
        written = text.clean.rpartition("the year ")[2]  # the century, or nothing
        assert [int(written + answer) for answer in text.answer] == list(range(start + 1, start // 100 * 100 + 100))
        assert [int(written + wrong) for wrong in text.wrong] == list(range(start // 100 * 100, start + 1))
        assert len(pair.branches) == branches
        assert {"".join(tokenizer.convert_ids_to_tokens(list(ids))) for ids in whole_answers(pair, pair.answers)} == {
            *text.answer
        }
    assert ("answers differ before their last token: each prompt is run with 10 beginnings" in data.notices) == (
        branches > 1
    )


def test_a_switch_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="expected whole=true or whole=false, got 'yes'"):
        get_task("greater-than", whole="yes")


def test_greater_than_explains_how_the_tokenizer_splits_years() -> None:
    message = r"splits years into century and two digits.*this one splits ' 1732' into 5 tokens"
    with pytest.raises(ValueError, match=message):
        get_task("greater-than").pairs(splitting_numbers("none"), "train")
