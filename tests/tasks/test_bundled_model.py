"""The model that ships with the library loads offline, is small, and solves the tasks on what they hold out."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from edge_pruning.batch import Batch
from edge_pruning.models.bundled import BUNDLED
from edge_pruning.tasks import get_task, task_names


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32).eval()


def test_the_folder_is_small_and_has_a_model_card() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.iterdir() if path.is_file()) < 5e6
    card = (BUNDLED / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert "python scripts/train_bundled_model.py" in card


@torch.no_grad()
@pytest.mark.parametrize("name", task_names())
def test_the_tasks_are_solved_on_their_test_splits(
    name: str, model: PreTrainedModel, words: PreTrainedTokenizerBase
) -> None:
    batch = Batch.of(get_task(name, test=100).pairs(words, "test").pairs)
    clean = model(batch.clean).logits.flatten(0, 1)[batch.rows].log_softmax(-1)
    corrupted = model(batch.corrupted).logits.flatten(0, 1)[batch.rows].log_softmax(-1)
    right, wrong = (_probability(clean, tokens) for tokens in (batch.answers, batch.wrong))
    assert (right > wrong).float().mean() >= 0.97
    assert (clean.exp() * (clean - corrupted)).sum(-1).mean() > 0.5  # nats: the corrupted run is another one


def _probability(logp: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The summed probability of the tokens of each row; -1 fills the rows up."""
    return logp.gather(1, tokens.clamp(min=0)).exp().masked_fill(tokens < 0, 0).sum(-1)


def test_text_of_the_world_survives_encoding_and_decoding() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
    text = "Then Mary and John drove to the store. The war lasted from the year 1732 to the year 1745."
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids
    assert {" Mary", " 17", "32"} <= set(tokenizer.convert_ids_to_tokens(ids))
