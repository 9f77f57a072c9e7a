"""Every reader of files from outside: valid files of its kind, how they are damaged, and how they are read."""

from __future__ import annotations

import base64
import io
import json
import pickle
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from damage import ODD_TENSORS, Changes, damaged_bytes, damaged_json, damaged_safetensors, damaged_value
from transformers import AutoTokenizer

from edge_pruning.circuit import Circuit
from edge_pruning.drawing import draw_circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.formats import get_format
from edge_pruning.formats.conversion import read_with
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.models.bundled import BUNDLED as BUNDLED_MODEL
from edge_pruning.models.tracr.folder import BUNDLED, Compiled
from edge_pruning.runs import Run
from edge_pruning.tasks import get_task
from edge_pruning.truth.truth import Truths

sys.path.insert(0, str(Path(__file__).parent.parent / "formats"))
import foreign_files as foreign

SHAPE = {"layers": 1, "heads": 2}


@dataclass(frozen=True)
class Reader:
    """files: name -> content, of which `target` is damaged. slow: how many times fewer inputs it gets."""

    read: Callable[[Path], object]
    files: Callable[[], Mapping[str, bytes]]
    target: str
    damage: Callable[[bytes, Changes], bytes]
    slow: int = 1


def used(circuit: Circuit) -> None:
    """What is done with every circuit that was read: if this fails, the reader let something past."""
    with must_work():
        json.dumps(circuit.to_json(), allow_nan=False).encode()
        _ = circuit.provenance.names, circuit.provenance.task_settings, circuit.provenance.revision
        draw_circuit(circuit, title="x").encode()


@contextmanager
def must_work() -> Iterator[None]:
    """A ValueError behind a reader is no refusal."""
    try:
        yield
    except ValueError as error:
        raise AssertionError(f"what was read cannot be used: {error}") from error


def in_format(name: str, shape: Mapping[str, Any]) -> Callable[[Path], None]:
    return lambda path: used(read_with(get_format(name), path, shape).circuit)


def one(content: str | bytes) -> Callable[[], dict[str, bytes]]:
    return lambda: {"file": content.encode() if isinstance(content, str) else content}


def text_json(content: bytes, changes: Changes) -> bytes:
    return damaged_json(content.decode(), changes)


def tensors(content: bytes, changes: Changes) -> bytes:
    """A torch file: its bytes, or the values in it."""
    if changes[0][1] % 2:
        return damaged_bytes(content, changes)
    file = io.BytesIO()
    torch.save(damaged_value(foreign.eap_ig_tensors(), changes, ODD_TENSORS), file)
    return file.getvalue()


def torch_file() -> dict[str, bytes]:
    file = io.BytesIO()
    torch.save(foreign.eap_ig_tensors(), file)
    return {"file": file.getvalue()}


def acdc_pickle() -> dict[str, bytes]:
    """The list as plain values; the classes of ACDC's own files are not installed."""
    return {"x.pkl": pickle.dumps([(tuple(edge), effect) for edge, effect in json.loads(foreign.ACDC_JSON)])}


def neuronpedia() -> dict[str, bytes]:
    return written(lambda folder: get_format("neuronpedia").write(foreign.CIRCUIT, folder / "x.json"))


def saved_circuit() -> dict[str, bytes]:
    graph = Graph(ModelShape(1, 2))
    scores = EdgeScores(graph, torch.arange(float(graph.edge_mask.numel())).view(graph.edge_mask.shape))
    origin = {
        "model": {"name": "bundled", "revision": None}, "task": {"name": "ioi", "settings": {"train": 5}},
        "method": {"name": "eap", "settings": {}}, "ablation": "patch", "seed": 1, "versions": {"torch": "2"},
    }  # fmt: skip
    return written(lambda folder: Circuit.from_scores(scores, edges=5, provenance=origin).save(folder / "circuit.json"))


def written(write: Callable[[Path], object]) -> dict[str, bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def program() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (BUNDLED / "reverse").iterdir() if path.is_file()}


def a_run() -> dict[str, bytes]:
    """A finished run of a compiled program, whose truth is known; patterns as a run of text has them."""
    import edge_pruning as ep

    run = written(
        lambda folder: ep.discover("tracr:reverse", steps=2, edges=[8, 12], out=folder, draw=False, method="soft-top-k")
    )
    return {**run, "patterns.json": json.dumps(PATTERNS).encode()}


PATTERNS = {
    "metric": "logit_difference", "definition": "what", "runs": ["model", "circuit", "corrupted"],
    "pairs": [{"clean": ["a", " b"], "corrupted": ["a", " c"], "position": 1, "answer": [" d"], "wrong": []}],
    "heads": [{"node": "a0.h0", "effect": None, "effect_by_pair": [None]}],
    "weights": base64.b64encode(zlib.compress(bytes(range(9)))).decode(),
}  # fmt: skip


