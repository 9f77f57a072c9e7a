"""Bundled programs do what they say, and what Tracr's own forward pass says; without JAX."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from literal import literal_batch_logits

from edge_pruning.ablation import Patch, Zero
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.self_check import law_errors
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models.tracr import LIBRARY, Compiled, bundled_programs, compiled_folder
from edge_pruning.pair import Pair

PROGRAMS = bundled_programs()


def load(name: str) -> Compiled:
    folder = compiled_folder(f"tracr:{name}")
    assert folder
    return Compiled.load(folder)


def balanced(values: Sequence[str], pairs: Sequence[str]) -> bool:
    for opening, closing in pairs:
        depth = 0
        for value in values:
            depth += (value == opening) - (value == closing)
            if depth < 0:
                return False
        if depth:
            return False
    return True


def share(values: Sequence[Any], value: Any) -> list[float]:
    return [values[: i + 1].count(value) / (i + 1) for i in range(len(values))]


def in_order(values: Sequence[int], keys: Sequence[float]) -> list[int]:
    return [value for _, value in sorted(zip(keys, values, strict=True), key=lambda pair: pair[0])]


def distinct_in_order(values: Sequence[int]) -> list[int | None]:
    """Equal values want the same place, so the places after it stay empty."""
    return [next((v for v in values if sum(w < v for w in values) == i), None) for i in range(len(values))]


# Each program once more, as plain Python: from values to answers; None where there is no answer.
MEANINGS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "count": lambda v: [v.count("a")] * len(v),
    "count_less_freq": lambda v: [sum(n for n in Counter(v).values() if n <= 2)] * len(v),
    "detect_pattern": lambda v: [None, *(v[i - 1 : i + 1] == ["a", "b"] for i in range(1, len(v)))],
    "hist": lambda v: [v.count(value) for value in v],
    "length": lambda v: [len(v)] * len(v),
    "nary_sequencemap": lambda v: [2 * value - i for i, value in enumerate(v)],
    "pair_balance": lambda v: [a - b for a, b in zip(share(v, "("), share(v, ")"), strict=True)],
    "reverse": lambda v: v[::-1],
    "shift_by": lambda v: [None, *v[:-1]],
    "shuffle_dyck": lambda v: [balanced(v, ["()"])] * len(v),
    "shuffle_dyck2": lambda v: [balanced(v, ["()", "{}"])] * len(v),
    "sort": lambda v: sorted(v),
    "sort_freq": lambda v: in_order(v, [-v.count(value) + i / 100 for i, value in enumerate(v)]),
    "sort_unique": distinct_in_order,
    "xproportion": lambda v: share(v, "x"),
}


def test_every_program_of_the_library_is_bundled_and_has_a_meaning() -> None:
    assert set(PROGRAMS) == set(LIBRARY) == set(MEANINGS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_our_module_says_what_tracrs_own_forward_pass_says_on_every_input(name: str) -> None:
    compiled = load(name)
    assert compiled.parity_error <= 1e-5
    vocabulary, longest = compiled.program.vocabulary, compiled.program.max_length
    assert len(compiled.inputs) == sum(len(vocabulary) ** n for n in range(1, longest + 1))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_what_it_says_on_every_input(name: str) -> None:
    compiled = load(name)
    program, model = compiled.program, compiled.model
    for n in range(1, program.max_length + 1):
        for values in itertools.product(program.vocabulary, repeat=n):
            (tokens,) = program.encode([values])
            found = program.decode(model(torch.tensor([tokens]))[0])[1:]
            for want, got in zip(MEANINGS[name](list(values)), found, strict=True):
                assert want is None or got == pytest.approx(want, abs=1e-4), (values, found)


@pytest.mark.parametrize("name", PROGRAMS)
def test_inputs_say_where_there_is_an_answer(name: str) -> None:
    compiled = load(name)
    words = compiled.program.tokens
    for tokens, _, defined in compiled.inputs.rows(compiled.program):
        meant = MEANINGS[name]([words[token] for token in tokens[1:]])
        assert defined == [i for i, answer in enumerate(meant, 1) if answer is not None]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_masked_pass_runs_a_program_exactly(name: str) -> None:
    model = load_model(f"tracr:{name}", dtype="float64")
    for embeddings in ("joint", "split"):
        assert max(law_errors(model.engine(Graph(model.adapter.shape, embeddings)))) < 1e-9


@pytest.mark.parametrize("ablation", [Zero(), Patch()], ids=lambda ablation: ablation.name)
def test_the_masked_pass_equals_the_formula(ablation: Zero | Patch) -> None:
    model = load_model("tracr:pair_balance", dtype="float64")
    engine = model.engine(Graph(model.adapter.shape, "split"))
    assert type(engine) is MaskedPass
    rows = model.tokenizer.encode([("(", "x", ")"), (")", "(", "("), ("x", "x", "("), ("(", ")", ")")])
    pairs = [Pair(rows[i], rows[i + 1], (1, 2, 3), ((),) * 3, ((),) * 3) for i in (0, 2)]
    batch = engine.batch(pairs)
    mask = torch.rand(engine.graph.edge_mask.shape, generator=torch.Generator().manual_seed(1)) * engine.graph.edge_mask
    found = engine.logits(mask, batch, ablation.freeze(engine, batch))
    if ablation.name == "patch":
        expected = literal_batch_logits(model.adapter, engine.graph, mask, batch)
    else:  # an empty model writes nothing
        expected = literal_zero_logits(model.adapter, engine.graph, mask, batch)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def literal_zero_logits(adapter, graph, mask, batch):
    """Sums of what was written, edge by edge, and nothing in place of what was removed."""
    writes = list(adapter.embed(batch.clean, split=True))
    heads, columns = graph.shape.heads, iter(range(len(graph.readers)))

    def read() -> torch.Tensor:
        column = next(columns)
        return sum(mask[w, column] * write for w, write in enumerate(writes))

    for layer in range(graph.shape.layers):
        q, k, v = (torch.stack([read() for _ in range(heads)]) for _ in range(3))
        writes += list(adapter.attend(layer, q, k, v, None))
        writes += list(adapter.feed_forward(layer, read()[None]))
    return (read() @ adapter.hf.weights["unembed"]).flatten(0, 1)[batch.positions]


def test_names_of_the_residual_stream_are_kept() -> None:
    program = load("reverse").program
    assert program.tokens == ("a", "b", "c", "compiler_bos", "compiler_pad")
    assert program.outputs == ("a", "b", "c")
    assert {"one", "tokens:a", "indices:2"} <= set(program.residual)
    assert load("xproportion").program.outputs is None


def test_a_layer_without_attention_has_no_weights_there() -> None:
    weights = load("reverse").model.weights
    assert [bool(weights["value"][layer].any()) for layer in range(4)] == [True, False, False, True]
    assert [bool(weights["mlp_out"][layer].any()) for layer in range(4)] == [True, True, True, False]


def test_bundled_programs_are_small() -> None:
    for name in PROGRAMS:
        folder = compiled_folder(f"tracr:{name}")
        assert folder
        assert sum(path.stat().st_size for path in folder.iterdir()) < 60_000
