"""From a file or objects to records: dictionaries with whatever fields they have, numbered from 1.

    .jsonl .ndjson    one JSON object per line
    .json             a list of objects, or an object with one list of objects in it (auto-circuit's `prompts`)
    .csv .tsv         a header and rows; commas, semicolons or tabs
    .parquet          needs pyarrow (extra `[datasets]`)
    hub://OWNER/NAME  a dataset of the Hugging Face hub, or hub://OWNER/NAME/CONFIG (extra `[datasets]`)
    a folder          a dataset that `save_to_disk` wrote (extra `[datasets]`), or a folder of images for each class
                      (`image_files.py`)
    objects           a list of `Pair`, dictionaries or tuples; a pandas DataFrame; a `datasets.Dataset`

Other rows than objects are noted as problems. A source that cannot be read at all raises ValueError.
"""

from __future__ import annotations

import csv
import io
import json
import math
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.pair import Pair as TokenPair
from edge_pruning.tasks.encoding import TextPair
from edge_pruning.tasks.own.image_files import folder_rows, is_image_folder, is_image_name
from edge_pruning.tasks.own.pair import Pair
from edge_pruning.tasks.own.problems import Problems

Fields = Mapping[str, Any]
Records = list[tuple[int, Fields]]
HUB = "hub://"
EXTRA = "install it with: pip install 'edge-pruning[datasets]'"
SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
               "dev": "validation", "test": "test"}  # fmt: skip
EXPECTED = (
    "expected the name of a task, a path to a file with pairs, a list of pairs (ep.Pair, dictionaries or tuples), a "
    "pandas DataFrame or a datasets.Dataset"
)


def is_source(name: str) -> bool:
    """Return whether a name is that of a file of pairs or a dataset, rather than of a task."""
    path = Path(name)
    return (
        name.startswith(HUB) or path.suffix.lower() in READERS or _is_dataset_folder(path) or is_image_folder(path)
    )


def read(source: Any, problems: Problems, seed: int = 0) -> Records:
    """Return all records of a source, and set the unit of `problems`. seed: for drawing partners in a folder of images.
    """
    if isinstance(source, str | Path):
        return _from_name(str(source), problems, seed)
    problems.unit = "pair"
    return [(number, _with_whole_paths(fields)) for number, fields in _numbered(_from_objects(source), problems)]


def written(source: Any) -> str:
    """Return pairs in memory as JSON lines, from which the same pairs are read."""
    records = read(source, Problems("these pairs"))
    return "".join(json.dumps(fields, default=_as_json, ensure_ascii=False) + "\n" for _, fields in records)


def _as_json(value: Any) -> Any:
    if type(value) is TokenPair:
        return asdict(value)
    raise ValueError(f"pairs stored in a run folder may contain only strings, numbers and lists; got {value!r:.60}")


# --- files ------------------------------------------------------------------------------------------------------------


def _from_name(name: str, problems: Problems, seed: int) -> Records:
    problems.unit = "row"
    if name.startswith(HUB):
        return _numbered(_from_objects(_downloaded(name.removeprefix(HUB))), problems)
    path = Path(name)
    if is_image_folder(path):
        problems.unit = "image"
        return _numbered(folder_rows(path, seed), problems)
    if path.is_dir():
        return _numbered(_from_objects(_stored_dataset(path)), problems)
    return READERS[path.suffix.lower()](path, problems)


def _json_lines(path: Path, problems: Problems) -> Records:
    problems.unit = "line"
    lines = files.read_bytes(path).split(b"\n")
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip(b" \t\r\xef\xbb\xbf")]
    if not numbered:
        problems.add(None, "the file is empty; expected one JSON object per line")
    found = []
    for number, line in numbered:
        try:
            value = files.parse_json(line.decode("utf-8-sig"))
        except ValueError as error:  # not JSON, or not UTF-8
            problems.add(number, f"not valid JSON ({error})")
            continue
        found.append((number, value))
    return _objects_only(found, problems)


def _json(path: Path, problems: Problems) -> Records:
    try:
        content = files.parse_json(files.read_bytes(path).decode("utf-8-sig"))
    except ValueError as error:
        lines = "; if it has one object per line, rename it to .jsonl" if "Extra data" in str(error) else ""
        raise ValueError(f"{path} is not valid JSON: {error}{lines}") from None
    lists = [value for value in content.values() if _is_records(value)] if isinstance(content, dict) else [content]
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise ValueError(f"{path}: expected a list of objects, or an object with one such list (such as 'prompts')")
    return _numbered(lists[0], problems)


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _table(path: Path, problems: Problems) -> Records:
    """Read a table with commas, semicolons or tabs, whichever the header contains most of. The header is line 1."""
    problems.unit = "line"
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a UTF-8 text file ({error}); save it as UTF-8") from None
    header = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: Records = []
    try:
        names = [name.strip() for name in next(rows, [])]
        twice = sorted({name for name in names if names.count(name) > 1 and name})
        if not any(names) or twice:
            raise ValueError(f"{path}: expected a header with different names; got {', '.join(twice) or 'none'}")
        for row in rows:
            if len(row) > len(names):
                problems.add(rows.line_num, f"{len(row)} values, but the header has {len(names)} names")
            elif any(row):
                fields = {name: value for name, value in zip(names, row, strict=False) if name and value != ""}
                found.append((rows.line_num, fields))
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: not a table ({error})") from None
    if not found and not problems.messages:
        problems.add(None, "the file has no rows; expected a header and one pair per row")
    return found


