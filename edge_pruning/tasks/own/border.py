"""The border between a prompt and its answer: how it is tokenised, and notices about possible mistakes.

Text is changed in one case only, where the tokens of the whole text leave no doubt: a space at the end of a prompt that
its tokenizer joins to the answer (`is ` + `Paris` becomes `is` + ` Paris`). Other unusual forms are left as they are,
with a notice that shows the tokens of one row: a model has mostly seen the usual form, and the circuit for an unusual
form is a different one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.own.problems import Notices

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKUP = re.compile(r"<\|[\w-]+\|>|\[/?INST\]|</?s>|<(?:start|end)_of_turn>|\[(?:CLS|SEP|MASK)\]")
MOVED = "prompts: the space at the end of {n} rows belongs to the answer, and was moved there"
TAIL = 4  # number of prompt tokens shown before the answer


def settle(text: TextPair, encoder: Encoder, number: int, notices: Notices, *, space: bool, chat: bool) -> TextPair:
    """Return the text as it is tokenised, with notices about possible mistakes.

    space: whether every answer that begins without a space gets one.
    chat: the text is a rendered chat, so its special tokens and spaces are those of its template.
    """
    if chat:
        return text
    if space:
        text = _with_spaces(text)
    moved = _moved_space(text, encoder)
    settled = text if moved is None else moved
    for words in ([] if moved is None else [MOVED]) + _oddities(settled, encoder):
        notices.add(words, number, lambda: tokens_in_words(encoder, settled))
    return settled


def tokens_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Return the text of each token with its spaces. Joined, they are the text."""
    tokens, before = [], ""
    for end in range(1, len(ids) + 1):
        whole = str(tokenizer.decode(list(ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        tokens.append(whole.removeprefix(before) if whole.startswith(before) else str(tokenizer.decode([ids[end - 1]])))
        before = whole
    return tokens


def tokens_in_words(encoder: Encoder, text: TextPair) -> str:
    """Return the end of a clean prompt and its first answer: `| capital| is|| Paris|`."""
    prompt = encoder.encode(text.clean)
    whole = encoder.encode(text.clean + text.answer[0]) if text.answer else prompt
    shown = tokens_of(encoder.tokenizer, whole)
    same = len(prompt) if whole[: len(prompt)] == prompt else len(whole)
    begin = max(0, same - TAIL)
    words = f"|{'|'.join(shown[begin:same])}|" + (f"|{'|'.join(shown[same:])}|" if shown[same:] else "")
    return printable(words)


def printable(text: str) -> str:
    """Return the text with line breaks and other control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


# --- spaces -----------------------------------------------------------------------------------------------------------


def _with_spaces(text: TextPair) -> TextPair:
    answer, wrong = (
        tuple(a if a[:1].isspace() else f" {a}" for a in answers) for answers in (text.answer, text.wrong)
    )
    return replace(text, answer=answer, wrong=wrong)


def _moved_space(text: TextPair, encoder: Encoder) -> TextPair | None:
    """Move the last space of the prompt to the answers, if only that gives the answers their own tokens."""
    answers = text.answer + text.wrong
    ends = text.clean.endswith(" ") and text.corrupted.endswith(" ")
    if not ends or not answers or any(answer[:1].isspace() for answer in answers):
        return None
    if all(encoder.continuation(text.clean, answer) for answer in answers):
        return None
    clean, corrupted = (prompt.removesuffix(" ") for prompt in (text.clean, text.corrupted))
    if not clean or not corrupted or not all(encoder.continuation(clean, f" {answer}") for answer in answers):
        return None
    answer, wrong = (tuple(f" {a}" for a in answers) for answers in (text.answer, text.wrong))
    return replace(text, clean=clean, corrupted=corrupted, answer=answer, wrong=wrong)


# --- possible mistakes ------------------------------------------------------------------------------------------------


def _oddities(text: TextPair, encoder: Encoder) -> list[str]:
    notices = []
    last, first = text.clean[-1:], [answer[:1] for answer in text.answer]
    if last.isalpha() and any(character.isalpha() and character.isascii() for character in first):
        notices.append(
            "answers: {n} rows join the answer to the last word of the prompt; if a new word begins there, write it "
            "with its space, or set space=true (--data space=true)"
        )
    if last.isspace() and any(character.isspace() for character in first):
        notices.append("answers: {n} rows have a space at the end of the prompt and at the beginning of the answer")
    elif last == " " and not text.answer:
        notices.append("prompts: {n} rows end with a space; the model then predicts what follows a lone space")
    return notices + _odd_tokens(text, encoder)


def _odd_tokens(text: TextPair, encoder: Encoder) -> list[str]:
    notices, special = [], special_tokens(encoder, text.clean)
    beginning = encoder.tokenizer.bos_token
    if beginning and text.clean.startswith(beginning) and encoder.begins_itself:
        notices.append(f"prompts: {{n}} rows already begin with {beginning}, so it is not added again")
    if special:
        names = ", ".join(dict.fromkeys(special))
        notices.append(f"prompts: {{n}} rows contain spelled-out special tokens ({names}); they are read as such")
    markup = list(dict.fromkeys(MARKUP.findall(text.clean)))
    as_text = [mark for mark in markup if mark not in encoder.tokenizer.get_added_vocab()]
    if as_text:
        notices.append(f"prompts: {{n}} rows hold {', '.join(as_text)}, which is plain text in this tokenizer")
    return notices


def special_tokens(encoder: Encoder, text: str) -> list[str]:
    """Return the special tokens in a text, after its beginning."""
    ids = encoder.encode(text)[len(encoder.start) :]
    ids_of_special = [i for i in ids if i in encoder.special]
    named: Any = encoder.tokenizer.convert_ids_to_tokens(ids_of_special) if ids_of_special else []
    return list(named)
