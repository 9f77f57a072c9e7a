"""Prompts as chats, through the tokenizer's own template; and who puts the beginning-of-text token in front."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from edge_pruning.models.bundled import BUNDLED
from edge_pruning.tasks import Encoder, get_task
from edge_pruning.tasks.chat import Chat

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' and not loop.first %}{{ raise_exception('system comes first') }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] }}{% if not loop.last or add_generation_prompt %}; {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
ROW = {"clean": "ab", "corrupted": "cb", "answer": " z"}


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.fixture
def talking(pieces: PreTrainedTokenizerBase) -> Any:
    tokenizer = type(pieces)(tokenizer_object=pieces.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row | {"split": "train"}) for row in rows))
    return str(path)


def texts(path: str, tokenizer: Any, **settings: Any) -> Any:
    return get_task(path, chat=True, **settings).pairs(tokenizer, "train")


def test_a_text_is_what_the_user_says_and_the_answer_begins_the_reply(talking: Any, tmp_path: Path) -> None:
    found = texts(write(tmp_path, ROW), talking)
    (text,), (pair,) = found.texts, found.pairs
    assert (text.clean, text.answer) == ("<s>[user] ab; [assistant] ", ("z",))
    assert talking.decode(pair.clean) == text.clean
    assert pair.clean.count(talking.bos_token_id) == 1
    assert talking.decode(pair.answers[0]) == "z"


def test_messages_hold_instructions_and_the_beginning_of_the_reply(talking: Any, tmp_path: Path) -> None:
    clean, corrupted = ([said("system", "s"), said("user", u), said("assistant", "well,")] for u in "ac")
    (text,) = texts(write(tmp_path, ROW | {"clean": clean, "corrupted": corrupted}), talking).texts
    assert text.clean == "<s>[system] s; [user] a; [assistant] well,"
    assert text.answer == (" z",)


def test_generated_tasks_can_be_chats_too(talking: Any) -> None:
    words = AutoTokenizer.from_pretrained(BUNDLED)
    words.chat_template = "{% for m in messages %}{{ m['content'] }} .{% endfor %}"
    pairs = get_task("gendered-pronoun", train=3, chat=True).pairs(words, "train")
    assert all(text.clean.endswith(" .") and not text.answer[0].startswith(" ") for text in pairs.texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clean": [said("user", "a"), said("system", "b")]}, "line 1: the chat template refuses .* comes first"),
        ({"clean": [said("user", "a"), said("assistant", "b")]}, "line 1: one prompt ends with a message of the assis"),
        ({"clean": [{"role": "user"}]}, r"line 1: clean: expected a string or a list of messages \(role, content\)"),
        ({"clean": []}, r"line 1: clean: expected a string or a list of messages \(role, content\)"),
    ],
)
def test_messages_that_make_no_chat_are_refused(
    changes: dict[str, Any], message: str, talking: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        texts(write(tmp_path, ROW | changes), talking)


def test_messages_need_chat_and_chat_needs_a_template(pieces: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    path = write(tmp_path, ROW | {"clean": [said("user", "a")]})
    with pytest.raises(ValueError, match=r"line 1: these prompts are lists of messages, which need --chat"):
        get_task(path).pairs(pieces, "train")
    with pytest.raises(ValueError, match="this tokenizer has no chat template, so pairs cannot be written as messages"):
        texts(path, pieces)


def test_the_date_in_a_template_is_always_the_same(talking: Any) -> None:
    talking.chat_template = "{{ date_string }}"
    assert Chat(talking, "").prompt("a") == "26 Jul 2024"


# --- the beginning of text -------------------------------------------------------------------------------------------


def test_the_beginning_is_the_tokenizers_choice_unless_it_is_said(pieces: PreTrainedTokenizerBase) -> None:
    begun, bare = (Encoder(pieces, bos=bos).encode("cat") for bos in (True, False))
    assert begun == (pieces.bos_token_id, *bare)
    assert Encoder(pieces).encode("cat") == begun


def test_a_beginning_that_does_not_exist_is_refused() -> None:
    words = AutoTokenizer.from_pretrained(BUNDLED)
    words.bos_token = None
    with pytest.raises(ValueError, match="task 'ioi': bos=true, but this tokenizer has no beginning-of-text token"):
        get_task("ioi", bos=True).pairs(words, "train")
