"""Tokenizers for the tests: the bundled one, one that has the words of all tasks, and a tiny byte-pair one that behaves
like Llama's and merges digits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE, WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from edge_pruning import tasks
from edge_pruning.models.bundled import BUNDLED

WORD = r" ?[A-Za-z]+| ?[0-9]{2}|[^A-Za-z0-9]"


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerBase:
    """The bundled model's tokenizer: whole words, nothing in front of a text."""
    return AutoTokenizer.from_pretrained(BUNDLED)


@pytest.fixture(scope="session")
def pieces() -> PreTrainedTokenizerBase:
    """Byte pairs without word boundaries, so that merges reach across spaces; <s> in front and </s> behind a text."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=275, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["of is", "of is", "is 173", "173", "cat", "cat"], trainer)
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def all_words() -> PreTrainedTokenizerBase:
    """Whole words: each that stands in the source of a task is one token, alone and after a space."""
    assert tasks.__file__ is not None
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(Path(tasks.__file__).parent.glob("*.py")))
    found = sorted({*re.findall(r"[A-Za-z]+", source), *(f"{n:02d}" for n in range(100))})
    alone = [character for character in map(chr, (10, *range(32, 127))) if not character.isalnum()]
    vocabulary = ["<unk>", *found, *(f" {word}" for word in found), *alone]
    tokenizer = Tokenizer(WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", clean_up_tokenization_spaces=False)
