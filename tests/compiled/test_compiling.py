"""Programs of Tracr's library and of one's own are compiled, checked, and refused with the unsupported expression."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_pruning.models.tracr import LIBRARY, Compiled, compile_program, compiled_folder, library_program
from edge_pruning.models.tracr.extra import is_installed
from edge_pruning.models.tracr.folder import CONFIG, WEIGHTS

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs tracr-pypi: pip install 'edge-pruning[tracr]'")


@pytest.fixture
def rasp() -> Any:
    from tracr.rasp import rasp

    return rasp


@pytest.fixture
def equal(rasp: Any) -> Any:
    return rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_a_bundled_program_is_compiled_anew_bit_for_bit(name: str, tmp_path: Path) -> None:
    entry, bundled = LIBRARY[name], compiled_folder(f"tracr:{name}")
    assert bundled
    compiled = compile_program(library_program(name, entry.max_length), entry.vocabulary, entry.max_length, name=name)
    compiled.save(tmp_path)
    for file in (CONFIG, WEIGHTS):
        assert (tmp_path / file).read_bytes() == (bundled / file).read_bytes()
    before = Compiled.load(bundled).inputs  # logits may differ in the last bits between machines
    assert torch.equal(compiled.inputs.tokens, before.tokens)
    assert torch.equal(compiled.inputs.defined, before.defined)
    assert torch.allclose(compiled.inputs.logits, before.logits, rtol=0, atol=1e-5)


def test_the_command_compiles_what_it_is_told(tmp_path: Path) -> None:
    words = ["tracr", "compile", "reverse", "--vocab", "a", "b", "c", "d", "--max-length", "2", "-o", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "edge_pruning", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "20 inputs checked" in done.stdout
    assert json.loads((tmp_path / CONFIG).read_text())["vocabulary"] == ["a", "b", "c", "d"]


def test_the_command_does_not_take_zero_for_a_default() -> None:
    words = ["tracr", "compile", "reverse", "--max-length", "0", "--inputs", "0"]
    done = subprocess.run([sys.executable, "-m", "edge_pruning", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "max_length of at least 1, got 0; expected at least 1 input to check it on, got 0" in done.stderr


def test_a_program_of_ones_own(rasp: Any, equal: Any, tmp_path: Path) -> None:
    own = rasp.Map(lambda n: "many" if n > 1 else "one", rasp.SelectorWidth(equal)).named("how_many")
    compile_program(own, ["x", "y"], 3).save(tmp_path / "own")
    compiled = Compiled.load(tmp_path / "own")
    assert compiled.program.name == "how_many"
    (tokens,) = compiled.program.encode([["x", "y", "x"]])
    assert compiled.program.decode(compiled.model(torch.tensor([tokens]))[0])[1:] == ["many", "one", "many"]


def test_a_large_input_space_is_sampled_the_same_way_every_time(rasp: Any, equal: Any) -> None:
    width = rasp.SelectorWidth(equal).named("width")
    first, again = (compile_program(width, "abcd", 4, most_inputs=60).inputs.tokens for _ in range(2))
    assert torch.equal(first, again)
    assert len(first) == 4 + 15 + 15 + 15
    assert not torch.equal(first, compile_program(width, "abcd", 4, most_inputs=60, seed=1).inputs.tokens)


def refused(program: Any, *, match: str, vocabulary: Any = (1, 2, 3), max_length: int = 3) -> None:
    with pytest.raises(ValueError, match=match):
        compile_program(program, vocabulary, max_length)


def test_reserved_symbols_are_refused_in_the_vocabulary(rasp: Any, equal: Any) -> None:
    width = rasp.SelectorWidth(equal)
    refused(width, vocabulary=["a", "compiler_bos"], match="contains 'compiler_bos', which Tracr reserves")
    refused(width, vocabulary=[], max_length=0, match="a vocabulary of different values.*; .* max_length of at least 1")
    refused(width, vocabulary="aa", match=r"different values, at least one, got \['a', 'a'\]|got aa")


def test_an_output_that_is_neither_categorical_nor_numerical_is_refused(rasp: Any, equal: Any) -> None:
    refused(equal, match="select: it is a selector .* its output is neither categorical nor numerical")
    refused(rasp.annotate(rasp.tokens == 1, encoding=None), match="map: its output is neither")
    refused("reverse", match="expected a RASP expression .*, got 'reverse'")
    refused(rasp.tokens, match="tokens: there is nothing to compute")


def test_unsupported_expressions_are_named(rasp: Any, equal: Any) -> None:
    numbers = rasp.numerical(rasp.Map(lambda x: x, rasp.tokens)).named("numbers")
    everything = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE).named("everything")
    before = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.LT)
    refused(rasp.SelectorWidth(equal & before), match="selector_and: `&` of selectors that do not share")
    refused(rasp.SequenceMap(lambda a, b: a, rasp.tokens, rasp.ConstantSOp([1, 2])), match="constant_sop: a constant")
    refused(rasp.tokens + rasp.length, match="length: the primitive `length`; use")
    refused(rasp.SelectorWidth(before), match="selector_width: it does not depend on rasp.tokens")
    refused(rasp.Aggregate(everything, numbers).named("mixed"), match="mixed: An aggregate's output encoding must")
    refused(rasp.Aggregate(everything, rasp.tokens).named("average"), match="average: Categorical aggregate")
    average = rasp.numerical(rasp.Aggregate(everything, numbers, default=0)).named("average")
    refused(average, match="average: Numerical aggregate only supports binary inputs 0, 1")
    fails = rasp.Map(lambda x: x.upper(), rasp.tokens).named("fails")
    refused(fails, match=r"fails: it fails on the input \[1\]: AttributeError")


def test_a_model_that_does_something_else_is_refused(rasp: Any, equal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_pruning.models.tracr import compiling

    monkeypatch.setattr(compiling, "unsupported", lambda program, inputs: [])
    everything = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE)
    wrong = rasp.Aggregate(everything, rasp.tokens).named("average")
    refused(wrong, match=r"does not do what 'average' says on \d+ of 39 inputs: \[1, 2\]: expected \[1.5, 1.5\], got")
