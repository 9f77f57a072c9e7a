"""Pairs from a file: what is read, how it is split, and that every problem is reported with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from edge_pruning.tasks import SPLITS, get_task

GOOD = {"clean": "Then Mary", "corrupted": "Then John", "answer": " ran", "wrong_answer": " sat"}


def write(folder: Path, *rows: dict[str, Any] | str) -> str:
    path = folder / "pairs.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def many(n: int) -> list[dict[str, Any]]:
    return [{**GOOD, "clean": f"The year 17{i:02d}", "corrupted": "The year 1600"} for i in range(n)]


def test_a_file_becomes_pairs(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    data = get_task(write(tmp_path, {**GOOD, "split": "test"}, "", {**GOOD, "split": "test"})).pairs(words, "test")
    assert len(data.pairs) == 1
    assert data.notices == ("rows: 1 left out as repeats within this split",)
    assert data.texts[0].answer == (" ran",)
    assert words.decode(data.pairs[0].wrong[0]) == " sat"
    assert data.task.endswith("pairs.jsonl")


def test_answers_of_several_tokens_are_judged_as_wholes_in_every_row_if_they_are_in_one(
    tmp_path: Path, words: PreTrainedTokenizerBase
) -> None:
    (ran, to, sat), pieces = words(" ran to sat", add_special_tokens=False).input_ids, (" ran to", " sat")
    rows = [
        {"clean": "Then Mary", "corrupted": "Then John", "answer": list(pieces)},
        {"clean": "Then John", "corrupted": "Then Mary", "answer": " ran to"},
        {"clean": "Then Lily", "corrupted": "Then Mary", "answer": [[ran, to], [sat]]},
        {"clean": words("Then John").input_ids, "corrupted": words("Then Lily").input_ids, "answer": [[ran, to]]},
        {"clean": "Then Mary ran", "corrupted": "Then John ran", "answer": " to"},
    ]
    path = write(tmp_path, *({**row, "split": "test"} for row in rows))
    mary, john, lily, ids, one = get_task(path, group="row").pairs(words, "test").pairs
    assert mary.prefixes == john.prefixes == lily.prefixes == ids.prefixes == ((), (ran,))
    assert (mary.answers, john.answers) == (((sat,), (to,)), ((), (to,)))
    assert (lily.answers, ids.answers, ids.clean) == (mary.answers[:1] + ((to,),), john.answers, john.clean)
    assert not one.prefixes
    alone = get_task(write(tmp_path, {**rows[1], "split": "test"})).pairs(words, "test").pairs[0]
    assert (alone.prefixes, alone.answers) == ((), ((ran,), (to,)))


def test_a_list_of_answers_counts_as_right_as_a_whole(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    path = write(
        tmp_path, {"clean": "Then Mary", "corrupted": "Then John", "answer": [" ran", " sat"], "split": "test"}
    )
    pair = get_task(path).pairs(words, "test").pairs[0]
    assert len(pair.answers[0]) == 2
    assert pair.wrong == ((),)


def test_rows_without_a_split_are_divided_and_their_order_does_not_matter(
    tmp_path: Path, words: PreTrainedTokenizerBase
) -> None:
    rows = many(50)
    forward = {split: get_task(write(tmp_path, *rows)).pairs(words, split).texts for split in SPLITS}
    assert [len(forward[split]) for split in SPLITS] == [30, 10, 10]
    backward = {split: get_task(write(tmp_path, *rows[::-1])).pairs(words, split).texts for split in SPLITS}
    assert all(set(forward[split]) == set(backward[split]) for split in SPLITS)
    other = get_task(write(tmp_path, *rows), seed=1).pairs(words, "test").texts
    assert set(other) != set(forward["test"])


def test_rows_with_the_same_clean_prompt_stay_together(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    rows = many(20) + [{**row, "corrupted": "The year 1500"} for row in many(20)]
    prompts = [{t.clean for t in get_task(write(tmp_path, *rows)).pairs(words, split).texts} for split in SPLITS]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 20


def test_three_rows_leave_no_split_empty(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    path = write(tmp_path, *many(3))
    assert [len(get_task(path).pairs(words, split).pairs) for split in SPLITS] == [1, 1, 1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{clean: 1", r"line 2: not valid JSON"),
        ("[1, 2]", r"line 2: expected an object with the fields clean, corrupted, answer, got list"),
        ({"clean": "Then Mary"}, r"line 2: missing corrupted; expected the fields clean, corrupted"),
        ({**GOOD, "clean": 3}, r"line 2: clean: expected a non-empty string or a list of token ids, got '3'"),
        ({**GOOD, "corrupted": ""}, r"line 2: corrupted: expected a non-empty string or .*, got ''"),
        ({**GOOD, "answer": []}, r"line 2: answer: expected a string or a list of strings"),
        ({**GOOD, "wrong_answer": [1, " x"]}, r"line 2: wrong_answer: expected a string or a list of strings"),
        ({**GOOD, "answer": 2.5}, r"line 2: answer: expected a string .*, got '2.5'"),
        ({**GOOD, "answer": 10**6}, r"line 2: token id 1000000 is beyond this tokenizer's [0-9,]+ tokens"),
        ({**GOOD, "clean": [1, 2]}, r"line 2: one prompt is token ids, the other is not"),
        ({"clean": [1, 2], "corrupted": [1, 3], "answer": " ran"}, r"line 2: the prompts are token ids, so answer"),
        ({"clean": [1, 2], "corrupted": [1], "answer": 3}, r"1 of 2 pairs differ in length \(first: line 2, 2 and 1"),
        ({**GOOD, "clean": "a \ud800"}, r"line 2: not valid JSON .*ud800 is half of a character"),
        ({**GOOD, "split": "dev"}, r"line 2: split: expected one of train, validation, test, got 'dev'"),
        ({**GOOD, "wrong_answer": " ran"}, r"line 2: ' ran' is both the answer and the wrong answer"),
        ({**GOOD, "corrupted": "Then Mary"}, r"line 2: clean and corrupted are the same text"),
        ({**GOOD, "answer": " zyx"}, r"line 2: the answer ' zyx' is not in the vocabulary"),
        ({**GOOD, "wrong_answer": " ran to"}, r"line 2: the wrong answer ' ran to' and the answer begin with the same"),
        ({**GOOD, "corrupted": "Then John ran"}, r"1 of 2 pairs differ in length \(first: line 2, 2 and 3 tokens\)"),
        ({**GOOD, "clean": "Then Mary ran to the", "corrupted": "Then John ran to the"}, r"line 2: 5 tokens, but .* 4"),
        ({**GOOD, "clean": "Then Tim", "split": "train"}, r"line 1: has no split, but other rows do"),
    ],
)
def test_a_problem_is_reported_with_its_line(
    tmp_path: Path, words: PreTrainedTokenizerBase, row: dict[str, Any] | str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        get_task(write(tmp_path, GOOD, row)).pairs(words, "train", max_length=4)


def test_all_problems_are_reported_at_once(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    rows = ("nonsense", GOOD, {"clean": "x"}, {**GOOD, "answer": " zyx"}, *[{**GOOD, "corrupted": "Then"}] * 2)
    with pytest.raises(ValueError, match="pairs.jsonl': 4 problems") as caught:
        get_task(write(tmp_path, *rows)).pairs(words, "train")
    message = str(caught.value)
    for part in ("line 1: not valid", "line 3: missing", "line 4: the answer", "2 of 4 pairs", "also lines 6"):
        assert part in message


def test_a_problem_that_many_lines_share_is_said_once(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match=r"30 problems\n  lines 1, 2, 3, 4, 5 and 25 more: not valid JSON .*\)$"):
        get_task(write(tmp_path, *["nonsense"] * 30)).pairs(words, "train")


def test_a_long_list_of_problems_is_cut(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match=r"(?s)30 problems.*and 10 more$"):
        get_task(write(tmp_path, *({**GOOD, "answer": f" zyx{i}"} for i in range(30)))).pairs(words, "train")


def test_pairs_of_unequal_length_can_be_dropped(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    path = write(tmp_path, *many(5), {**GOOD, "corrupted": "Then"})
    data = get_task(path, skip_unequal=True).pairs(words, "train")
    assert data.notices == ("rows: 1 of 6 left out because their prompts differ in length",)


def test_a_prompt_on_both_sides_of_a_split_is_refused(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    path = write(tmp_path, {**GOOD, "split": "train"}, {**GOOD, "corrupted": "Then Tim", "split": "test"})
    with pytest.raises(ValueError, match=r"line 2: the clean prompt of line 1 \(train\) is here in split test"):
        get_task(path).pairs(words, "test")


def test_an_empty_file_is_refused(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="the file is empty; expected one JSON object per line"):
        get_task(write(tmp_path, "", " ")).pairs(words, "train")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'{"clean": "\xff"}')
    with pytest.raises(ValueError, match="line 1: not valid JSON"):
        get_task(str(path)).pairs(words, "train")


def test_a_split_without_rows_is_refused(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    path = write(tmp_path, {**GOOD, "split": "train"})
    with pytest.raises(ValueError, match="split 'test' has no pairs; the 1 usable lines are in train. Give some"):
        get_task(path).pairs(words, "test")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="task file 'nowhere.jsonl' does not exist"):
        get_task("nowhere.jsonl")
