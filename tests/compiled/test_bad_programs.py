"""What is wrong with an input, a folder or a program is said, all of it at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_pruning import files
from edge_pruning.loading.loading import load_model
from edge_pruning.models.tracr import Compiled, compile_program, compiled_folder, extra, library_program
from edge_pruning.models.tracr.folder import CONFIG, INPUTS, WEIGHTS, read_program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled `reverse`."""
    source = compiled_folder("tracr:reverse")
    assert source
    return Path(shutil.copytree(source, tmp_path / "mine"))


def test_inputs_that_a_program_cannot_take_are_all_listed(folder: Path) -> None:
    program, _ = read_program(folder)
    with pytest.raises(ValueError, match=r"takes 1 to 3 values out of \['a', 'b', 'c'\]; 3 of 4 inputs do not fit"):
        program.encode([["a"], ["a", "b", "a", "c"], ["x", "a", "y", "x"], []])
    with pytest.raises(ValueError, match=r"\['a', 'x'\]: unknown 'x'; \['compiler_bos'\]: unknown 'compiler_bos'"):
        program.encode([["a", "x"], ["compiler_bos"]])
    with pytest.raises(ValueError, match=r"30 of 30 inputs .*; and 10 more"):
        program.encode([["z"]] * 30)


def test_a_program_is_no_tokenizer(folder: Path) -> None:
    with pytest.raises(ValueError, match="'reverse' reads values, not text; use its own task, tracr:reverse"):
        read_program(folder)[0]("a b c")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, INPUTS])
def test_a_truncated_folder_says_which_file_is_broken(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    for where in (str(folder), f"tracr:{folder}"):
        with pytest.raises(ValueError, match=f"{name} is truncated"):
            load_model(where)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} does not exist"):
        load_model(f"tracr:{folder}")


def test_weights_of_another_program_are_refused(folder: Path) -> None:
    other = compiled_folder("tracr:xproportion")
    assert other
    mine = files.read_tensors(folder / WEIGHTS)
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(ValueError, match="model.safetensors does not hold the weights that config.json .* with"):
        Compiled.load(folder)
    mine["key.at"][-1], mine["out"] = 10_000, mine["out"][:-1]
    files.write_tensors(folder / WEIGHTS, mine)
    with pytest.raises(ValueError, match=r"written with: key does not fit into shape .*; out does not fit into shape"):
        Compiled.load(folder)
    del mine["query"], mine["value.at"]
    files.write_tensors(folder / WEIGHTS, mine)
    with pytest.raises(ValueError, match="no query; key does not fit .*; no value"):
        Compiled.load(folder)


def test_inputs_of_another_program_are_refused(folder: Path) -> None:
    other = compiled_folder("tracr:xproportion")
    assert other
    shutil.copy(other / INPUTS, folder / INPUTS)
    with pytest.raises(ValueError, match=r"inputs.safetensors does not hold the inputs .*: tokens, logits, defined"):
        Compiled.load(folder)


def test_an_incomplete_configuration_names_what_is_missing(folder: Path) -> None:
    content = files.read_json(folder / CONFIG)
    files.write_json(folder / CONFIG, {name: content[name] for name in ("model_type", "name", "layers")})
    with pytest.raises(ValueError, match="config.json: vocabulary: missing; max_length: missing"):
        Compiled.load(folder)


def test_an_unknown_program_lists_the_nearest() -> None:
    with pytest.raises(ValueError, match="no compiled program 'tracr:revers'; nearest: reverse"):
        compiled_folder("tracr:revers")
    assert compiled_folder("gpt2") is None
    with pytest.raises(ValueError, match="no program 'revers'; nearest: reverse"):
        library_program("revers", 3)


def test_without_the_extra_compiling_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "is_installed", lambda: False)
    for attempt in (lambda: library_program("reverse", 3), lambda: compile_program(None, "ab", 3)):
        with pytest.raises(ValueError, match=r"not installed: pip install 'edge-pruning\[tracr\]'"):
            attempt()
    assert load_model("tracr:reverse").name == "tracr:reverse"
