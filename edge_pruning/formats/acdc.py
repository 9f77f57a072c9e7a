"""ACDC's edges (Conmy and others 2023): pickles written by its `save_edges`, or the same list as JSON.

    [[["blocks.1.hook_q_input", [null, null, 0], "blocks.0.attn.hook_result", [null, null, 1]], 0.25], ...]

Each entry is an edge and its effect: the reading hook and its index, the writing hook and its index. A head is the
third part of an index; a number in the second part would be a position, which circuits here do not have.

Its `save_subgraph` writes a torch file: a dictionary from every edge of the graph, without effects, to whether it is
there. It is read as torch files of others are (`torch_file.py`).

A pickle is a program. It is read by an unpickler that has stand-ins for the few classes of such a list, and refuses
every other class before it is built.

ACDC also counts edges from a head's inputs to its own query, key or value. These are not edges here. If ACDC removed
such an edge, that query, key or value has no input, so the edges into this reader are left out.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.formats.edge_table import EdgeTable, circuit_of, shown
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.networkx_graph import left_out
from edge_pruning.formats.shape import at_least, shape_from
from edge_pruning.formats.torch_file import read_torch
from edge_pruning.graph import Graph
from edge_pruning.recount import KeyValues

PICKLES, SUBGRAPH = (".pkl", ".pickle"), ".pth"
EMBEDDINGS = {"hook_embed": "tok", "hook_pos_embed": "pos", "blocks.0.hook_resid_pre": "input"}
BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
INSIDE = re.compile(r"attn\.hook_([qkv])")
Edge = tuple[str, Any, str, Any, Any]  # reading hook, its index, writing hook, its index, effect


@circuit_format
@dataclass(frozen=True)
class Acdc(Format):
    """Effects become scores; without effects, the circuit has no scores. JSON is the only form that is written."""

    name: ClassVar[str] = "acdc"
    summary: ClassVar[str] = "ACDC's edges: JSON, or (read only) its pickles and .pth files; needs --shape or --like"
    suffixes: ClassVar[tuple[str, ...]] = ("-graph.json", ".json")
    read_only: ClassVar[tuple[str, ...]] = (*PICKLES, SUBGRAPH)
    kv: ClassVar[KeyValues | None] = "query"

    @classmethod
    def holds(cls, content: Any) -> bool:
        """Return whether entries begin with a list; those of `edges-json` begin with a name."""
        if isinstance(content, dict):
            return isinstance(next(iter(content), None), tuple)
        first = content[0] if isinstance(content, list) and content else None
        return isinstance(first, list | tuple) and bool(first) and isinstance(first[0], list | tuple)

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        entries = _entries(_content(path))
        open_readers, notices = _inside_heads(entries)
        names = [(_writer(edge), reader, edge[4]) for edge in entries if (reader := _reader(edge))]
        kept = [(f"{writer}->{reader}", effect) for writer, reader, effect in names
                if "<" not in reader or not open_readers or reader in open_readers]
        if len(kept) < len(names):
            notices.append(f"{len(names) - len(kept):,} edges lead to a query, key or value that was cut off inside "
                           "its head; they carry nothing and were left out")
        writers = {writer for writer, _, _ in names}
        if "input" in writers and writers & {"tok", "pos"}:
            raise ValueError("expected one embedding (hook_resid_pre) or two (hook_embed, hook_pos_embed), got both")
        found = shape_from({}, shape, at_least(f"{writer} {reader}" for writer, reader, _ in names))
        graph = Graph(found, "split" if writers & {"tok", "pos"} else "joint", "query")
        table = EdgeTable([name for name, _ in kept], [True] * len(kept), [effect for _, effect in kept])
        return Found(circuit_of(graph, table, {"source": {"file": path.name}}), tuple(notices))

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        scores = [-math.inf] * len(circuit) if circuit.scores is None else circuit.scores.values[circuit.mask].tolist()
        entries = [
            [[*_their_reader(reader, circuit.graph), *_their_writer(writer)], None if score == -math.inf else score]
            for (writer, _, reader), score in zip((e.partition("->") for e in circuit.edges), scores, strict=True)
        ]
        files.write_text(path, "[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n")
        return left_out(circuit)


def _content(path: Path) -> Any:
    """Return the list of edges in a file; of a dictionary, those that are there."""
    suffix = path.suffix.lower()
    if suffix != SUBGRAPH:
        return unpickled(path) if suffix in PICKLES else files.read_json(path)
    content = read_torch(path)
    if not isinstance(content, dict) or not all(isinstance(there, bool) for there in content.values()):
        raise ValueError("expected a dictionary from edges to true or false, as ACDC's save_subgraph writes it")
    return [(edge, None) for edge, there in content.items() if there]


# --- the pickle -------------------------------------------------------------------------------------------------------


class _Index(list[Any]):
    """A stand-in for ACDC's TorchIndex, whose state is an index into a tensor."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict) and isinstance(state.get("hashable_tuple"), tuple):
            self[:] = state["hashable_tuple"]


