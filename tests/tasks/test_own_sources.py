"""Pairs from every kind of source, and the names that other tools give to their columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from edge_pruning.pair import Pair as TokenPair
from edge_pruning.tasks import SPLITS, PairSet, get_task
from edge_pruning.tasks.encoding import TextPair
from edge_pruning.tasks.own import Pair

ROWS = [
    {"clean": f"The year 17{i:02d}", "corrupted": "The year 1600", "answer": " ran", "wrong_answer": " sat"}
    for i in range(10)
]


def pairs(source: Any, tokenizer: Any, split: str = "train", **settings: Any) -> PairSet:
    return get_task(source, **settings).pairs(tokenizer, split)


def the_same(source: Any, tokenizer: Any) -> None:
    for split in SPLITS:
        assert pairs(source, tokenizer, split).pairs == pairs(ROWS, tokenizer, split).pairs


# --- kinds of sources -------------------------------------------------------------------------------------------------


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",", end: str = "\n") -> str:
    lines = [delimiter.join(rows[0]), *(delimiter.join(f'"{value}"' for value in row.values()) for row in rows)]
    return end.join(lines) + end


@pytest.mark.parametrize(("name", "content"), [
    ("pairs.jsonl", "\ufeff" + "\r\n".join(map(json.dumps, ROWS))),
    ("pairs.json", json.dumps(ROWS)),
    ("pairs.json", json.dumps({"seq_labels": ["a"], "prompts": ROWS})),
    ("pairs.csv", as_csv(ROWS)),
    ("pairs.csv", "\ufeff" + as_csv(ROWS, ";", "\r\n")),
    ("pairs.tsv", as_csv(ROWS, "\t")),
], ids=["jsonl with a byte-order mark", "json", "json with a list in it", "csv", "semicolons", "tsv"])
def test_a_file_of_any_kind_gives_the_same_pairs(
    tmp_path: Path, words: PreTrainedTokenizerBase, name: str, content: str
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    the_same(str(tmp_path / name), words)
    the_same(tmp_path / name, words)


def test_tables_of_pandas_parquet_and_datasets_give_the_same_pairs(
    tmp_path: Path, words: PreTrainedTokenizerBase
) -> None:
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    frame = pandas.DataFrame(ROWS)
    the_same(frame, words)
    frame.to_parquet(tmp_path / "pairs.parquet")
    the_same(tmp_path / "pairs.parquet", words)
    data = datasets.Dataset.from_list(ROWS)
    the_same(data, words)
    data.save_to_disk(str(tmp_path / "stored"))
    the_same(str(tmp_path / "stored"), words)


@pytest.mark.parametrize("made", [
    lambda row: row,
    lambda row: Pair(**row),
    lambda row: tuple(row.values()),
    lambda row: list(row.values()),
    lambda row: TextPair(row["clean"], row["corrupted"], (row["answer"],), (row["wrong_answer"],)),
], ids=["dictionaries", "pairs", "tuples", "lists", "text pairs"])
def test_objects_give_the_same_pairs(words: PreTrainedTokenizerBase, made: Any) -> None:
    the_same([made(row) for row in ROWS], words)
    once = get_task(made(row) for row in ROWS)  # a generator
    assert once.pairs(words, "train").pairs == once.pairs(words, "train").pairs


def test_splits_of_a_mapping_are_the_rows_splits(words: PreTrainedTokenizerBase) -> None:
    source = {"train": ROWS[:5], "dev": ROWS[5:7], "test": ROWS[7:]}
    assert [len(pairs(source, words, split).pairs) for split in SPLITS] == [5, 2, 3]
    the_same({"train": ROWS}, words)
    with pytest.raises(ValueError, match="got a mapping with 'rest' in it"):
        pairs({"rest": ROWS}, words)


def test_pairs_of_token_ids(words: PreTrainedTokenizerBase) -> None:
    found = pairs([([1, 2, i], [1, 2, 90], [5, 6], 7) for i in range(9)], words)
    assert (found.pairs[0].answers, found.pairs[0].wrong, found.pairs[0].positions) == (((5, 6),), ((7,),), (2,))
    ready = [TokenPair((1, 2, i), (1, 2, 90), (1, 2), ((5,), (6,)), ((), (7,))) for i in range(9)]
    assert set(pairs(ready, words).pairs) <= set(ready)


def test_token_ids_as_answers_of_texts_are_said(words: PreTrainedTokenizerBase) -> None:
    found = pairs([{**row, "answer": 5, "wrong_answer": [6, 7]} for row in ROWS], words)
    assert (found.pairs[0].answers, found.pairs[0].wrong) == (((5,),), ((6, 7),))
    five = words.decode([5])
    assert f"answers: those of 10 of 10 rows are numbers, and were read as token ids (pair 1: 5 is {five!r})" in (
        found.notices
    )


# --- refused sources --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "message"), [
    (5, "expected the name of a task, a path to a file .* got int"),
    (b"ioi", "got bytes"),
    ([], "there are no pairs; expected at least three"),
    ([3], "pair 1: expected an object with the fields clean, corrupted, answer, got int"),
    ([("a",)], "pair 1: expected an object .* got tuple"),
    ([["a", 3]], "pair 1: expected an object .* got list"),
    ("x" * 5000, "expected the name of a task or a path, got a string of 5,000 characters"),
    ([{"clean": "a", "corrupted": float("nan")}], "pair 1: missing corrupted"),
    ({}, "got a mapping with nothing in it"),
    ([{"clean": "\ud800", "corrupted": "a"}], "pair 1: clean: holds half of a surrogate pair, which is no text"),
])
def test_objects_that_are_no_pairs_are_refused(words: PreTrainedTokenizerBase, source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairs(source, words)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.json", b"{", "a.json is not valid JSON"),
    ("a.json", b'{"a": 1}\n{"a": 2}', "if it has one object per line, rename it to .jsonl"),
    ("a.json", b"3", "expected a list of objects, or an object with one such list"),
    ("a.json", b'{"a": [{"x": 1}], "b": [{"x": 1}]}', "or an object with one such list"),
    ("a.json", b"[]", "there are no pairs"),
    ("a.json", b"[" * 100_000, "is not valid JSON: nested more than 100 levels deep"),
    ("a.json", b"[" * 101 + b"]" * 101, "nested more than 100 levels deep"),
    ("a.json", b'[{"clean": "\\ud800"}]', "is half of a character"),
    ("a.jsonl", b"[" * 100_000, "line 1: not valid JSON .nested more than 100 levels deep"),
    ("a.csv", b"", "expected a header with different names; got none"),
    ("a.csv", b"clean,clean\na,b", "expected a header with different names; got clean"),
    ("a.csv", b"clean,corrupted\n", "the file has no rows"),
    ("a.csv", b"clean,corrupted\na,b,c\n", "line 2: 3 values, but the header has 2 names"),
    ("a.csv", b"clean,corrupted\n\xff,b\n", "is not a UTF-8 text file"),
    ("a.csv", b'clean,corrupted\n"a,b\n', "line 2: not a table"),
    ("a.csv", b"clean,corrupted\n" + b"a" * 200_000, "not a table .field larger"),
    ("a.parquet", b"PAR1 no", "is truncated or not a Parquet file"),
    ("a.jsonl", b"\x00\x01\x02", "line 1: not valid JSON"),
])
def test_broken_files_are_refused(
    tmp_path: Path, words: PreTrainedTokenizerBase, name: str, content: bytes, message: str
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        pairs(tmp_path / name, words)


def test_a_dataset_of_the_hub_without_a_network_is_one_line(monkeypatch: Any, words: PreTrainedTokenizerBase) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"could not load the dataset hub://mib-bench/ioi: offline mode is on"):
        pairs("hub://mib-bench/ioi", words)
    with pytest.raises(ValueError, match=r"expected hub://OWNER/NAME"):
        pairs("hub://ioi", words)


def test_a_dataset_that_the_hub_does_not_have_is_asked_for_once(
    monkeypatch: Any, words: PreTrainedTokenizerBase
) -> None:
    pytest.importorskip("datasets")
    asked = []

    def no_network(self: Any, name: str, **about: Any) -> None:
        asked.append(name)
        raise ConnectionError("no route to the hub\nand more lines")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", no_network)
    with pytest.raises(ValueError, match=r"hub://a/b: no route to the hub; the hub cannot be reached: give a file"):
        pairs("hub://a/b", words)
    assert asked == ["a/b"]


@pytest.mark.parametrize(("package", "source"), [("datasets", "hub://a/b"), ("pyarrow", "a.parquet")])
def test_a_missing_extra_is_named(
    monkeypatch: Any, tmp_path: Path, words: PreTrainedTokenizerBase, package: str, source: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"install it with: pip install 'edge-pruning\[datasets\]'"):
        pairs(source, words)


# --- columns ----------------------------------------------------------------------------------------------------------

CLEAN, CORRUPTED = "The year 1710", "The year 1600"


@pytest.mark.parametrize(("row", "answer", "wrong"), [
    ({"clean": CLEAN, "corrupt": CORRUPTED, "answers": [" ran"], "wrong_answers": [" sat"]}, (" ran",), (" sat",)),
    ({"prompt": CLEAN, "counterfactual": CORRUPTED, "label": " ran"}, (" ran",), ()),
    ({"prefix": CLEAN, "corr_prefix": CORRUPTED, "pronoun": " he", "corr_pronoun": " she"}, (" he",), (" she",)),
    ({"ioi_sentences": f"{CLEAN} ran", "corr_ioi_sentences": f"{CORRUPTED} ran", "a": "ran", "b": "sat"},
     (" ran",), (" sat",)),
    ({"clean": f"{CLEAN}<predict> ran</predict>", "corrupted": f"{CORRUPTED}<predict> sat</predict>"}, (" ran",), ()),
    ({"prompt": CLEAN, "s2_io_flip_counterfactual": {"prompt": CORRUPTED},
      "metadata": {"indirect_object": "ran", "subject": "sat", "random_c": "ran"}}, (" ran",), (" sat",)),
    ({"prompt": CLEAN, "symbol_counterfactual": {"prompt": CORRUPTED, "choices": {"label": [" ran", " sat"]},
                                                 "answerKey": 1},
      "choices": {"label": [" ran", " sat"]}, "answerKey": 0}, (" ran",), (" sat",)),
], ids=["auto-circuit", "prompt and label", "Edge Pruning's pronouns", "Edge Pruning's IOI", "Edge Pruning's custom",
        "MIB's IOI", "MIB's choices"])  # fmt: skip
def test_the_columns_of_other_tools_are_known(
    words: PreTrainedTokenizerBase, row: dict[str, Any], answer: tuple[str, ...], wrong: tuple[str, ...]
) -> None:
    (text,) = pairs([{**row, "split": "train"}], words).texts
    assert text == TextPair(CLEAN, CORRUPTED, answer, wrong)


def test_token_ids_and_years_in_the_tables_of_eap_ig(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    path = tmp_path / "ioi.csv"
    path.write_text(f"clean,corrupted,corrupted_hard,correct_idx,incorrect_idx\n{CLEAN},{CORRUPTED},x,5,6\n")
    found = pairs(path, words)
    assert (found.pairs[0].answers, found.pairs[0].wrong) == (((5,),), ((6,),))
    assert "columns: corrupted_hard ignored" in found.notices
    path.write_text('clean,corrupted,answers_idx,corrupted_answers_idx\nThe cat,The dog,"[5, 6]",[7]\n')
    found = pairs(path, words)
    assert (found.pairs[0].answers, found.pairs[0].wrong) == (((5, 6),), ((7,),))
    path.write_text("clean,corrupted,correct_idx\nThe year 17,The year 16,97\n")
    found = pairs(path, words)
    assert found.texts[0].answer == ("98", "99")
    assert len(found.texts[0].wrong) == 98
    assert "columns: read as EAP-IG's greater-than" in found.notices


def test_columns_can_be_named(words: PreTrainedTokenizerBase) -> None:
    row = {"q": CLEAN, "other": {"q": CORRUPTED}, "label": " ran", "gold": " sat"}
    (text,) = pairs([row], words, columns="clean=q, corrupted=other.q, answer=gold").texts
    assert text == TextPair(CLEAN, CORRUPTED, (" sat",))
    assert pairs([row], words, columns={"clean": "q", "corrupted": "other.q", "answer": "gold"}).texts == (text,)
    with pytest.raises(ValueError, match="columns must be a string, got 5; space must be true or false, got 'yes'"):
        pairs([row], words, columns=5, space="yes")
    with pytest.raises(ValueError, match="columns: there is no column nothing; there are q, other, label, gold"):
        pairs([row], words, columns="clean=nothing")
    with pytest.raises(ValueError, match="expected FIELD=COLUMN with a field of clean, corrupted, .*; got prompt"):
        pairs([row], words, columns="prompt=q")


def test_ignored_columns_are_named_once_and_a_slip_of_the_pen_is_noticed(words: PreTrainedTokenizerBase) -> None:
    rows = [{**row, "id": i, "wrong_anser": row["wrong_answer"]} for i, row in enumerate(ROWS)]
    for row in rows:
        del row["wrong_answer"]
    ignored = [notice for notice in pairs(rows, words).notices if notice.startswith("columns")]
    assert ignored == ["columns: id, wrong_anser ignored (wrong_anser is not wrong_answer: see --columns)"]


def test_columns_that_do_not_hold_what_their_names_say_are_refused(words: PreTrainedTokenizerBase) -> None:
    row = {"prompt": CLEAN, "s2_io_flip_counterfactual": None, "metadata": {}}
    row["s2_io_flip_counterfactual"] = "text"
    with pytest.raises(ValueError, match="pair 1: its columns do not hold what their names say"):
        pairs([row], words)


# --- splits -----------------------------------------------------------------------------------------------------------


def test_an_empty_split_says_why_and_what_to_do(words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="split 'test' has no pairs: 1 usable pair are too few .* write three or more"):
        pairs(ROWS[:1], words, "test")
    one = [{**ROWS[0], "corrupted": row["clean"]} for row in ROWS[1:]]
    with pytest.raises(ValueError, match=r"9 usable pairs with 1 different clean prompt are too few .*; group=row"):
        pairs(one, words, "test")
    assert [len(pairs(one, words, split, group="row").pairs) for split in SPLITS] == [5, 2, 2]
    with pytest.raises(ValueError, match="group must be clean or row, got 'prompt'"):
        pairs(one, words, group="prompt")


def test_explicit_splits_may_share_a_prompt_where_that_is_asked_for(words: PreTrainedTokenizerBase) -> None:
    rows = [{**ROWS[0], "split": "train"}, {**ROWS[0], "corrupted": "The year 1500", "split": "test"}]
    with pytest.raises(ValueError, match="if that is meant, set group=row"):
        pairs(rows, words)
    assert len(pairs(rows, words, "test", group="row").pairs) == 1


def test_the_number_of_pairs_of_a_split_can_be_limited(words: PreTrainedTokenizerBase) -> None:
    found = pairs(ROWS, words, train=4)
    assert found.pairs == pairs(ROWS, words).pairs[:4]
    assert "train: the first 4 of 6 pairs" in found.notices
    assert "train: 6 pairs, all there are; 50 were requested" in pairs(ROWS, words, train=50).notices
    with pytest.raises(ValueError, match="train must be a number of pairs, at least 1, got 0; test .* got 1.5"):
        pairs(ROWS, words, train=0, test=1.5)


def test_rows_without_an_answer_are_taken_and_said(words: PreTrainedTokenizerBase) -> None:
    rows = [(row["clean"], row["corrupted"]) for row in ROWS]
    found = pairs(rows, words)
    assert found.pairs[0].answers == ((),)
    assert any(notice.startswith("answers: no row has an answer, so the model's own") for notice in found.notices)
    mixed = pairs([*rows[:5], *ROWS[5:]], words)
    assert any(notice.startswith("answers: 5 of 10 rows have no answer") for notice in mixed.notices)
