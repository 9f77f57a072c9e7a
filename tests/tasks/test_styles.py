"""Tasks that are asked in several styles: shots, zero-shot prompts, Boolean expressions."""

from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerBase

from edge_pruning.tasks import SPLITS, get_task
from edge_pruning.tasks.boolean_expressions import MOST_LITERALS, BooleanExpressions, random_expression, split_of

SMALL = {"train": 40, "validation": 40, "test": 40}
STYLES = ("few-shot", "instruction", "zero-shot")


def test_expressions_have_the_value_that_python_gives_them() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        expression = random_expression(rng)
        words = expression.text.split()
        assert eval(expression.text) is expression.value  # made of True, False, and, or, not, ( and )
        assert 1 <= sum(word in ("True", "False") for word in words) <= MOST_LITERALS
        assert _depth(expression.text) == expression.depth <= 3
        assert "not ( not" not in expression.text


def _depth(text: str) -> int:
    """How many operators stand inside each other, by the parentheses."""
    open_ones = deepest = 0
    for word in text.split():
        open_ones += (word == "(") - (word == ")")
        deepest = max(deepest, open_ones)
    return deepest + (len(text.split()) > 1)


def test_every_number_of_literals_and_every_depth_occurs() -> None:
    rng = random.Random(0)
    found = [random_expression(rng) for _ in range(2000)]
    assert {expression.depth for expression in found} == {0, 1, 2, 3}
    literals = {sum(word in ("True", "False") for word in expression.text.split()) for expression in found}
    assert literals == set(range(1, MOST_LITERALS + 1))


def test_splits_have_their_shares_of_the_expressions_and_the_examples_none() -> None:
    rng = random.Random(0)
    found = {random_expression(rng).text for _ in range(4_000)}
    shares = {split: sum(split_of(text) == split for text in found) / len(found) for split in SPLITS}
    assert shares == pytest.approx({"train": 0.5, "validation": 0.1, "test": 0.4}, abs=0.05)
    for shot, _ in BooleanExpressions.examples:
        spaced = " ".join(shot.replace("(", "( ").replace(")", " )").split())
        assert split_of(shot) is None
        assert split_of(spaced) is None


@pytest.mark.parametrize("style", STYLES)
def test_the_corrupted_expression_has_the_other_value_and_is_of_the_same_split(
    style: str, all_words: PreTrainedTokenizerBase
) -> None:
    data = get_task("boolean-expressions", style=style, **SMALL).pairs(all_words, "test")
    for text in data.texts:
        values = []
        for prompt in (text.clean, text.corrupted):
            asked = prompt.splitlines()[1 if style == "instruction" else -1].removesuffix(" is")
            assert split_of(asked) == "test"
            values.append(str(eval(asked)))  # as above
        assert (text.answer[0].strip(), text.wrong[0].strip()) == (values[0], values[1])
        assert values[0] != values[1]


def test_shots_are_the_same_in_all_prompts_and_absent_without_examples(all_words: PreTrainedTokenizerBase) -> None:
    for name in ("capitals", "boolean-expressions"):
        few, none = (get_task(name, style=style, **SMALL).pairs(all_words, "train") for style in STYLES[::2])
        shots = {prompt.rpartition("\n")[0] for text in few.texts for prompt in (text.clean, text.corrupted)}
        assert len(shots) == 1
        assert not any("\n" in text.clean for text in none.texts)


def test_other_shots_can_be_given(all_words: PreTrainedTokenizerBase) -> None:
    data = get_task("capitals", shots="France:Madrid", **SMALL).pairs(all_words, "train")
    assert all(text.clean.startswith("Capital of France: Madrid\nCapital of ") for text in data.texts)


@pytest.mark.parametrize(("settings", "expected"), [
    ({"shots": "Japan:Tokyo Spain:Madrid"}, "contain words of the pairs: Japan, Tokyo"),
    ({"shots": "Ireland:Nowhere"}, "contain words of the pairs: Ireland"),
    ({"shots": "France"}, "expected shots as WORD:ANSWER, with spaces between them, got 'France'"),
    ({"shots": "France:Paris", "style": "zero-shot"}, "shots belong to style few-shot, and this is style zero-shot"),
])  # fmt: skip
def test_shots_that_cannot_work_are_refused(settings: dict[str, str], expected: str) -> None:
    with pytest.raises(ValueError, match=f"task 'capitals': .*{expected}"):
        get_task("capitals", **settings)


def test_shots_that_exceed_the_context_are_refused(all_words: PreTrainedTokenizerBase) -> None:
    shots = " ".join(["France:Paris"] * 20)
    with pytest.raises(ValueError, match="longest pair has [0-9]+ tokens in this tokenizer, but .* ends at 64"):
        get_task("capitals", shots=shots).pairs(all_words, "train", max_length=64)
