"""A text never turns silently into tokens that its writer did not mean: spaces, beginnings, special tokens, markup."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from edge_pruning.tasks import Encoder, PairSet, get_task
from edge_pruning.tasks.own.border import tokens_of

PROMPTS = {"clean": "The cat is", "corrupted": "The dog is", "answer": " big", "wrong_answer": " old"}
WORDS = ("The", "Ġcat", "Ġdog", "Ġis", "Ġbig", "Ġold", "big", "old")


@pytest.fixture(scope="module")
def bytes_and_words() -> PreTrainedTokenizerBase:
    """Bytes, and a few words with and without their space, split as GPT-2 does; <s> in front."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary: dict[str, int] = {token: i for i, token in enumerate(["<s>", "<|end|>", *alphabet])}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", additional_special_tokens=["<|end|>"])


def read(tokenizer: Any, changes: dict[str, Any], **settings: Any) -> PairSet:
    return get_task([{**PROMPTS, **changes, "split": "train"}], **settings).pairs(tokenizer, "train")


def noticed(found: PairSet, words: str) -> bool:
    return any(words in notice for notice in found.notices)


def test_the_usual_form_is_not_worth_a_notice(bytes_and_words: Any) -> None:
    assert read(bytes_and_words, {}).notices == ()


def test_a_space_at_the_end_goes_to_the_answer_that_it_belongs_to(bytes_and_words: Any) -> None:
    odd = {"clean": "The cat is ", "corrupted": "The dog is ", "answer": "big", "wrong_answer": "old"}
    found = read(bytes_and_words, odd)
    assert found.pairs == read(bytes_and_words, {}).pairs
    assert noticed(found, "the space at the end of 1 of 1 rows belongs to the answer, and was moved there")
    assert noticed(found, "|The| cat| is|| big|")


def test_two_spaces_and_joined_answers_are_noted_and_left_alone(bytes_and_words: Any) -> None:
    joined = read(bytes_and_words, {"answer": "big", "wrong_answer": "old"})
    assert noticed(joined, "1 of 1 rows join the answer to the last word of the prompt")
    assert bytes_and_words.decode(joined.pairs[0].answers[0]) == "big"
    two = read(bytes_and_words, {"clean": "The cat is ", "corrupted": "The dog is "})
    assert noticed(two, "have a space at the end of the prompt and at the beginning of the answer")
    alone = {"clean": "The cat is ", "corrupted": "The dog is ", "split": "train"}
    assert any("end with a space" in n for n in get_task([alone]).pairs(bytes_and_words, "train").notices)


def test_answers_get_their_space_where_that_is_asked_for(bytes_and_words: Any) -> None:
    found = read(bytes_and_words, {"answer": "big", "wrong_answer": ["old", " cat"]}, space=True)
    assert found.texts[0].answer == (" big",)
    assert found.texts[0].wrong == (" old", " cat")


def test_answers_of_several_tokens_are_judged_by_the_first_where_that_is_asked_for(bytes_and_words: Any) -> None:
    several = {"answer": [" big x", " old y"], "wrong_answer": [" old z", " cat x"]}
    whole = read(bytes_and_words, several)
    assert noticed(whole, "1 of 1 rows have answers of several tokens; whole answers are compared, in one run of")
    assert whole.texts[0].answer == (" big x", " old y")
    assert [bytes_and_words.decode(branch) for branch in whole.pairs[0].branches] == [" big ", " old ", " cat "]
    found = read(bytes_and_words, several, first_token=True)
    assert (found.texts[0].answer, found.texts[0].wrong) == ((" big", " old"), (" cat",))
    assert noticed(found, "those of 1 of 1 rows are judged by their first token")


