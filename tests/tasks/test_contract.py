"""What every registered task promises."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from edge_pruning.tasks import SPLITS, TASKS, Encoder, GeneratedTask, PairSet, Task, TextPair, get_task, task_names
from edge_pruning.tasks.names import all_names
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
        assert len(more.pairs) == 40 == len({(pair.clean, pair.corrupted) for pair in more.pairs})
        asked = dataclasses.replace(small, **{split: 40}).pairs(words, split)
        assert more.pairs[: len(asked.pairs)] == asked.pairs  # fewer, if a task has few words


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
    with pytest.raises(ValueError, match="only [0-9]+ different pairs of split 'validation' .* 100000 were requested"):
        get_task("gendered-pronoun", validation=100_000).pairs(words, "validation")


def test_a_tokenizer_that_knows_no_prompt_is_refused() -> None:
    splits = Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>"))
    splits.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=splits, unk_token="<unk>")
    with pytest.raises(ValueError, match="'train' fits this tokenizer: it has no token for words such as '.+', '.+';"):
        get_task("boolean-expressions").pairs(tokenizer, "train")


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
