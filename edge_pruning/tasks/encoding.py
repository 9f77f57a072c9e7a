"""From text to token ids: a pair's prompts, and its answers as the continuation of the prompt.

    ids(prompt + answer) = ids(prompt) + ids of the answer

An answer's tokens depend on its prompt: " Mary" after a prompt can be another token than "Mary", and some tokenizers
merge the end of a prompt with the beginning of its answer. Prompt and answer are therefore tokenised together, and an
answer that changes the tokens of its prompt is refused, because the model never sees such tokens in running text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edge_pruning.answer_tree import AnswerTree, Ids, without_longer
from edge_pruning.pair import Pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TextPair:
    """A pair as text. Prompt and answer are concatenated as they are, so an answer includes its leading space:
    " Mary".

    answer: any of these counts as right; empty if the model's own prediction does.
    wrong: any of these counts as wrong; empty if no answer in particular is wrong.
    template: the pattern of the pair, so that results can be broken down by it.
    """

    clean: str
    corrupted: str
    answer: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    template: str = ""

    @property
    def shown(self) -> dict[str, Any]:
        """Return the texts of the pair for a page, as plain JSON values."""
        return {
            "clean": self.clean, "corrupted": self.corrupted, "answer": list(self.answer), "wrong": list(self.wrong),
            "template": self.template,
        }

    @property
    def strings(self) -> list[str]:
        """Every text that has to be tokenised for this pair."""
        return [self.clean, self.corrupted, *(self.clean + answer for answer in self.answer + self.wrong)]


class UnequalLengths(ValueError):
    """The prompts of a pair differ in length, so values cannot be exchanged position by position."""

    def __init__(self, clean: int, corrupted: int) -> None:
        super().__init__(f"the prompts have {clean} and {corrupted} tokens")
        self.clean, self.corrupted = clean, corrupted


class Encoder:
    """A tokenizer for tasks. `notices` lists what had to be left out because of it.

    bos: whether the beginning-of-text token precedes every text; None: the tokenizer's default.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, what: str = "this task", *, bos: bool | None = None
    ) -> None:
        self.tokenizer, self.what = tokenizer, what
        self.notices: list[str] = []
        self._cache: dict[str, Ids] = {}
        self.start = self._tokens_before_text() if bos is None else self._beginning() if bos else ()

    @cached_property
    def special(self) -> set[int]:
        """The ids of special tokens, without the unknown token."""
        return set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}

    def _beginning(self) -> Ids:
        if self.tokenizer.bos_token_id is None:
            raise ValueError(f"{self.what}: bos=true, but this tokenizer has no beginning-of-text token")
        return (self.tokenizer.bos_token_id,)

    def _tokens_before_text(self) -> Ids:
        """The tokens that the tokenizer puts before every text by default: Llama's <s>, none for GPT-2."""
        with_specials = list(self.tokenizer("a").input_ids)
        bare = list(self.tokenizer("a", add_special_tokens=False).input_ids)
        for start in range(len(with_specials) - len(bare) + 1):
            if with_specials[start : start + len(bare)] == bare:
                return tuple(with_specials[:start])
        raise ValueError(f"{self.what}: this tokenizer changes a text's own tokens when it adds special tokens")

    def prepare(self, texts: Iterable[str]) -> None:
        """Tokenise texts that will be needed in one call, which is several times faster than one by one."""
        new = list(dict.fromkeys(text for text in texts if text not in self._cache))
        if new:
            ids = self.tokenizer(new, add_special_tokens=False, return_attention_mask=False).input_ids
            self._cache.update((text, self._begun(tuple(i))) for text, i in zip(new, ids, strict=True))

    def forget(self) -> None:
        """Drop all tokenised texts, so that many texts do not need much memory."""
        self._cache.clear()

    def encode(self, text: str) -> Ids:
        """Return the token ids of a text, with the tokens that the tokenizer puts before it by default."""
        if text not in self._cache:
            self._cache[text] = self._begun(self.bare(text))
        return self._cache[text]

    def bare(self, text: str) -> Ids:
        """Return the token ids of a text alone."""
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    @property
    def begins_itself(self) -> bool:
        """Whether a token precedes every text."""
        return bool(self.start)

    def _begun(self, ids: Ids) -> Ids:
        """Prepend the initial tokens to a text's tokens, unless the text contains them already."""
        return ids if self.start and ids[: len(self.start)] == self.start else self.start + ids

    def knows(self, text: str) -> bool:
        """Return whether a text has no unknown token."""
        return self._known(self.encode(text))

    def _known(self, ids: Ids) -> bool:
        return self.tokenizer.unk_token_id is None or self.tokenizer.unk_token_id not in ids[len(self.start) :]

    def unknown_words(self, *texts: str) -> list[str]:
        """Return the words of these texts that the tokenizer has no token for."""
        if all(map(self.knows, texts)) or not self.tokenizer.is_fast:
            return []
        words = []
        for text in texts:
            encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            places = zip(encoded.input_ids, encoded.offset_mapping, strict=True)
            words += [text[start:end].strip() for token, (start, end) in places if token == self.tokenizer.unk_token_id]
        return list(dict.fromkeys(word for word in words if word))

    def continuation(self, prompt: str, answer: str) -> Ids | None:
        """Return the tokens of an answer after its prompt; None if it changes the tokens of the prompt, or adds none.
        """
        before, both = self.encode(prompt), self.encode(prompt + answer)
        return both[len(before) :] if len(both) > len(before) and both[: len(before)] == before else None

    def beginning(self, prompt: str, answer: str) -> str | None:
        """Return the text of an answer's first token after its prompt; None if it cannot be a single known token there.
        """
        ids, before = self.continuation(prompt, answer), self.encode(prompt)
        if ids is None:
            return None
        # Some tokenizers drop the space of a token that is decoded alone, so it is decoded after its prompt.
        text = self.tokenizer.decode([*before, ids[0]]).removeprefix(self.tokenizer.decode(before))
        return text if self.is_single(text, after=prompt) else None

    def shared_beginning(self, prompt: str, answers: Sequence[str]) -> str:
        """The text of the tokens that all answers begin with after their prompt; empty if they differ at once."""
        ids, before = [self.continuation(prompt, answer) for answer in answers], self.encode(prompt)
        shared: list[int] = []
        for tokens in zip(*((one or ())[:-1] for one in ids), strict=False):
            if len(set(tokens)) > 1:
                break
            shared.append(tokens[0])
        if not shared or len(set(answers)) < 2:
            return ""
        text = self.tokenizer.decode([*before, *shared]).removeprefix(self.tokenizer.decode(before))
        whole = self.encode(prompt + text) == (*before, *shared) and all(answer.startswith(text) for answer in answers)
        return text if whole else ""

    def follows(self, word: str, *, after: str) -> bool:
        """Return whether a word (with its space) has known tokens of its own inside a text."""
        ids = self.continuation(after, word)
        return ids is not None and self._known(ids)

    def is_single(self, word: str, *, after: str = "Then") -> bool:
        """Return whether a word (with its space) is one known token inside a text."""
        ids = self.continuation(after, word)
        return ids is not None and len(ids) == 1 and self._known(ids)

    def keep_single(self, words: Sequence[str], kind: str, *, least: int) -> list[str]:
        """Return the words that are single tokens after a space. Raises ValueError if there are fewer than `least`."""
        kept = [word for word in words if self.is_single(" " + word)]
        self.report(kind, kept, words, "are single tokens in this tokenizer", least=least)
        return kept

    def report(self, kind: str, kept: Sequence[object], words: Sequence[object], verdict: str, *, least: int) -> None:
        """Note how many words are left, if some are left out. Raises ValueError if there are too few."""
        if len(kept) < least:
            raise ValueError(
                f"{self.what} needs at least {least} {kind}, but only {len(kept)} of {len(words)} {verdict}"
            )
        if len(kept) < len(words):
            self.notices.append(f"{kind}: {len(kept)} of {len(words)} {verdict}; the others are left out")

    # --- pairs -----------------------------------------------------------------------------------------------------

    def pair(
        self,
        text: TextPair,
        right: Mapping[Ids, str] | None = None,
        wrong: Mapping[Ids, str] | None = None,
        *,
        whole: bool = False,
    ) -> Pair:
        """Encode a pair. An answer of several tokens is teacher-forced: the prompts end with all but its last token.

        right, wrong: answers that are token ids, beside those of the text, and what they say.
        whole: as for `pair_of_ids`.
        """
        clean, corrupted = self.encode(text.clean), self.encode(text.corrupted)
        if len(clean) != len(corrupted):
            raise UnequalLengths(len(clean), len(corrupted))
        if clean == corrupted:
            raise ValueError(f"the clean and the corrupted prompt have the same tokens{self._because(text)}")
        answers, others = ({self._answer(text.clean, a): a for a in of} for of in (text.answer, text.wrong))
        answers, others = answers | dict(right or {}), others | dict(wrong or {})
        return pair_of_ids(clean, corrupted, answers, others, text.template, whole=whole)

    def _because(self, text: TextPair) -> str:
        unknown = self.unknown_words(text.clean, text.corrupted)
        names = ", ".join(map(repr, unknown[:5]))
        return f", because this tokenizer has no token for {names}; use a model that knows these words" if names else ""

    def _answer(self, prompt: str, answer: str) -> Ids:
        ids = self.continuation(prompt, answer)
        if ids is None:
            raise ValueError(
                f"the answer {answer!r} merges with the end of its prompt {prompt[-20:]!r} into other tokens; "
                "end the prompt with a whole word and begin the answer with the space"
            )
        if not self._known(ids):
            raise ValueError(f"the answer {answer!r} is not in the vocabulary of this tokenizer")
        return ids


