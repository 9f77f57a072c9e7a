"""Tiny byte-pair tokenizers that have no words longer than a letter, and differ in how they split numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

LETTERS = [chr(n) for n in range(33, 127)]
DIGITS = "0123456789"
SPACE, NEWLINE = "\u0120", "\u010a"  # how byte-level tokenizers write them


def splitting_numbers(kind: str, *, whole_years: Sequence[str] = ()) -> PreTrainedTokenizerBase:
    """A tokenizer that has every letter, and splits " 1732" as `kind` says.

    pairs: [" 17"]["32"], as GPT-2's. digits: [" "]["1"]["7"]["3"]["2"], as SmolLM's and Qwen's. sentencepiece: the
    same with "▁" for spaces and one in front of every text, as Llama 2's. triples: [" "]["173"]["2"], as Llama 3's.
    none: digits are not in its vocabulary. initials: words begin with the space and their first letter as one token.
    whole_years: with `pairs`, years that are one token with their space.
    """
    marked = "\u2581" if kind == "sentencepiece" else SPACE
    letters = [letter for letter in LETTERS if not (kind == "none" and letter.isdigit())]
    merges = [*MERGES.get(kind, list)(), *((SPACE + year[:2], year[2:]) for year in whole_years)]
    vocabulary = dict.fromkeys([marked, NEWLINE, "<unk>", *letters, *(a + b for a, b in merges)])
    model = BPE({token: i for i, token in enumerate(vocabulary)}, merges, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    if kind == "sentencepiece":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(marked, "first", split=False)
        tokenizer.decoder = decoders.Metaspace(marked, "first", split=False)
    else:
        number = r"\p{N}{1,3}" if kind == "triples" else r" ?\p{N}+"
        pieces = pre_tokenizers.Split(Regex(rf"{number}| ?[^ \p{{N}}]+| "), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(False, use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", clean_up_tokenization_spaces=False)


def _pairs() -> list[tuple[str, str]]:
    """Merges into two digits, and into a space and two digits."""
    two = list(itertools.product(DIGITS, DIGITS))
    return [*two, *((SPACE, a + b) for a, b in two)]


def _triples() -> list[tuple[str, str]]:
    """Merges into two and into three digits, whichever two of three were merged first."""
    two, three = list(itertools.product(DIGITS, DIGITS)), list(itertools.product(DIGITS, DIGITS, DIGITS))
    return [*two, *((a + b, c) for a, b, c in three), *((a, b + c) for a, b, c in three)]


def _initials() -> list[tuple[str, str]]:
    return [(SPACE, letter) for letter in LETTERS]


MERGES: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "pairs": _pairs, "triples": _triples, "initials": _initials,
}
