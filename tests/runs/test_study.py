"""`edge-pruning study`: two settings, each circuit judged in both, overlaps beside those of seeds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from random_models import config_of, random_model
from tokenizers import Regex, Tokenizer, decoders
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

import edge_pruning as ep
from edge_pruning.compare_groups import GroupComparison
from edge_pruning.evaluation import evaluate
from edge_pruning.loading import load_model
from edge_pruning.runs import Study, seeds
from edge_pruning.runs.config import RunConfig
from edge_pruning.runs.pipeline import setup_of
from edge_pruning.runs.two_settings import names_of
from edge_pruning.tasks.boolean_expressions import BooleanExpressions

RECIPES = Path(__file__).parents[2] / "recipes"
SHORT = ("--steps", 8, "--edges", 12, "--seeds", 2)


@pytest.fixture(scope="module")
def other_pairs(pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs with clean and corrupted prompts, and right and wrong answers, exchanged."""
    path = tmp_path_factory.mktemp("other") / "other <b>.jsonl"
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    swapped = [
        {"clean": row["corrupted"], "corrupted": row["clean"], "answer": row["wrong_answer"],
         "wrong_answer": row["answer"]} for row in rows
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in swapped))
    return path


@pytest.fixture
def study(cli, model_folder, pairs_file, other_pairs, tmp_path):
    def run(*arguments: object):
        return cli(
            "study", pairs_file, "--against", other_pairs, "--model", model_folder, "--out", tmp_path / "study",
            "--anyway", *arguments,
        )

    return run


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_study_judges_each_circuit_in_both_settings(study, pairs_file, other_pairs, model_folder, tmp_path):
    result = study(*SHORT)
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "study"
    loaded = Study.load(folder)
    content, names = loaded.content, loaded.names
    assert names == (pairs_file.name, other_pairs.name)
    first, second = loaded.circuits
    assert (len(first), len(second)) == (12, 12)
    both = {"intersection": first & second, "union": first | second}
    circuits = {**dict(zip(names, (first, second), strict=True)), **both}
    model = load_model(model_folder)
    for name, task in zip(names, (pairs_file, other_pairs), strict=True):
        setup = setup_of(RunConfig(task=str(task), model=str(model_folder)), model)
        for run, circuit in circuits.items():
            judged, row = evaluate(circuit, setup, random_circuits=0).circuit, content["judged"][name]["runs"][run]
            assert {key: row[key] for key in ("kl", "accuracy", "exact_match", "faithfulness")} == pytest.approx(
                {key: judged.mean[key] for key in ("kl", "accuracy", "exact_match", "faithfulness")}, rel=1e-5
            )
    groups = {name: [run.circuit for run in side.runs] for name, side in zip(names, loaded.sides, strict=True)}
    expected = GroupComparison(groups, dict(zip(names, loaded.circuits, strict=True))).to_json()
    assert content["comparison"] == json.loads(json.dumps(expected))
    shown = " ".join(result.stdout.split())
    for words in ("edges of both", "edges of either", "across the settings, one seed of each", "random edges",
                  *content["findings"][1:]):
        assert words[1:] in shown
    page = (folder / "study.html").read_text()
    assert "<b>" not in page
    assert "pairs.jsonl and other &lt;b&gt;.jsonl in model" in page
    assert (folder / "circuits.html").exists()
    assert (folder / "study.svg").exists()


class Killed(Exception):
    pass


def test_a_killed_study_goes_on_where_it_was(study, tmp_path, monkeypatch):
    """Killed when the second setting's first seed was done."""
    calls = []

    def killed(*arguments, real=seeds.run_in, **options):
        calls.append(1)
        if len(calls) == 4:
            raise Killed
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(seeds, "run_in", killed)
        assert isinstance(study(*SHORT).exception, Killed)
    folder = tmp_path / "study"
    before = contents(folder / "a")
    assert not (folder / "study.json").exists()
    result = study(*SHORT, "--resume")
    assert result.exit_code == 0, result.stderr
    assert contents(folder / "a") == before
    resumed = {name: data for name, data in contents(folder).items() if name.suffix == ".json"}
    assert study(*SHORT, "--resume").stdout == result.stdout
    assert study(*SHORT, "--overwrite").exit_code == 0
    assert {name: data for name, data in contents(folder).items() if name.suffix == ".json"} == resumed
    assert "seeds: 2 in the run, 3 now" in study(*SHORT[:-1], 3, "--resume").stderr


def test_styles_of_a_task_are_two_settings():
    first, second = (RunConfig(task="capitals", data={"style": style}) for style in ("few-shot", "instruction"))
    assert names_of(first, second) == ("style=few-shot", "style=instruction")
    assert names_of(RunConfig(task="ioi"), RunConfig(task="ioi", model="gpt2")) == ("bundled", "gpt2")