def pair_of_ids(
    clean: Ids,
    corrupted: Ids,
    right: Mapping[Ids, str],
    wrong: Mapping[Ids, str],
    template: str = "",
    *,
    whole: bool = False,
) -> Pair:
    """Return a pair from prompts of equal length and answers, which are given with their texts.

    Right answers that differ before their last token form a tree (`answer_tree.py`). Otherwise all tokens but the last
    are put behind both prompts. Raises ValueError if a wrong answer and a right one never differ.

    whole: all answers of several tokens form a tree.
    """
    answers = without_longer(right)
    several = whole and any(len(ids) > 1 for ids in (*answers, *wrong))
    if answers and (several or len({ids[:-1] for ids in answers}) > 1):
        tree = AnswerTree.of(right, wrong)
        positions = tuple(len(clean) - 1 + len(prefix) for prefix in tree.prefixes)
        return Pair(clean, corrupted, positions, tree.answers, tree.wrong, template, tree.prefixes)
    forced = answers[0][:-1] if answers else ()
    by_position = (*((token,) for token in forced), tuple(ids[-1] for ids in answers))
    positions = tuple(range(len(clean) - 1, len(clean) + len(forced)))
    others = _wrong_by_position(by_position, wrong)
    return Pair(clean + forced, corrupted + forced, positions, by_position, others, template)


def _wrong_by_position(right: tuple[Ids, ...], wrong: Mapping[Ids, str]) -> tuple[Ids, ...]:
    """List wrong answers by position: each counts where it first differs from the right one, because before that they
    are the same.
    """
    compared: list[dict[int, None]] = [{} for _ in right]
    for ids, word in wrong.items():
        for n, (token, accepted) in enumerate(zip(ids, right, strict=False)):
            if token not in accepted:
                compared[n][token] = None
                break
        else:
            raise ValueError(f"the wrong answer {word!r} and the answer begin with the same tokens and never differ")
    return tuple(tuple(tokens) for tokens in compared)


def whole_answers(pair: Pair, by_position: tuple[Ids, ...]) -> tuple[Ids, ...]:
    """Return answers in full, from the tokens that complete them at each node, or else at the first position."""
    if not pair.prefixes:
        return tuple((token,) for token in by_position[0])
    return tuple((*prefix, token) for prefix, of in zip(pair.prefixes, by_position, strict=True) for token in of)
