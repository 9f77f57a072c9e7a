"""Torch files (`.pt`) of other tools, read without running what is in them.

A torch file is a pickle, and a pickle is a program that runs when it is opened. So it is read with `weights_only=True`,
which builds tensors, numbers, texts and plain containers and refuses everything else; there is no switch to trust one.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from edge_pruning import files

SUFFIXES = (".pt", ".pth")


def read_torch(path: Path) -> Any:
    """What a torch file holds. Raises ValueError for a broken one, and for one that holds more than plain values."""
    content = io.BytesIO(files.read_bytes(path))
    try:
        return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            "refused: it holds more than tensors and plain values, and opening it would run code that came with the "
            f"file ({_first_line(error)}). Ask its author for a plain one, or for JSON"
        ) from None
    except Exception as error:  # whatever a broken file makes of the reader: it raises a dozen kinds of error
        raise ValueError(f"truncated or not a torch file ({_first_line(error)})") from None


def is_torch(path: Path) -> bool:
    """Whether a file should be a torch file: by its name, or because it is the ZIP archive that torch writes."""
    return path.suffix.lower() in SUFFIXES or files.read_bytes(path)[:2] == b"PK"


def _first_line(error: Exception) -> str:
    return f"{str(error).strip().partition(chr(10))[0] or type(error).__name__:.160}"