def load_run(path: Path) -> None:
    run = Run.load(path.parent)
    used(run.circuit)
    with must_work():
        json.dumps(run.evaluation.to_json())
        _ = run.title, run.curve, run.truth
        json.dumps(run.patterns, allow_nan=False).encode()


ROWS = [
    {"clean": "Then Mary", "corrupted": "Then John", "answer": " ran", "wrong_answer": [" sat"]},
    {"clean": "The cat", "corrupted": "The dog", "answer": [" ran", " sat"]},
    {"clean": "The year 1710", "corrupted": "The year 1600", "answer": " ran", "wrong_answer": " sat"},
]


def pairs_file(name: str) -> Callable[[], dict[str, bytes]]:
    table = "clean,corrupted,answer\n" + "".join(f"{row['clean']},{row['corrupted']}, ran\n" for row in ROWS)
    lines = "\n".join(map(json.dumps, ROWS))
    content = {".jsonl": lines, ".json": json.dumps({"prompts": ROWS}), ".csv": table}[Path(name).suffix]
    return lambda: {name: content.encode()}


bundled_tokenizer = cache(lambda: AutoTokenizer.from_pretrained(BUNDLED_MODEL))


def read_pairs(path: Path) -> None:
    """What is read can be computed with: every id is one that the tokenizer has."""
    tokenizer = bundled_tokenizer()
    for pair in get_task(path).pairs(tokenizer, "train").pairs:
        ids = [*pair.clean, *pair.corrupted, *(i for of in (*pair.answers, *pair.wrong) for i in of)]
        assert all(0 <= i < len(tokenizer) for i in ids)


def of_program(path: Path) -> None:
    found = Compiled.load(path.parent)
    _ = found.program.shape, found.parity_error


def of_run(target: str, slow: int = 2) -> Reader:
    return Reader(load_run, a_run, target, by_name(target), slow)


def by_name(target: str) -> Callable[[bytes, Changes], bytes]:
    ways = {"safetensors": damaged_safetensors, "json": text_json, "jsonl": damaged_bytes}
    return ways[target.rpartition(".")[2]]


PROGRAM_FILES = ("config.json", "model.safetensors", "inputs.safetensors")
RUN_FILES = ("config.json", "curve.json", "circuit.json", "circuit-8.json", "evaluation.json", "evaluation-12.json",
             "metrics.jsonl", "scores.safetensors", "patterns.json")  # fmt: skip

READERS = {
    "circuit": Reader(lambda path: used(Circuit.load(path)), saved_circuit, "circuit.json", text_json),
    "scores": Reader(lambda path: used(Circuit.load(path.with_name("circuit.json"))), saved_circuit,
                     "scores.safetensors", damaged_safetensors),
    "eap-ig-json": Reader(in_format("eap-ig-json", {}), one(foreign.EAP_IG_JSON), "file", text_json),
    "eap-ig-pt": Reader(in_format("eap-ig-pt", {}), torch_file, "file", tensors, 2),
    "edges-json": Reader(in_format("edges-json", SHAPE), one(foreign.EDGES_JSON), "file", text_json),
    "csv": Reader(in_format("csv", {}), one(foreign.CSV), "file", damaged_bytes),
    "graphml": Reader(in_format("graphml", SHAPE), one(foreign.GRAPHML), "file", damaged_bytes),
    "acdc-json": Reader(in_format("acdc", SHAPE), lambda: {"x-graph.json": foreign.ACDC_JSON.encode()}, "x-graph.json",
                        text_json),
    "acdc": Reader(in_format("acdc", SHAPE), acdc_pickle, "x.pkl", damaged_bytes),
    "auto-circuit": Reader(in_format("auto-circuit", {}), lambda: {"x.json": foreign.AUTO_CIRCUIT.encode()}, "x.json",
                           text_json),
    "neuronpedia": Reader(in_format("neuronpedia", {}), neuronpedia, "x.json", text_json),
    "dot": Reader(in_format("dot", SHAPE), one(foreign.DOT), "file", damaged_bytes, 20),
    "pairs jsonl": Reader(read_pairs, pairs_file("pairs.jsonl"), "pairs.jsonl", damaged_bytes, 4),
    "pairs json": Reader(read_pairs, pairs_file("pairs.json"), "pairs.json", text_json, 4),
    "pairs csv": Reader(read_pairs, pairs_file("pairs.csv"), "pairs.csv", damaged_bytes, 4),
    "truth": Reader(lambda path: Truths.load(path), program, "truth.json", text_json, 4),
    **{f"program {name}": Reader(of_program, program, name, by_name(name), 10) for name in PROGRAM_FILES},
    **{f"run {name}": of_run(name, 10) for name in RUN_FILES},
}  # fmt: skip
