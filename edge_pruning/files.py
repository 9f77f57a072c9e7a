"""Files: written atomically, and checked when they are read.

A process killed at any moment leaves either the old file or the new one. All JSON is read here: UTF-8 text, at most 100
levels deep, with strings that can be written again, and of the requested kind. Every error names the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from edge_pruning.checked import check, shown
from edge_pruning.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
DEEPEST = 100  # levels of a JSON file; ours have at most ten
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary file in the same folder, then rename it. On failure, the old file stays; raises OSError."""
    write_parts(path, [content])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Like `write_bytes`, for content that is produced in parts and may not fit into memory as a whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        kept = " The previous version was kept." if path.is_file() else ""
        raise OSError(error.errno, f"could not write {path}: {error.strerror or error}.{kept}") from error
    finally:  # also on an interrupt; after the rename, nothing is left to remove
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_exists(*paths: Path) -> None:
    """Raise ValueError for the first path that does not exist. A cheap check before imports that reading would need."""
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise ValueError(f"{missing} does not exist")


def read_bytes(path: Path) -> bytes:
    """Read a file. Raises ValueError with the path if it does not exist."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise ValueError(f"expected a file, but {path} is a folder") from None


def read_text(path: Path) -> str:
    """Read UTF-8 text without a byte order mark. Raises ValueError with the path if the file is missing or not text."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is truncated or not UTF-8 text: {error}") from None


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON. Numbers that are not finite become null, because JSON cannot represent them."""
    write_text(path, json.dumps(json_values(value), indent=2, ensure_ascii=False) + "\n")


def json_values(value: Any) -> Any:
    """Return the same dictionaries and lists, with None for numbers that are NaN or infinite."""
    if isinstance(value, Mapping):
        return {name: json_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@overload
def read_json(path: Path, kind: type[T]) -> T: ...
@overload
def read_json(path: Path, kind: None = None, *, made: Callable[[dict[str, Any]], Any] | None = None) -> Any: ...
def read_json(path: Path, kind: type[T] | None = None, *, made: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file, and check it against a kind of content (see `checked`), if given.

    made: called with each object of the file; its result replaces the object.

    Raises ValueError with the path if the file is missing, truncated, not JSON, or of another kind.
    """
    text = read_text(path)
    try:
        content = parse_json(text, made)
        return content if kind is None else check(content, kind)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is truncated or not JSON: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_own(path: Path, form: str, version: int, kind: type[T]) -> T:
    """Read a JSON file of this library, whose first fields are `format` and `version`.

    Raises ValueError with the path if the file has another format or a newer version, or is damaged.
    """
    content = read_json(path)
    check_format(content, form, version, path)
    try:
        _check_finite(content)
        return check(content, kind)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def check_format(content: Any, form: str, version: int, path: Path) -> None:
    """Raise ValueError unless the content has this format, in this version or an older one."""
    said = content.get("format") if isinstance(content, dict) else None
    if said != form:
        got = "a file without a format" if said is None else shown(said)
        raise ValueError(f"{path}: expected the format {form!r}, got {got}")
    written = content.get("version")
    if not isinstance(written, int) or isinstance(written, bool):
        raise ValueError(f"{path} is damaged: version: expected a whole number, got {shown(written)}")
    if written > version:
        raise ValueError(
            f"{path} was written in format version {written}; this edge-pruning {__version__} reads up to {version}; "
            "upgrade with: pip install --upgrade edge-pruning"
        )


def read_json_lines(path: Path, kind: type[T]) -> list[T]:
    """Read a file with one JSON value per line. Raises ValueError with the number of the first broken line."""
    found: list[T] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            found.append(check(parse_json(line), kind))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return found


def parse_json(text: str, made: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the value of a JSON text. Raises ValueError (or JSONDecodeError) if it is not JSON or exceeds a limit."""
    try:
        content = json.loads(text, object_hook=made)
        if text.count("[") + text.count("{") > DEEPEST:  # otherwise it cannot be too deep
            _check_depth(content)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    if SURROGATE.search(text):
        _check_texts(content)
    return content


def _check_finite(content: Any) -> None:
    """Raises ValueError for NaN and infinite numbers, which JSON has not and `write_json` does not write."""
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        raise ValueError("expected finite numbers or null, got NaN or an infinite number") from None


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(DEEPEST):
        level = [
            item for part in level for item in (part.values() if isinstance(part, dict) else part)
            if isinstance(item, dict | list)
        ] if isinstance(content, dict | list) else []
        if not level:
            return
    raise RecursionError


def _check_texts(content: Any) -> None:
    """Raise ValueError for half a character (a lone surrogate), which files and tokenizers cannot represent."""
    try:
        json.dumps(content, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ValueError(f"{half} is half of a character (a lone surrogate); write the whole character") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    import safetensors.torch

    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(on_cpu, metadata=dict(metadata or {})))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors. Raises ValueError with the path if the file is missing, truncated, or not safetensors."""
    import safetensors.torch

    try:
        return safetensors.torch.load(read_bytes(path))
    except (safetensors.SafetensorError, KeyError, ValueError) as error:  # KeyError: a dtype that torch lacks
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from None
