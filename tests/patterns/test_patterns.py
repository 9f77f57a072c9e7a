"""Attention weights are those of the model's own attention, and direct effects those of one edge cut."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_pruning import files
from edge_pruning.ablation import get_ablation
from edge_pruning.circuit import Circuit
from edge_pruning.contents import PatternsContent
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.metrics import logit_difference
from edge_pruning.models.parts import PartsAdapter
from edge_pruning.patterns import find_patterns, strongest_heads
from edge_pruning.patterns.watching import Watching


class Words:
    """A tokenizer as far as patterns need one."""

    def decode(self, ids: list[int]) -> str:
        return " ".join(f"<t{i}>" for i in ids)


def half_of(graph: Graph) -> Circuit:
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(1))
    return Circuit.from_scores(EdgeScores(graph, values), edges=graph.n_edges // 2)


def unpacked(found: dict[str, Any]) -> dict[tuple[int, str, int], np.ndarray]:
    """Patterns [query, key] by head, run and pair, read byte after byte."""
    data, at, patterns = zlib.decompress(base64.b64decode(found["weights"])), 0, {}
    for head in range(len(found["heads"])):
        for run in found["runs"]:
            for pair, words in enumerate(found["pairs"]):
                pattern = np.zeros((len(words["clean"]),) * 2)
                for query in range(len(pattern)):
                    pattern[query, : query + 1] = [byte / 255 for byte in data[at : at + query + 1]]
                    at += query + 1
                patterns[head, run, pair] = pattern
    assert at == len(data)
    return patterns


@pytest.mark.parametrize("engine_of", [MaskedPass, FusedPass])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_weights_in_the_model_are_those_that_transformers_reports(
    kind: str, engine_of: type[MaskedPass], build_model: Callable[..., Any], random_pairs: Callable[..., Any]
) -> None:
    adapter = build_model(kind)
    pairs = random_pairs()
    circuit = half_of(Graph(adapter.shape))
    found = find_patterns(circuit, engine_of(adapter), pairs, get_ablation("patch"), Words())
    assert found is not None
    patterns = unpacked(found)
    adapter.hf.set_attn_implementation("eager")
    by_words = {Words().decode(list(pair.clean)): pair for pair in pairs.pairs}
    for i, words in enumerate(found["pairs"]):
        pair = by_words[" ".join(words["clean"])]
        for side, run in ((pair.clean, "model"), (pair.corrupted, "corrupted")):
            with torch.no_grad():
                own = adapter.hf(torch.tensor([side]), output_attentions=True).attentions
            for h, head in enumerate(found["heads"]):
                layer, index = (int(part[1:]) for part in head["node"].split("."))
                assert patterns[h, run, i] == pytest.approx(own[layer][0, index].numpy(), abs=0.004)


def test_the_whole_circuit_looks_where_the_model_does_and_the_empty_one_where_the_corrupted_run_does(
    tiny_llama: Any, random_pairs: Callable[..., Any]
) -> None:
    graph = Graph(tiny_llama.shape)
    pairs, ablation = random_pairs(), get_ablation("patch")
    whole = Circuit(graph, graph.edge_mask.clone())
    found = find_patterns(whole, FusedPass(tiny_llama), pairs, ablation, Words())
    assert found is not None
    patterns = unpacked(found)
    for (head, run, pair), pattern in patterns.items():
        if run == "circuit":
            assert pattern == pytest.approx(patterns[head, "model", pair], abs=0.005)
    mask = graph.edge_mask.clone()
    mask[:, :-1] = False  # heads read nothing but ablated values, and write to the logits
    found = find_patterns(Circuit(graph, mask), FusedPass(tiny_llama), pairs, ablation, Words())
    assert found is not None
    patterns = unpacked(found)
    for (head, run, pair), pattern in patterns.items():
        if run == "circuit":
            assert pattern == pytest.approx(patterns[head, "corrupted", pair], abs=0.005)


@pytest.mark.parametrize("ablation", ["patch", "mean", "zero"])
def test_a_direct_effect_is_what_cutting_the_edge_to_the_logits_costs(
    ablation: str, tiny_gpt2: Any, random_pairs: Callable[..., Any]
) -> None:
    engine, pairs = FusedPass(tiny_gpt2), random_pairs()
    fitted = get_ablation(ablation).fitted(engine, pairs.pairs)
    found = find_patterns(half_of(engine.graph), engine, pairs, fitted, Words())
    assert found is not None
    by_words = {Words().decode(list(pair.clean)): pair for pair in pairs.pairs}
    for head in found["heads"]:
        effects = []
        for words in found["pairs"]:
            batch = engine.batch([by_words[" ".join(words["clean"])]])
            frozen = fitted.freeze(engine, batch)
            mask = engine.graph.edge_mask.float()
            whole = engine.logits(mask, batch, frozen)
            mask[engine.graph.places([f"{head['node']}->logits"]).unbind(1)] = 0
            cut = engine.logits(mask, batch, frozen)
            effects.append(float(logit_difference(whole, batch) - logit_difference(cut, batch)))
        assert head["effect_by_pair"] == pytest.approx(effects, abs=1e-4)
        assert head["effect"] == pytest.approx(sum(effects) / len(effects), abs=1e-4)


def test_the_heads_are_the_circuits_strongest(tiny_llama: Any) -> None:
    graph = Graph(tiny_llama.shape)
    values = torch.full(graph.edge_mask.shape, -torch.inf)
    for score, edge in enumerate(["input->a0.h0<v>", "a0.h3->logits", "input->a1.h1<q>", "m0->logits"]):
        values[graph.places([edge]).unbind(1)] = float(score)
    circuit = Circuit.from_scores(EdgeScores(graph, values), edges=4)
    assert strongest_heads(circuit, 24) == [(1, 1), (0, 3)]  # heads 0 and 1 of layer 0 share their values
    assert strongest_heads(circuit, 1) == [(1, 1)]


def test_nothing_is_looked_at_where_nothing_can_be_shown(tiny_gpt2: Any, random_pairs: Callable[..., Any]) -> None:
    engine, pairs, patch = FusedPass(tiny_gpt2), random_pairs(), get_ablation("patch")
    some, none = half_of(engine.graph), Circuit(engine.graph, torch.zeros_like(engine.graph.edge_mask))
    assert find_patterns(none, engine, pairs, patch, Words()) is None
    assert find_patterns(some, engine, pairs, patch, Words(), heads=0) is None
    assert find_patterns(some, engine, pairs, patch, None) is None


def test_pairs_without_a_wrong_answer_have_no_direct_effect(tiny_gpt2: Any, random_pairs: Callable[..., Any]) -> None:
    engine = FusedPass(tiny_gpt2)
    found = find_patterns(half_of(engine.graph), engine, random_pairs(wrong=False), get_ablation("patch"), Words())
    assert found is not None
    assert {head["effect"] for head in found["heads"]} == {None}


def test_watching_leaves_the_engine_and_its_model_as_they_were(tiny_gpt2: PartsAdapter) -> None:
    engine = FusedPass(tiny_gpt2)
    Watching(engine)
    assert engine.adapter is tiny_gpt2
    assert "mix" not in vars(tiny_gpt2)


FILE = {
    "metric": "logit_difference", "definition": "what", "runs": ["model", "circuit"],
    "pairs": [{"clean": ["a", " b"], "corrupted": ["a", " c"], "position": 1, "answer": [" d"], "wrong": []}],
    "heads": [{"node": "a0.h0", "effect": None, "effect_by_pair": [None]}],
    "weights": base64.b64encode(zlib.compress(bytes(6))).decode(),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [
    ({"weights": "=="}, "weights: expected zlib-compressed bytes in base64"),
    ({"weights": base64.b64encode(b"x" * 9).decode()}, "weights: expected zlib-compressed bytes in base64"),
    ({"weights": base64.b64encode(zlib.compress(bytes(10**7))).decode()}, "weights: expected 6 bytes"),
    ({"runs": ["model"]}, "weights: expected 3 bytes for its heads, runs and pairs, got another number"),
    ({"heads": [{**FILE["heads"][0], "effect_by_pair": []}]}, "heads: expected one effect for each pair"),
    ({"pairs": [{**FILE["pairs"][0], "position": 2}]}, "pairs: expected a position within the tokens"),
    ({"pairs": [{**FILE["pairs"][0], "clean": "a b"}]}, r"pairs.0..clean: expected a list, got 'a b'"),
    ({"heads": 3}, "heads: expected a list, got 3"),
])  # fmt: skip
def test_a_damaged_file_of_patterns_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "patterns.json"
    files.write_json(path, FILE)
    assert files.read_json(path, PatternsContent) == FILE
    files.write_json(path, FILE | change)
    with pytest.raises(ValueError, match=rf"patterns\.json: {message}"):
        files.read_json(path, PatternsContent)