def test_years_whose_digits_are_tokens_are_judged_where_they_differ(bytes_and_words: Any) -> None:
    years = {"answer": [" 1733", " 1734", " 1745"], "wrong_answer": [" 1701", " 1711"]}
    found = read(bytes_and_words, years, first_token=True)
    assert found.texts[0].clean == "The cat is 17"
    assert found.texts[0].corrupted == "The dog is 17"
    assert (found.texts[0].answer, found.texts[0].wrong) == (("3", "4"), ("0", "1"))
    (pair,) = found.pairs
    digits = {digit: bytes_and_words(digit, add_special_tokens=False).input_ids[0] for digit in "0134"}
    assert pair.answers == ((digits["3"], digits["4"]),)
    assert pair.wrong == ((digits["0"], digits["1"]),)
    assert noticed(found, "what all answers of 1 of 1 rows begin with was moved to the prompts")


def test_years_of_one_decade_need_nothing_to_be_asked_for(bytes_and_words: Any) -> None:
    decade = {"clean": "The cat is 17", "corrupted": "The dog is 17", "answer": ["33", "34"], "wrong_answer": ["31"]}
    (pair,) = read(bytes_and_words, decade).pairs
    assert [bytes_and_words.decode(ids) for ids in pair.answers] == ["3", "34"]
    assert [bytes_and_words.decode(ids) for ids in pair.wrong] == ["", "1"]


def test_a_beginning_that_is_written_out_is_not_doubled(bytes_and_words: Any) -> None:
    found = read(bytes_and_words, {"clean": "<s>The cat is", "corrupted": "<s>The dog is"})
    assert found.pairs == read(bytes_and_words, {}).pairs
    assert noticed(found, "already begin with <s>, so it is not added again")


def test_special_tokens_and_markup_are_noted(bytes_and_words: Any) -> None:
    special = read(bytes_and_words, {"clean": "The cat<|end|> is", "corrupted": "The dog<|end|> is"})
    assert noticed(special, "contain spelled-out special tokens (<|end|>)")
    markup = {"clean": "<|user|>The cat is", "corrupted": "<|user|>The dog is"}
    assert noticed(read(bytes_and_words, markup), "hold <|user|>, which is plain text in this tokenizer")


def test_token_ids_without_the_usual_beginning_are_noted(bytes_and_words: Any) -> None:
    ids = bytes_and_words("The cat is", add_special_tokens=False).input_ids
    rows = [{"clean": ids, "corrupted": [*ids[:-1], 9], "answer": 9, "split": "train"}]
    notices = get_task(rows).pairs(bytes_and_words, "train").notices
    assert any("rows of token ids do not begin with <s>" in notice for notice in notices)


def test_a_rendered_chat_is_not_rendered_again(bytes_and_words: Any) -> None:
    bytes_and_words.chat_template = "{{ messages[0]['content'] }}<|end|>"
    rendered = {"clean": "The cat is<|end|>", "corrupted": "The dog is<|end|>"}
    with pytest.raises(ValueError, match="pair 1: the prompt is already a rendered chat; leave out --chat"):
        read(bytes_and_words, rendered, chat=True)
    assert read(bytes_and_words, rendered).texts[0].clean == "The cat is<|end|>"
    assert read(bytes_and_words, {}, chat=True).notices == (), "the template's own special tokens are meant"


def test_unknown_words_are_named_as_the_cause(words: PreTrainedTokenizerBase) -> None:
    france = {"clean": "The capital of Zyx is", "corrupted": "The capital of Qrs is", "answer": " ran"}
    with pytest.raises(ValueError, match=r"the same tokens, because this tokenizer has no token for .*'Zyx'.*'Qrs'"):
        get_task([france]).pairs(words, "train")
    rows = [{"clean": "Zyx Mary", "corrupted": "Zyx John", "answer": " ran", "split": "train"}]
    notices = get_task(rows).pairs(words, "train").notices
    assert any("contain words outside this tokenizer's vocabulary (pair 1: 'Zyx')" in notice for notice in notices)


def test_tokens_are_shown_with_their_spaces(bytes_and_words: Any) -> None:
    ids = Encoder(bytes_and_words).encode("The cat is\u00e9")
    assert "".join(tokens_of(bytes_and_words, ids)[1:]).startswith("The cat is")
    assert tokens_of(bytes_and_words, ids)[1:4] == ["The", " cat", " is"]
