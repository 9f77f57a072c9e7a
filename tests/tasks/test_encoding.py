"""Answers are tokenised as the continuation of their prompts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from edge_pruning.models.bundled import BUNDLED
from edge_pruning.tasks import Encoder, TextPair
from edge_pruning.tasks.encoding import UnequalLengths

WORDS = Encoder(AutoTokenizer.from_pretrained(BUNDLED))
text_of_words = st.lists(st.sampled_from([" Mary", " John", " ran", ".", " 17", "32", " the", " park"]), min_size=1)


@given(prompt=text_of_words, answer=text_of_words)
@settings(max_examples=50, deadline=None)
def test_prompt_and_answer_make_up_the_tokens_of_the_whole_text(prompt: list[str], answer: list[str]) -> None:
    before, after = "".join(prompt), "".join(answer)
    ids = WORDS.continuation(before, after)
    assert ids is not None
    assert WORDS.encode(before) + ids == WORDS.encode(before + after)


def test_a_tokenizer_puts_its_first_token_before_every_text_and_none_behind(pieces: PreTrainedTokenizerBase) -> None:
    encoder = Encoder(pieces)
    assert encoder.encode("cat")[0] == pieces.bos_token_id
    assert pieces.eos_token_id not in encoder.encode("cat")
    pair = encoder.pair(TextPair("xcat", "ycat", ("z",)))
    assert pair.clean[0] == pair.corrupted[0] == pieces.bos_token_id
    assert pair.positions == (2,)


def test_prepared_texts_equal_those_encoded_one_by_one(pieces: PreTrainedTokenizerBase) -> None:
    text = TextPair("a cat", "b cat", (" is", " of"), ("x",))
    prepared, fresh = Encoder(pieces), Encoder(pieces)
    prepared.prepare(text.strings)
    assert [prepared.encode(s) for s in text.strings] == [fresh.encode(s) for s in text.strings]


def test_an_answer_of_several_tokens_is_teacher_forced() -> None:
    pair = WORDS.pair(TextPair("Then Mary", "Then John", (" ran to the park",), (" ran to the school",)))
    ran, to, the, park = WORDS.encode(" ran to the park")
    (school,) = WORDS.encode(" school")
    assert pair.clean == (*WORDS.encode("Then Mary"), ran, to, the)
    assert pair.corrupted == (*WORDS.encode("Then John"), ran, to, the)
    assert pair.positions == (1, 2, 3, 4)
    assert pair.answers == ((ran,), (to,), (the,), (park,))
    assert pair.wrong == ((), (), (), (school,))  # the first token at which the two answers differ


def test_several_answers_stand_side_by_side_at_one_position() -> None:
    pair = WORDS.pair(TextPair("Then Mary", "Then John", (" ran", " sat"), (" had", " had lunch")))
    assert pair.answers == (WORDS.encode(" ran sat"),)
    assert pair.wrong == (WORDS.encode(" had"),)


@pytest.mark.parametrize("answer", ["at", "atz"])  # "xcat" has as many tokens as "xc", "xcatz" one more
def test_an_answer_that_merges_with_its_prompt_is_refused(answer: str, pieces: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match=f"the answer '{answer}' merges with the end of its prompt 'xc'"):
        Encoder(pieces).pair(TextPair("xc", "yc", (answer,)))


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="the answer '' merges"):
        WORDS.pair(TextPair("Then Mary", "Then John", ("",)))


def test_an_answer_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="the answer ' zyx' is not in the vocabulary"):
        WORDS.pair(TextPair("Then Mary", "Then John", (" zyx",)))


def test_a_wrong_answer_that_never_differs_is_refused() -> None:
    with pytest.raises(ValueError, match="begin with the same tokens and never differ"):
        WORDS.pair(TextPair("Then Mary", "Then John", (" ran to",), (" ran",)))


def test_several_answers_may_differ_in_their_last_token() -> None:
    pair = WORDS.pair(TextPair("Then Mary", "Then John", (" ran to", " ran and", " ran to"), (" ran ran", " sat")))
    (ran, to), (_, also), (sat,) = (WORDS.bare(text) for text in (" ran to", " ran and", " sat"))
    assert pair.positions == (1, 2)
    assert pair.clean[2:] == pair.corrupted[2:] == (ran,)
    assert pair.answers == ((ran,), (to, also))
    assert pair.wrong == ((sat,), (ran,))


def test_several_answers_that_differ_before_it_form_a_tree() -> None:
    pair = WORDS.pair(TextPair("Then Mary", "Then John", (" ran to", " sat", " ran to ran"), (" ran and",)))
    (ran, to), (_, other), (sat,) = (WORDS.bare(text) for text in (" ran to", " ran and", " sat"))
    assert (pair.prefixes, pair.positions) == (((), (ran,)), (1, 2))
    assert (pair.answers, pair.wrong) == (((sat,), (to,)), ((), (other,)))
    assert pair.clean == WORDS.encode("Then Mary")
    assert pair.branches == ((ran,),)


def test_prompts_that_are_the_same_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="have the same tokens"):
        WORDS.pair(TextPair("Then Xyz", "Then Zyx", (" ran",)))


def test_prompts_of_unequal_length_are_refused() -> None:
    with pytest.raises(UnequalLengths, match="2 and 3 tokens"):
        WORDS.pair(TextPair("Then Mary", "Then Mary John", (" ran",)))
