"""Tokenizers for the tests: the bundled one, and a tiny byte-pair one that behaves like Llama's and merges digits."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from edge_pruning.models.bundled import BUNDLED


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