def _parquet(path: Path, problems: Problems) -> Records:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{path}: reading Parquet needs pyarrow; {EXTRA}") from None
    content = files.read_bytes(path)
    try:
        rows = parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is truncated or not a Parquet file: {str(error).splitlines()[0]}") from None
    return _numbered(rows, problems)


READERS: dict[str, Callable[[Path, Problems], Records]] = {
    ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json, ".csv": _table, ".tsv": _table, ".parquet": _parquet,
}  # fmt: skip

# --- datasets ---------------------------------------------------------------------------------------------------------


def _is_dataset_folder(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise ValueError(f"datasets of the hub need the package datasets; {EXTRA}") from None
    datasets.disable_progress_bars()
    return datasets


def _downloaded(name: str) -> Any:
    """Load a dataset of the hub. Without a network, a single request decides, without retries."""
    datasets = _datasets()
    owner, _, rest = name.partition("/")
    repository, _, config = rest.partition("/")
    if not owner or not repository:
        raise ValueError(f"{HUB}{name}: expected {HUB}OWNER/NAME, or {HUB}OWNER/NAME/CONFIG")
    try:
        _ask_the_hub(f"{owner}/{repository}")
        return datasets.load_dataset(f"{owner}/{repository}", config or None)
    except Exception as error:  # the hub, the network and each loader have their own exceptions
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        advice = "; the hub cannot be reached: give a file, or a folder that save_to_disk wrote" * _is_offline(error)
        raise ValueError(f"could not load the dataset {HUB}{name}: {reason}{advice}") from error


def _is_offline(error: BaseException) -> bool:
    """Return whether an error of the hub comes from the network: no name, no connection, no answer."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    return any(isinstance(one, socket.gaierror | ConnectionError | TimeoutError) for one in causes)


def _ask_the_hub(repository: str) -> None:
    """Raise an error if the hub does not answer, or has no such dataset."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise ValueError("offline mode is on (HF_HUB_OFFLINE); give a file, or a folder that save_to_disk wrote")
    HfApi().dataset_info(repository, timeout=5)


def _stored_dataset(path: Path) -> Any:
    try:
        return _datasets().load_from_disk(str(path))
    except ValueError:
        raise
    except Exception as error:  # a broken dataset can raise any exception
        raise ValueError(f"could not load the dataset in {path}: {error}") from error


# --- objects ----------------------------------------------------------------------------------------------------------


def _from_objects(source: Any) -> Iterable[Any]:
    """Return the rows of any object with rows. A mapping from splits to rows assigns the splits."""
    if isinstance(source, Mapping):
        unknown = [name for name in source if SPLIT_NAMES.get(str(name)) is None]
        if unknown or not source:
            raise ValueError(f"{EXPECTED}; got a mapping with {', '.join(map(repr, unknown)) or 'nothing'} in it")
        if len(source) == 1:  # an undivided dataset has the single split `train`
            return _from_objects(next(iter(source.values())))
        return [
            {**fields, "split": SPLIT_NAMES[name]} for name, rows in source.items()
            for fields in map(_fields, _from_objects(rows)) if isinstance(fields, Mapping)
        ]
    if hasattr(source, "to_dict") and hasattr(source, "columns") and hasattr(source, "iloc"):
        records: list[Any] = source.to_dict("records")
        return records
    if isinstance(source, str | bytes) or not isinstance(source, Iterable):
        raise ValueError(f"{EXPECTED}; got {type(source).__name__}")
    return source


def _with_whole_paths(fields: Fields) -> Fields:
    """Make image paths absolute, so that they are found when the pairs are read from another folder."""
    return {
        name: str(Path(value).absolute()) if is_image_name(value) and Path(value).is_file() else value
        for name, value in fields.items()
    }


def _numbered(rows: Iterable[Any], problems: Problems) -> Records:
    found = _objects_only([(number, _fields(row)) for number, row in enumerate(rows, 1)], problems)
    if not found and not problems.messages:
        problems.add(None, "there are no pairs; expected at least three")
    return found


def _objects_only(rows: Iterable[tuple[int, Any]], problems: Problems) -> Records:
    found: Records = []
    for number, fields in rows:
        if isinstance(fields, Mapping):
            values = {str(name): python_value(value) for name, value in fields.items()}
            found.append((number, {name: value for name, value in values.items() if value is not None}))
        else:
            expected = "an object with the fields clean, corrupted, answer"
            problems.add(number, f"expected {expected}, got {type(fields).__name__}")
    return found


def _fields(row: Any) -> Any:
    """Return a row as a dictionary; other values are returned unchanged."""
    if isinstance(row, Pair):
        return row.fields
    if isinstance(row, TextPair):
        answers = {"answer": row.answer or None, "wrong_answer": row.wrong or None}
        return {"clean": row.clean, "corrupted": row.corrupted, **answers}
    if isinstance(row, TokenPair):
        return {"clean": row.clean, "corrupted": row.corrupted, "tokens": row}
    if hasattr(row, "tolist"):
        row = row.tolist()
    is_row = isinstance(row, tuple | list) and 2 <= len(row) <= 4
    if is_row and all(isinstance(prompt, str | list | tuple) for prompt in row[:2]):
        return dict(zip(("clean", "corrupted", "answer", "wrong_answer"), row, strict=False))
    return row


def python_value(value: Any) -> Any:
    """Convert NumPy and pandas values to Python values; None for missing ones."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and math.isnan(value) or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list):
        return [python_value(item) for item in value]
    return value
