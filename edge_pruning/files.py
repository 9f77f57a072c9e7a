"""Atomic files: a process killed at any moment leaves either the old file or the new one."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, then rename. On failure the old file stays; raises OSError."""
    write_parts(path, [content])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Like `write_bytes`, for content that is produced in parts and need not fit into memory as a whole."""
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
    finally:  # also if the user interrupts; after the rename there is nothing left to remove
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_exists(*paths: Path) -> None:
    """Raises ValueError with the first path that does not exist. Reading says the same, but takes torch for tensors."""
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise ValueError(f"{missing} does not exist")


def read_bytes(path: Path) -> bytes:
    """Read a file. Raises ValueError with its name if it does not exist."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise ValueError(f"expected a file, but {path} is a folder") from None


def read_text(path: Path) -> str:
    """Read UTF-8 text. Raises ValueError with the file's name if it is missing or not text."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}") from None


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON; numbers that are not finite become null, because JSON has no such numbers."""
    write_text(path, json.dumps(json_values(value), indent=2, ensure_ascii=False) + "\n")


def json_values(value: Any) -> Any:
    """Return the same dictionaries and lists, with None for numbers that are NaN or infinite."""
    if isinstance(value, Mapping):
        return {name: json_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path, *, made: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read JSON. Raises ValueError with the file's name if it is missing, truncated or not JSON.

    made: called with each object of the file; its result replaces the object.
    """
    try:
        return json.loads(read_bytes(path), object_hook=made)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is truncated or not JSON: {error}") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    import safetensors.torch

    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(on_cpu, metadata=dict(metadata or {})))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors. Raises ValueError with the file's name if it is missing, truncated or not safetensors."""
    import safetensors.torch

    try:
        return safetensors.torch.load(read_bytes(path))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from None
