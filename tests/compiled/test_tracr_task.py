"""`tracr:NAME`: all inputs of a program, with the objective that fits its output."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_pruning.loading.loading import load_model
from edge_pruning.models.tracr import bundled_programs
from edge_pruning.runs import RunConfig
from edge_pruning.runs.config import default_folder
from edge_pruning.tasks import get_task


@pytest.mark.parametrize("name", bundled_programs())
def test_the_data_is_the_whole_input_space(name: str) -> None:
    model, task = load_model(f"tracr:{name}"), get_task(f"tracr:{name}")
    train, test = (task.pairs(model.tokenizer, split) for split in ("train", "test"))
    assert train.pairs == test.pairs
    assert train.hash == test.hash
    program = model.tokenizer
    every = sum(len(program.vocabulary) ** n for n in range(1, program.max_length + 1))
    assert every - len(program.vocabulary) <= len(train.pairs) <= every  # some answer nothing to a single value
    assert len({pair.clean for pair in train.pairs}) == len(train.pairs)
    assert all(pair.corrupted != pair.clean and 0 not in pair.positions for pair in train.pairs)
    assert train.objective == ("kl" if program.categorical else "squared_error")


def test_answers_are_the_programs() -> None:
    model = load_model("tracr:reverse")
    data = get_task("tracr:reverse").pairs(model.tokenizer, "test")
    texts = {text.clean: text.answer[0] for text in data.texts}
    assert texts["a b c"] == "c b a"
    assert len(texts) == 39
    assert data.notices == ("inputs: all 39 of them, the same in every split",)


def test_corrupted_inputs_depend_on_the_seed_only() -> None:
    model = load_model("tracr:hist")
    first, again, other = (get_task("tracr:hist", seed=seed).pairs(model.tokenizer, "test") for seed in (0, 0, 1))
    assert first.pairs == again.pairs != other.pairs


def test_inputs_of_ones_own() -> None:
    model = load_model("tracr:reverse")
    task = get_task("tracr:reverse", inputs=[["a", "b"], ["b", "c"]])
    assert [text.answer for text in task.pairs(model.tokenizer, "test").texts] == [("b a",), ("c b",)]
    with pytest.raises(ValueError, match=r"2 of 3 inputs do not fit: \['z'\]: unknown 'z'; .*: 4 values"):
        get_task("tracr:reverse", inputs=[["a"], ["z"], ["a", "a", "b", "b"]])
    with pytest.raises(ValueError, match=r"inputs must be a list of lists .*, got 'mine.jsonl'"):
        get_task("tracr:reverse", inputs="mine.jsonl")


def test_a_program_is_the_only_model_of_its_task() -> None:
    task = get_task("tracr:reverse")
    with pytest.raises(ValueError, match="task 'tracr:reverse' is the program itself, not the program 'hist'"):
        task.pairs(load_model("tracr:hist").tokenizer, "test")
    with pytest.raises(ValueError, match="is the program itself, not a language model"):
        task.pairs(object(), "test")
    with pytest.raises(ValueError, match="'reverse' reads values, not text"):
        get_task("ioi").pairs(load_model("tracr:reverse").tokenizer, "test")


def test_unknown_programs_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="no compiled program 'tracr:revers'; nearest: reverse"):
        get_task("tracr:revers")
    with pytest.raises(ValueError, match="task 'tracr' has no setting train; its settings are"):
        get_task("tracr:reverse", train=10)


def test_a_program_brings_its_own_defaults() -> None:
    config = RunConfig.of({"task": "tracr:hist"})
    assert (config.model, config.ablation, config.embeddings) == ("tracr:hist", "zero", "split")
    assert config.method_value.name == "iterative-pruning"
    assert default_folder({"task": "tracr:hist"}) == Path("runs", "tracr-hist")
    other = RunConfig.of({"task": "tracr:hist", "method": "eap-ig", "ablation": "patch"})
    assert (other.method_value.name, other.ablation) == ("eap-ig", "patch")
    assert RunConfig.of({"task": "ioi"}).model == "bundled"