class _Opaque:
    """A stand-in for objects that are not needed: slices, and effects that are tensors."""

    def __init__(self, *parts: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


STAND_INS: dict[tuple[str, str], Any] = {
    ("builtins", "slice"): _Opaque,
    ("collections", "OrderedDict"): dict,
    ("torch._utils", "_rebuild_tensor_v2"): _Opaque,
    ("torch.storage", "_load_from_bytes"): _Opaque,
    ("numpy", "dtype"): _Opaque,
    ("numpy.core.multiarray", "scalar"): _Opaque,
    ("numpy._core.multiarray", "scalar"): _Opaque,
}


class _Edges(pickle.Unpickler):
    """Builds lists, tuples, strings, numbers and the stand-ins above, but no class or function that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "acdc" and name == "TorchIndex":
            return _Index
        if (module, name) in STAND_INS:
            return STAND_INS[module, name]
        raise pickle.UnpicklingError(f"{module}.{name}")


def unpickled(path: Path) -> Any:
    """Return the content of a pickle of edges without running code. Raises ValueError if it contains anything else."""
    try:
        return _Edges(io.BytesIO(files.read_bytes(path))).load()
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"refused: this pickle holds more than a list of edges ({error!s:.80}), and opening it runs code that came "
            "with it. Save the edges as JSON"
        ) from None
    except Exception as error:  # a broken file can raise any exception
        raise ValueError(f"truncated or not a pickle ({type(error).__name__}: {error!s:.80})") from None


# --- names ------------------------------------------------------------------------------------------------------------


def _entries(content: Any) -> list[Edge]:
    """Raise ValueError unless the content is a list of edges with their effects."""
    if not isinstance(content, list):
        raise ValueError(f"expected a list of edges, got {type(content).__name__}")
    bad = [i for i, entry in enumerate(content) if not _is_entry(entry)]
    if bad:
        raise ValueError(
            f"expected [[reading place, index, writing place, index], effect], {len(bad):,} entries are none: "
            f"{shown([f'entry {i + 1} ({content[i]!r:.60})' for i in bad])}"
        )
    entries = [(*edge, None if isinstance(effect, _Opaque) else effect) for edge, effect in content]
    with_position = [edge for edge in entries for index in (edge[1], edge[3]) if any(i is not None for i in index[:2])]
    if with_position:
        raise ValueError("this circuit has token positions, which are not supported: here an edge applies "
                         f"to all positions (first: {with_position[0][0]}{list(with_position[0][1])})")
    return entries


def _is_entry(value: Any) -> bool:
    if not (isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], list | tuple)):
        return False
    edge = value[0]
    names, indices = edge[::2], edge[1::2]
    return len(edge) == 4 and all(isinstance(name, str) for name in names) and all(
        isinstance(index, list | tuple) and all(i is None or _is_count(i) for i in index) for index in indices
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _inside_heads(entries: Iterable[Edge]) -> tuple[set[str], list[str]]:
    """Return the queries, keys and values that are connected inside their head; None if the list has no such edges."""
    found = set()
    for place, index, _, _, _ in entries:
        block = BLOCK.fullmatch(place)
        if block and (kind := INSIDE.fullmatch(block[2])):
            found.add(f"a{block[1]}.h{_head(place, index)}<{kind[1]}>")
    return found, [f"{len(found):,} edges inside heads are no edges here"] if found else []


def _head(place: str, index: Any) -> int:
    if len(index) != 3 or index[2] is None:
        raise ValueError(f"expected the number of a head in the index of {place}, got {list(index)}")
    head: int = index[2]
    return head


def _reader(edge: Edge) -> str | None:
    """Return our name of the reader; None for an edge inside a head or an MLP."""
    place, index = edge[:2]
    block = BLOCK.fullmatch(place)
    if block and (kind := re.fullmatch(r"hook_([qkv])_input", block[2])):
        return f"a{block[1]}.h{_head(place, index)}<{kind[1]}>"
    if block and block[2] == "hook_mlp_in":
        return f"m{block[1]}"
    if block and block[2] == "hook_resid_post":
        return "logits"
    if block and (INSIDE.fullmatch(block[2]) or block[2] in ("attn.hook_result", "hook_mlp_out")):
        return None
    raise ValueError(f"expected a place that reads, such as blocks.0.hook_q_input or blocks.0.hook_mlp_in; got {place}")


def _writer(edge: Edge) -> str:
    place, index = edge[2:4]
    block = BLOCK.fullmatch(place)
    if place in EMBEDDINGS:
        return EMBEDDINGS[place]
    if block and block[2] == "attn.hook_result":
        return f"a{block[1]}.h{_head(place, index)}"
    return f"m{block[1]}" if block and block[2] == "hook_mlp_out" else place  # unknown ones are reported together


def _their_writer(name: str) -> tuple[str, list[int | None]]:
    ours = {ours: theirs for theirs, ours in EMBEDDINGS.items()}
    if name in ours:
        return ours[name], [None]
    if name[0] == "m":
        return f"blocks.{name[1:]}.hook_mlp_out", [None]
    layer, _, head = name[1:].partition(".h")
    return f"blocks.{layer}.attn.hook_result", [None, None, int(head)]


def _their_reader(name: str, graph: Graph) -> tuple[str, list[int | None]]:
    if name == "logits":
        return f"blocks.{graph.shape.layers - 1}.hook_resid_post", [None]
    if name[0] == "m":
        return f"blocks.{name[1:]}.hook_mlp_in", [None]
    node, _, kind = name.partition("<")
    layer, _, head = node[1:].partition(".h")
    return f"blocks.{layer}.hook_{kind[0]}_input", [None, None, int(head)]
