"""Many pairs in little memory: the same pairs, a few hundred bytes each, and no more than a few texts as objects."""

from __future__ import annotations

import hashlib
import json
from array import array
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from edge_pruning.discovery.training import drawn
from edge_pruning.pair import Pair
from edge_pruning.tasks import SPLITS, get_task
from edge_pruning.tasks import packed as packed_file
from edge_pruning.tasks import task as task_file
from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.own import OwnPairs
from edge_pruning.tasks.own import encoded as encoded_file
from edge_pruning.tasks.packed import PackedPairs, PackedTexts

PAIRS = (
    Pair((1, 2, 3), (1, 4, 3), (2,), ((5,),), ((6,),), "one"),
    Pair((9,) * 70_000, (8,) * 70_000, (0, 4), ((), (1, 2)), ((3,), ()), "two"),
    Pair((1,), (2,), (0,), ((7, 8, 9),), ((),), "one"),
)
TEXTS = (
    TextPair("a \u00e9\n", "b", (" c", "d"), (), "one"), TextPair("", "b", ("",), ("x", ""), ""),
    TextPair("a", "\N{GRINNING FACE}", (), (), "one"), TextPair("\0\1", "\n\0", ("\0",), ("\1", "\1\0"), "\0"),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "items"), [(PackedPairs, PAIRS), (PackedTexts, TEXTS)])
def test_what_is_packed_comes_back(kind: Any, items: tuple[Any, ...]) -> None:
    packed = kind(items)
    assert tuple(packed) == items
    assert packed == items
    assert packed != items[:2]
    assert packed[-1] == items[-1]
    assert packed[1:] == items[1:]
    assert len(packed) == len(items)
    with pytest.raises(IndexError):
        packed[len(items)]


def test_many_pairs_are_the_same_as_few(words: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    few = get_task("ioi", train=60).pairs(words, "train")
    monkeypatch.setattr(packed_file, "UNPACKED", 10)
    many = get_task("ioi", train=60).pairs(words, "train")
    assert isinstance(few.pairs, tuple)
    assert isinstance(many.pairs, PackedPairs)
    assert isinstance(many.texts, PackedTexts)
    assert (tuple(many.pairs), tuple(many.texts)) == (few.pairs, few.texts)
    assert many.hash == few.hash
    assert many.enlarged(90).pairs[:60] == few.pairs
    assert many.subset([3, 50]).pairs == (few.pairs[3], few.pairs[50])


def test_the_fingerprint_is_that_of_all_pairs_as_one_list(words: PreTrainedTokenizerBase) -> None:
    pairs = get_task("ioi", train=5).pairs(words, "train")
    ids = [[p.clean, p.corrupted, p.positions, p.answers, p.wrong] for p in pairs.pairs]
    assert pairs.hash == hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    assert pairs.subset([]).hash == hashlib.sha256(b"[]").hexdigest()


def test_memory_grows_by_a_few_hundred_bytes_per_pair(
    words: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_file, "UNPACKED", 10)
    monkeypatch.setattr(task_file, "AT_ONCE", 16)
    kept: list[int] = []
    prepare = Encoder.prepare

    def watched(self: Encoder, texts: Any) -> None:
        prepare(self, texts)
        kept.append(len(self._cache))

    monkeypatch.setattr(Encoder, "prepare", watched)
    pairs = get_task("ioi", train=400).pairs(words, "train")
    assert max(kept) <= 16 * 4 + 200  # of one handful: two prompts and two answers; at first, all names
    packed = vars(pairs.pairs) | vars(pairs.texts)
    held = sum(part.itemsize * len(part) for part in packed.values() if isinstance(part, array))
    held += len(packed["_letters"])
    assert held < 500 * len(pairs.pairs)


def own_pairs(words: PreTrainedTokenizerBase, count: int) -> OwnPairs:
    """A file's worth of rows, the last of them without an answer."""
    written = get_task("ioi", train=count).pairs(words, "train")
    rows = [{**text.shown, "wrong_answer": text.wrong} for text in written.texts]
    return OwnPairs([*rows[:-1], {**rows[-1], "answer": None, "wrong_answer": None}])


def test_many_rows_of_a_file_are_the_same_as_few_and_never_all_objects(
    words: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [own_pairs(words, 80).pairs(words, split) for split in SPLITS]
    kept: list[int] = []
    prepare = Encoder.prepare

    def watched(self: Encoder, texts: Any) -> None:
        prepare(self, texts)
        kept.append(len(self._cache))

    monkeypatch.setattr(packed_file, "UNPACKED", 5)
    monkeypatch.setattr(encoded_file, "AT_ONCE", 8)
    monkeypatch.setattr(Encoder, "prepare", watched)
    task = own_pairs(words, 80)
    kept.clear()  # those of writing the rows
    many = [task.pairs(words, split) for split in SPLITS]
    assert len(kept) == 10
    assert max(kept) <= 8 * 4
    for one, other in zip(few, many, strict=True):
        assert isinstance(one.pairs, tuple)
        assert isinstance(other.pairs, PackedPairs)
        assert isinstance(other.texts, PackedTexts)
        assert (tuple(other.pairs), tuple(other.texts), other.notices) == (one.pairs, one.texts, one.notices)
    assert any("1 of 80 rows have no answer" in notice for notice in many[0].notices)


def test_a_step_draws_from_many_pairs_what_it_draws_from_the_list() -> None:
    ids = [i for step in range(5) for i in drawn(7, 3, step, 0)]
    assert sorted(ids[:7]) == sorted(ids[7:14]) == list(range(7))
    assert all(type(i) is int for i in ids)
