"""The model that ships with the library loads offline, is small, solves the tasks on what they hold out, and its card
says so truly."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from edge_pruning.batch import Batch
from edge_pruning.models.bundled import BUNDLED
from edge_pruning.tasks import PairSet, get_task

CARD = (BUNDLED / "README.md").read_text(encoding="utf-8")
TOP1 = {"ioi": 0.97, "ioi-t1": 0.97, "greater-than": 0.97, "gendered-pronoun": 0.60}


@dataclass(frozen=True)
class Solved:
    accuracy: float  # the right answer, or all right ones together, beats the wrong
    top1: float  # the most probable token is right
    kl: float  # of the corrupted run from the clean run, in nats


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32).eval()


@torch.no_grad()
def solve(model: PreTrainedModel, data: PairSet) -> Solved:
    batch = Batch.of(data.pairs)
    clean = model(batch.clean).logits.flatten(0, 1)[batch.positions].log_softmax(-1)
    corrupted = model(batch.corrupted).logits.flatten(0, 1)[batch.positions].log_softmax(-1)
    right, wrong = (_probability(clean, tokens) for tokens in (batch.answers, batch.wrong))
    return Solved(
        accuracy=(right > wrong).double().mean().item(),
        top1=(clean.argmax(-1, keepdim=True) == batch.answers).any(-1).double().mean().item(),
        kl=(clean.exp() * (clean - corrupted)).sum(-1).mean().item(),
    )


def _probability(logp: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The summed probability of the tokens of each row; -1 fills the rows up."""
    return logp.gather(1, tokens.clamp(min=0)).exp().masked_fill(tokens < 0, 0).sum(-1)


def test_the_folder_is_small_and_has_a_model_card() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.iterdir() if path.is_file()) < 5e6
    assert "license: apache-2.0" in CARD
    assert "python scripts/train_bundled_model.py" in CARD


@pytest.mark.parametrize("name", TOP1)
def test_the_tasks_are_solved_on_their_test_splits_as_the_card_says(
    name: str, model: PreTrainedModel, words: PreTrainedTokenizerBase
) -> None:
    solved = solve(model, get_task(name).pairs(words, "test"))
    assert solved.accuracy >= 0.99
    assert solved.top1 >= TOP1[name]
    assert solved.kl > 0.5  # the corrupted run is another one
    _, accuracy, top1, _, kl = (cell.strip(" %") for cell in _card_row(name).split("|"))
    assert float(accuracy) == pytest.approx(100 * solved.accuracy, abs=0.25)  # another machine may round one pair away
    assert float(top1) == pytest.approx(100 * solved.top1, abs=0.45)
    assert float(kl) == pytest.approx(solved.kl, abs=0.02)


def _card_row(name: str) -> str:
    row = re.search(rf"\| `{name}` \| (.*) \|\n", CARD)
    assert row is not None
    return row[1]


@pytest.mark.parametrize("name", TOP1)
def test_the_training_and_validation_splits_are_solved_too(
    name: str, model: PreTrainedModel, words: PreTrainedTokenizerBase
) -> None:
    data = get_task(name, train=100, validation=100)
    assert solve(model, data.pairs(words, "train")).accuracy >= 0.99
    assert solve(model, data.pairs(words, "validation")).accuracy >= 0.97


def test_text_of_the_world_survives_encoding_and_decoding() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
    text = "Then Mary and John drove to the store. The war lasted from the year 1732 to the year 1745."
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids
    assert {" Mary", " 17", "32"} <= set(tokenizer.convert_ids_to_tokens(ids))
