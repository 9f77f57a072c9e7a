"""Edge Pruning's `edges.json`: the remaining edges, as pairs of names.

    [["tok_embeds", "a0.h3.q"], ["a0.h1", "a5.h7.v"], ["m10", "resid_post"]]

The authors' GPT-2 code has `tok_embeds` and `pos_embeds` (for tracr `token_embeds`), their Llama code one `embeds`;
`resid_post` is the reader of the logits. Keys and values are per key-value head, as here. Neither scores nor the
model's shape are in the file. If embeddings were not masked, they have no edges in the file, although every reader gets
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.formats.acdc import Acdc
from edge_pruning.formats.edge_table import EdgeTable, circuit_of, shown
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.shape import at_least, shape_from
from edge_pruning.graph import Graph
from edge_pruning.recount import KeyValues

OURS = {"tok_embeds": "tok", "token_embeds": "tok", "pos_embeds": "pos", "embeds": "input", "resid_post": "logits"}
THEIRS = {"tok": "tok_embeds", "pos": "pos_embeds", "input": "embeds", "logits": "resid_post"}
READER = re.compile(r"(a\d+\.h\d+)\.([qkv])")


@circuit_format
@dataclass(frozen=True)
class EdgesJson(Format):
    """Writes both conventions: one writer is called `embeds`, two are `tok_embeds` and `pos_embeds`."""

    name: ClassVar[str] = "edges-json"
    summary: ClassVar[str] = "Edge Pruning's edges.json: pairs of names; needs --shape or --like when it is read"
    suffixes: ClassVar[tuple[str, ...]] = (".json", "edges.json")
    kv: ClassVar[KeyValues | None] = "kv"

    @classmethod
    def holds(cls, content: Any) -> bool:
        """Return whether entries are pairs of names; those of `acdc` begin with a list."""
        return isinstance(content, list) and not Acdc.holds(content)

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        content = files.read_json(path)
        pairs = _pairs(content)
        found = shape_from({}, shape, at_least(name for pair in pairs for name in pair))
        writers = {writer for writer, _ in pairs}
        if "input" in writers and writers & {"tok", "pos"}:
            raise ValueError("expected one embedding writer (embeds) or two (tok_embeds, pos_embeds), got both kinds")
        graph = Graph(found, "split" if writers & {"tok", "pos"} else "joint")
        table = EdgeTable([f"{w}->{r}" for w, r in pairs], [True] * len(pairs), [None] * len(pairs))
        circuit = circuit_of(graph, table, {"source": {"file": path.name}})
        notices = () if writers & {"tok", "pos", "input"} else (
            "no edge leaves an embedding; if the masks were trained without embedding nodes, every reader got the "
            "embeddings in full, which this file does not say",
        )
        return Found(circuit, notices)

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        pairs = (edge.partition("->") for edge in circuit.edges)
        lines = ",\n".join(f'  ["{_theirs(writer)}", "{_theirs(reader)}"]' for writer, _, reader in pairs)
        files.write_text(path, f"[\n{lines}\n]\n")
        notices = [] if circuit.scores is None else ["this format has no scores; they were left out"]
        if circuit.graph.embeddings == "joint":
            notices.append("the input is called embeds, as in the authors' Llama code; their GPT-2 code has tok_embeds "
                           "and pos_embeds, for which there is --embeddings split")
        return notices


def _pairs(content: Any) -> list[tuple[str, str]]:
    """Return the pairs in our names. Raises ValueError unless the content is a list of pairs of names."""
    if not isinstance(content, list):
        raise ValueError(f"expected a list of pairs of names, got {type(content).__name__}")
    bad = [i for i, pair in enumerate(content) if not _is_pair(pair)]
    if bad:
        raise ValueError(
            f'expected pairs of names such as ["a0.h1", "a5.h7.q"], {len(bad):,} entries are none: '
            f"{shown([f'entry {i + 1} ({content[i]!r:.60})' for i in bad])}"
        )
    return [(_ours(writer), _ours(reader)) for writer, reader in content]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(name, str) for name in value)


def _ours(name: str) -> str:
    match = READER.fullmatch(name)
    return f"{match[1]}<{match[2]}>" if match else OURS.get(name, name)


def _theirs(name: str) -> str:
    return THEIRS.get(name, name.replace("<", ".").removesuffix(">"))
