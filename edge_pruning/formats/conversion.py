"""Convert a file: read, recount, cut if requested, recount for the target format, write."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.formats.acdc import unpickled
from edge_pruning.formats.auto_circuit import MODULE
from edge_pruning.formats.circuit_json import CircuitJson
from edge_pruning.formats.format import FORMATS, Format, Found, get_format
from edge_pruning.formats.torch_file import is_torch, read_torch
from edge_pruning.recount import Embeddings, KeyValues, recount
from edge_pruning.registry import settings_of

log = logging.getLogger("edge_pruning")

PICKLES = (".npy", ".npz", ".joblib")



@dataclass(frozen=True, eq=False)
class Conversion:
    """The written circuit, the formats of both files, and notices."""

    circuit: Circuit
    read_as: str
    written_as: str
    notices: tuple[str, ...]


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str | None = None,
    read_as: str | None = None,
    shape: Mapping[str, Any] | None = None,
    like: str | Path | None = None,
    embeddings: Embeddings | None = None,
    heads: KeyValues | None = None,
    edges: int | None = None,
    signed: bool = False,
) -> Conversion:
    """Convert the circuit in `source` to `target`, in another tool's format or from one.

    to, read_as: names of formats (default: from the files' names and contents).
    shape: parts of the model's shape that the source does not contain (`layers`, `heads`, `kv_heads`, `parallel`).
    like: alternatively, a circuit file of that model.
    embeddings, heads: another counting convention (`joint` or `split`; `kv` or `query`).
    edges: cut the scores at this size.
    signed: scores of EAP-IG and MIB keep their sign.

    Raises ValueError with the reason; nothing is written in that case.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise ValueError(f"{source} would be overwritten by its own conversion; give the result another name")
    settings = {"signed": True} if signed else {}
    reader = get_format(read_as or format_of(source), **settings)
    writer = get_format(to or _wanted(target, reader, recounted=bool(embeddings or heads or edges)), **settings)
    if signed and not any("signed" in settings_of(type(side)) for side in (reader, writer)):
        raise ValueError(f"signed applies to scores of EAP-IG and MIB, but this is from {reader.name} to {writer.name}")
    found = read_with(reader, source, {**_shape_like(like), **(shape or {})})
    circuit, changed = recount(found.circuit, embeddings=embeddings, kv=heads)
    if edges is not None:
        circuit = _cut(circuit, edges)
    circuit, wanted = recount(circuit, embeddings=writer.embeddings, kv=writer.kv)
    lost = writer.write(circuit, target)
    return Conversion(circuit, reader.name, writer.name, (*found.notices, *changed, *wanted, *lost))


def load(
    path: str | Path, shape: Mapping[str, Any] | None = None, *, like: str | Path | None = None
) -> Circuit:
    """Load the circuit in a file whose format is known from its name and content. shape, like: as for `convert`.

    Notices about missing information are logged.
    """
    path = Path(path)
    found = read_with(get_format(format_of(path)), path, {**_shape_like(like), **(shape or {})})
    for notice in found.notices:
        log.warning("%s: %s", path, notice)
    return found.circuit


def is_foreign(path: Path) -> bool:
    """Return whether a file comes from another tool."""
    return format_of(path) != CircuitJson.name


def read_with(reader: Format, path: Path, shape: Mapping[str, Any]) -> Found:
    """Return the content of a file of this format. Errors begin with the file's name and format."""
    try:
        return reader.read(path, shape)
    except ValueError as error:
        named = str(error).startswith(str(path))
        raise ValueError(str(error) if named else f"{path} (read as {reader.name}): {error}") from None


def format_of(path: Path) -> str:
    """Return the name of a file's format, from its suffix, and from its content if several formats share that suffix.
    """
    if path.suffix.lower() in PICKLES:
        raise ValueError(
            f"{path} may be a pickle: opening one runs code that came with it, so none is ever read. Save the circuit "
            f"in one of: {', '.join(sorted(FORMATS))}"
        )
    if path.is_dir():
        raise ValueError(f"expected a file, but {path} is a folder")
    found = _by_suffix(path)
    if len(found) > 1:
        content = _content(path)
        found = [cls for cls in found if cls.holds(content)]
    if len(found) != 1:
        raise ValueError(f"{path}: unknown format; if it is one of these, name it with --from: {_known()}")
    return found[0].name


def _content(path: Path) -> Any:
    """Return the content of a file whose name does not determine its format. Raises ValueError with the file's name."""
    if path.suffix.lower() == ".json":
        return files.read_json(path, made=_outermost)
    try:
        return read_torch(path) if is_torch(path) else unpickled(path)
    except ValueError as error:
        raise ValueError(f"{path} was not read: {error}") from None


def _outermost(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return an object if it can be a whole file; objects inside it are dropped, because there can be millions."""
    whole = value.keys() & {"format", "edges", "links"} or any(map(MODULE.fullmatch, value))
    return value if whole else None


def _wanted(path: Path, reader: Format, *, recounted: bool) -> str:
    """Return the format for a target's name: for .json, which formats share, our own if the source is foreign."""
    found = [cls for cls in FORMATS.values() if path.name.lower().endswith(cls.suffixes)]
    if not found:
        raise ValueError(f"{path}: no format has this suffix; choose one with --to: {_known()}")
    def fit(cls: type[Format]) -> tuple[int, bool]:
        suffix = max((s for s in cls.suffixes if path.name.lower().endswith(s)), key=len)
        return len(suffix), cls is CircuitJson or suffix == cls.suffixes[0]

    longest = max(found, key=fit)
    if longest.name == reader.name and not recounted:
        others = ", ".join(cls.name for cls in found if cls is not longest)
        raise ValueError(f"{path} would be {reader.name} again; choose another one with --to: {others or _known()}")
    return longest.name


def _by_suffix(path: Path) -> list[type[Format]]:
    return [cls for cls in FORMATS.values() if path.name.lower().endswith(cls.all_suffixes())]


def _known() -> str:
    return ", ".join(f"{name} ({' '.join(cls.all_suffixes())})" for name, cls in sorted(FORMATS.items()))


def _shape_like(path: str | Path | None) -> dict[str, Any]:
    return {} if path is None else asdict(Circuit.load(path).graph.shape)


def _cut(circuit: Circuit, edges: int) -> Circuit:
    if circuit.scores is None:
        raise ValueError(f"expected scores to choose {edges:,} edges by, but the file has none; leave edges out")
    return Circuit.from_scores(circuit.scores, edges=edges, provenance=circuit.provenance)
