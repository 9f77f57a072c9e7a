"""A tiny random model with a tokenizer and a file of pairs, on disk, as a user would have them; and the command."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from click.testing import Result
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from edge_pruning.cli.app import app

WORDS = "the a dog cat bird fox sees likes hears red blue old big small house tree river near under over".split()
Cli = Callable[..., Result]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, build_model: Callable[..., object]) -> Path:
    """A random GPT-2 of two layers, saved by transformers, with a word-level tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    build_model("gpt2").hf.save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<pad>", "<eos>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty different pairs of six words."""
    rng, rows = random.Random(0), {}
    while len(rows) < 40:
        words = rng.sample(WORDS, 8)
        clean, corrupted = " ".join(words[:6]), " ".join([words[0], words[6], *words[2:6]])
        rows[clean] = {"clean": clean, "corrupted": corrupted, "answer": f" {words[6]}", "wrong_answer": f" {words[7]}"}
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    return path


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`cli("discover", task, ...)`: the command in this process, with what it printed and its exit code."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="edge-pruning")

    return run


@pytest.fixture
def discover(cli: Cli, model_folder: Path, pairs_file: Path, tmp_path: Path) -> Cli:
    """`discover("--steps", 20)`: find a circuit of the tiny model, into tmp_path/run."""

    def run(*arguments: object) -> Result:
        return cli("discover", pairs_file, "--model", model_folder, "--out", tmp_path / "run", *arguments)

    return run


@pytest.fixture(scope="session")
def finished_runs(
    cli: Cli, model_folder: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, Result]]:
    """Folders of finished runs of the tiny model by their flags, and what the command printed: one search for each."""

    @cache
    def find(*arguments: object) -> tuple[Path, Result]:
        folder = tmp_path_factory.mktemp("finished")
        result = cli("discover", pairs_file, "--model", model_folder, "--out", folder, *arguments)
        assert result.exit_code == 0, result.stderr
        return folder, result

    return find


@pytest.fixture
def finished(finished_runs: Callable[..., tuple[Path, Result]], tmp_path: Path) -> Cli:
    """`finished("--steps", 20)`: the same folder and result as `discover`, copied if another test has had this run."""

    def copy(*arguments: object) -> Result:
        folder, result = finished_runs(*arguments)
        shutil.copytree(folder, tmp_path / "run")
        return result

    return copy
