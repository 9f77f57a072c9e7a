"""Map the column names of other tools to the fields of a pair.

Columns are recognised by their names: those of this library, or those of a known dialect (the files of EAP-IG,
auto-circuit, Edge Pruning and MIB). `--columns clean=prompt,answer=label` maps the columns of any other file; a name
with dots accesses nested objects (`metadata.subject`). Other columns are ignored, with one notice.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_pruning.registry import nearest

Fields = Mapping[str, Any]
FIELDS = ("clean", "corrupted", "answer", "wrong_answer", "split")
NAMES = {
    "clean": ("clean", "clean_prompt", "clean_image", "prompt", "prefix", "ioi_sentences_input"),
    "corrupted": (
        "corrupted", "corrupt", "corrupted_prompt", "corrupted_image", "corr_prefix", "counterfactual",
        "corr_ioi_sentences_input",
    ),
    "answer": ("answer", "answers", "correct_answer", "class", "label", "pronoun", "ioi_sentences_labels"),
    "wrong_answer": (
        "wrong_answer", "wrong_answers", "incorrect_answer", "other_class", "corr_pronoun",
        "ioi_sentences_labels_wrong",
    ),
    "split": ("split",),
}
IDS = {  # columns that hold token ids
    "answer": ("answer_ids", "correct_idx", "country_idx", "clean_answer_idx", "answers_idx"),
    "wrong_answer": (
        "wrong_answer_ids", "incorrect_idx", "corrupted_country_idx", "corrupted_answer_idx", "corrupted_answers_idx",
    ),
}
OWN = "tokens"  # a pair of token ids


@dataclass(frozen=True)
class Dialect:
    """The columns of a tool that need more than a list of names. needs: the columns that identify the dialect."""

    name: str
    needs: tuple[str, ...]
    read: Callable[[Fields], dict[str, Any]]
    without: tuple[str, ...] = ()

    def fits(self, columns: set[str]) -> bool:
        return columns.issuperset(self.needs) and columns.isdisjoint(self.without)


def _edge_pruning_ioi(row: Fields) -> dict[str, Any]:
    """Read a row of sentences that end with their answer."""
    clean, corrupted = (str(row[name]).rpartition(" ")[0] for name in ("ioi_sentences", "corr_ioi_sentences"))
    return {"clean": clean, "corrupted": corrupted, "answer": f" {row['a']}", "wrong_answer": f" {row['b']}"}


def _years(row: Fields, clean: str, corrupted: str, year: str) -> dict[str, Any]:
    """Read a row of two-digit years: all later ones are right, all others wrong."""
    first = int(str(row[year])[-2:])
    right, wrong = ([f"{n:02d}" for n in numbers] for numbers in (range(first + 1, 100), range(first + 1)))
    return {"clean": row[clean], "corrupted": row[corrupted], "answer": right, "wrong_answer": wrong}


def _mib_ioi(row: Fields) -> dict[str, Any]:
    about = row["metadata"]
    return {
        "clean": row["prompt"], "corrupted": row["s2_io_flip_counterfactual"]["prompt"],
        "answer": f" {about['indirect_object']}", "wrong_answer": f" {about['subject']}",
    }


def _mib_choices(row: Fields) -> dict[str, Any]:
    other = row["symbol_counterfactual"]
    return {
        "clean": row["prompt"], "corrupted": other["prompt"], "answer": _chosen(row), "wrong_answer": _chosen(other)
    }


def _chosen(row: Fields) -> Any:
    return row["choices"]["label"][row["answerKey"]]


def _mib_arithmetic(row: Fields) -> dict[str, Any]:
    other = row["random_counterfactual"]
    return {
        "clean": row["prompt"], "corrupted": other["prompt"], "answer": str(row["label"]),
        "wrong_answer": str(other["label"]),
    }


DIALECTS = (
    Dialect("Edge Pruning's IOI", ("ioi_sentences", "corr_ioi_sentences", "a", "b"), _edge_pruning_ioi),
    Dialect(
        "Edge Pruning's greater-than", ("prefix", "corr_prefix", "digits"),
        lambda row: _years(row, "prefix", "corr_prefix", "digits"),
    ),
    Dialect(
        "EAP-IG's greater-than", ("clean", "corrupted", "correct_idx"),
        lambda row: _years(row, "clean", "corrupted", "correct_idx"), without=("incorrect_idx",),
    ),
    Dialect("MIB's IOI", ("prompt", "s2_io_flip_counterfactual", "metadata"), _mib_ioi),
    Dialect("MIB's multiple choice", ("prompt", "symbol_counterfactual", "choices", "answerKey"), _mib_choices),
    Dialect("MIB's arithmetic", ("prompt", "random_counterfactual", "label"), _mib_arithmetic),
)


@dataclass(frozen=True)
class Columns:
    """How the fields of a pair are read from a record."""

    read: Callable[[Fields], dict[str, Any]]
    notices: tuple[str, ...] = ()


def columns_of(records: list[tuple[int, Fields]], said: str) -> Columns:
    """Determine the meaning of the columns. said: `clean=prompt,answer=label`. Raises ValueError for unknown fields."""
    present = list(dict.fromkeys(name for _, fields in records for name in fields))
    given = _given(said, records)
    for dialect in () if given else DIALECTS:
        if dialect.fits(set(present)):
            return Columns(_with_split(dialect.read), (f"columns: read as {dialect.name}",))
    chosen = {name: given.get(name) or _first(NAMES[name], present) for name in FIELDS}
    ids = {name: _first(IDS[name], present) for name in IDS if chosen[name] is None}
    used = {*(n.partition(".")[0] for n in chosen.values() if n), *(n for n in ids.values() if n), OWN}
    return Columns(lambda row: _read(row, chosen, ids), tuple(_ignored(present, used, chosen)))


def _given(said: str, records: list[tuple[int, Fields]]) -> dict[str, str]:
    if not said:
        return {}
    pairs = [part.strip().partition("=") for part in said.split(",")]
    bad = [name for name, equals, column in pairs if name not in FIELDS or not equals or not column]
    if bad:
        raise ValueError(f"columns: expected FIELD=COLUMN with a field of {', '.join(FIELDS)}; got {', '.join(bad)}")
    given = {name: column for name, _, column in pairs}
    missing = [column for column in given.values() if all(_inside(fields, column) is None for _, fields in records)]
    if records and missing:
        present = dict.fromkeys(name for _, fields in records for name in fields)
        raise ValueError(f"columns: there is no column {', '.join(missing)}; there are {', '.join(present)}")
    return given


def _first(names: tuple[str, ...], present: list[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(present)}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _ignored(present: list[str], used: set[str], chosen: Mapping[str, str | None]) -> list[str]:
    """Describe the columns that are not read; a name close to that of a field may be a mistake."""
    extra = [name for name in present if name not in used]
    if not extra:
        return []
    missing = [field for field in FIELDS if chosen[field] is None]
    meant = [f"{name} is not {near[0]}" for name in extra if (near := nearest(name, missing)[:1])]
    return [f"columns: {', '.join(extra)} ignored" + (f" ({'; '.join(meant)}: see --columns)" if meant else "")]


def _inside(row: Any, name: str) -> Any:
    """Return a field by its name, or by a path with dots."""
    if isinstance(row, Mapping) and name in row:
        return row[name]
    first, dot, rest = name.partition(".")
    return _inside(row.get(first), rest) if dot and isinstance(row, Mapping) else None


def _read(row: Fields, chosen: Mapping[str, str | None], ids: Mapping[str, str | None]) -> dict[str, Any]:
    fields = {name: value for name, column in chosen.items() if column and (value := _inside(row, column)) is not None}
    fields |= {name: _as_ids(row[column]) for name, column in ids.items() if column and column in row}
    for name in ("answer", "wrong_answer"):
        fields |= {name: _as_list(fields[name])} if name in fields else {}
    return _predicted(fields) | ({OWN: row[OWN]} if OWN in row else {})


def _with_split(read: Callable[[Fields], dict[str, Any]]) -> Callable[[Fields], dict[str, Any]]:
    return lambda row: read(row) | ({"split": row["split"]} if "split" in row else {})


def _as_ids(value: Any) -> Any:
    """Parse token ids in a table cell."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _as_list(value: Any) -> Any:
    """Parse a list in a table cell."""
    if not (isinstance(value, str) and value.startswith("[") and value.endswith("]")):
        return value
    for reader in (json.loads, ast.literal_eval):
        try:
            parsed = reader(value)
            return parsed if isinstance(parsed, list) else value
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return value


def _predicted(fields: dict[str, Any]) -> dict[str, Any]:
    """Parse Edge Pruning's own format, which marks the prediction inside the text: `2 + 2 =<predict> 4</predict>`."""
    if "<predict>" not in str(fields.get("clean")):
        return fields
    prompt, _, rest = str(fields["clean"]).partition("<predict>")
    corrupted = str(fields.get("corrupted", "")).partition("<predict>")[0]
    return {**fields, "clean": prompt, "corrupted": corrupted, "answer": rest.partition("</predict>")[0]}