@pytest.mark.parametrize(("arguments", "expected"), [
    ((), "both settings are the same; give a difference"),
    (("--against", "gendered-pronoun", "--against", "ioi-t1"), "names 2 tasks, gendered-pronoun and ioi-t1"),
    (("--against", "iol"), "there is no task 'iol'; nearest: ioi"),
    (("--against", "style=few-shot"), "task 'ioi' has no setting style"),
    (("--against", "gendered-pronoun", "--edges", "10,20"), "expected one size for a study, got several"),
    (("--against", "gendered-pronoun", "--cuda-graph", "maybe"), "expected cuda_graph auto, on, off; got 'maybe'"),
])  # fmt: skip
def test_settings_that_make_no_study_are_refused(cli, tmp_path, arguments, expected):
    result = cli("study", "ioi", "--out", tmp_path / "study", *arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())
    assert not (tmp_path / "study").exists()


def test_what_the_model_cannot_do_is_refused_with_its_accuracy(cli, model_folder, pairs_file, other_pairs, tmp_path):
    result = cli(
        "study", pairs_file, "--against", other_pairs, "--model", model_folder, "--out", tmp_path / "study", *SHORT
    )
    assert result.exit_code == 2
    words = " ".join(result.stderr.split())
    assert "expected an accuracy of at least 0.8; got pairs.jsonl: accuracy 0." in words
    assert "search all the same with --anyway" in words
    assert not (tmp_path / "study").exists()


def test_models_of_unlike_shape_are_refused(model_folder, pairs_file, tmp_path):
    tokenizer = load_model(model_folder).tokenizer
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_head=1, n_layer=1, n_positions=64)
    smaller = transformers.GPT2LMHeadModel(config)
    with pytest.raises(ValueError, match="different shapes .*their nodes do not correspond either"):
        ep.study(
            str(pairs_file), model=str(model_folder), against_model=(smaller, tokenizer), out=tmp_path / "study",
            steps=8, edges=12,
        )
    assert not (tmp_path / "study").exists()


@pytest.fixture
def small_codellama(tmp_path: Path) -> Path:
    """A random model of CodeLlama's kind cut to four layers, with a tokenizer that reads Boolean expressions."""
    texts = " ".join([BooleanExpressions.instruction, *(shot for shot, _ in BooleanExpressions.examples), "is or"])
    words = [f"{space}{word}" for word in sorted(set(re.findall("[A-Za-z]+", texts))) for space in ("", " ")]
    words = ["<unk>", *words, *map(chr, (10, *range(32, 65)))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(Regex(" ?[A-Za-z]+|[^A-Za-z]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    config = config_of("llama", num_hidden_layers=4, max_position_embeddings=200, vocab_size=len(words))
    random_model(config, torch.float32).hf.save_pretrained(tmp_path / "small")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", clean_up_tokenization_spaces=False)
    wrapped.save_pretrained(tmp_path / "small")
    return tmp_path / "small"


def test_the_recipe_for_codellama_runs_on_a_small_model(cli, small_codellama, tmp_path):
    result = cli(
        "study", "--config", RECIPES / "codellama-13b-boolean.toml", "--model", small_codellama, "--dtype", "float32",
        "--edges", 20, "--steps", 4, "--train", 20, "--test", 8, "--out", tmp_path / "study", "--anyway",
    )
    assert result.exit_code == 0, result.stderr
    loaded = Study.load(tmp_path / "study")
    assert loaded.names == ("style=instruction", "style=few-shot")
    assert [len(circuit) for circuit in loaded.circuits] == [20, 20]
    assert f"--model {small_codellama} overrides model = 'codellama/CodeLlama-13b-Instruct-hf'" in result.stderr


def test_a_file_of_a_study_is_refused_by_other_commands(cli, tmp_path):
    recipe = RECIPES / "codellama-13b-boolean.toml"
    for command in (("discover", "--config"), ("sweep", "plan"), ("sweep",)):
        result = cli(*command, recipe)
        assert result.exit_code == 2
        expected = f"{recipe} describes two settings ([against]); run edge-pruning study --config {recipe}"
        assert result.stderr == f"error: {expected}\n"
    (tmp_path / "study.toml").write_text("task = 'ioi'\n[against]\ntasks = 'gendered-pronoun'\ndata = 3\n")
    result = cli("study", "--config", tmp_path / "study.toml")
    assert result.exit_code == 2
    assert "against: there is no setting 'tasks' (nearest: task" in result.stderr
    assert "against: data: expected a table, got 3" in result.stderr


def test_a_file_that_is_no_study_is_refused(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(ValueError, match="study.json: expected the format 'edge-pruning/study', got a file without"):
        Study.load(tmp_path)
