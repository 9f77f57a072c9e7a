"""A shrunk model as a folder: Hugging Face's own files, what was kept, and what was measured.

    config.json model.safetensors    as `save_pretrained` writes them, with the tokenizer's or image processor's files
    kept.safetensors                 what stays of each layer of the original (see `kept.py`)
    shrunk.json                      how the model was made, and what was measured of the original and of it

If every layer keeps equally many whole heads and units, config.json holds the new sizes, and
`AutoModel...from_pretrained` opens the folder. Otherwise config.json is the original's, and only `load_shrunk` opens
the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.loading.pretrained import explained, quiet
from edge_pruning.shrink.cutting import cut
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import check_shrinkable

FORMAT, VERSION = "edge-pruning/shrunk", 1
KEPT, RECORD = "kept.safetensors", "shrunk.json"


def check_new(folder: Path) -> None:
    """Raise ValueError if the folder exists, because nothing is replaced, or if it cannot be written."""
    if folder.exists():
        raise ValueError(f"{folder} exists already, and nothing is replaced; choose another folder with --out")
    place = next(parent for parent in folder.absolute().parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {folder}: {place} is not a writable folder; choose another one with --out")


def save_shrunk(
    hf: Any, kept: Kept, record: Mapping[str, Any], folder: Path, companions: Callable[[Path], Any] | None = None
) -> None:
    """Write a model that has been cut. Raises ValueError if the folder exists.

    companions: called with a folder, to write what else belongs to the model there, such as its tokenizer.
    """
    check_new(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        partial.mkdir(parents=True)
        if kept.is_uniform:
            describe(hf.config, kept)
        with quiet():
            hf.save_pretrained(partial)
            if companions is not None:
                companions(partial)
        kept.save(partial / KEPT)
        files.write_json(partial / RECORD, {"format": FORMAT, "version": VERSION, **record})
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def describe(config: Any, kept: Kept) -> None:
    """Write the sizes of a uniform cut into the whole model's configuration, in place."""
    per_group = config.num_attention_heads // kept.channels.shape[1]
    groups = int(kept.groups[0].sum())
    config.head_dim = kept.channels.shape[2]
    config.num_attention_heads = groups * per_group
    if hasattr(config, "num_key_value_heads"):
        config.num_key_value_heads = groups
    config.intermediate_size = int(kept.units[0].sum())


def load_shrunk(folder: str | Path, **options: Any) -> Any:
    """Open a folder that `edge-pruning shrink` wrote, as a Hugging Face model in evaluation mode.

    options: those of `from_pretrained`, such as dtype.
    Raises ValueError if the folder holds no shrunk model, or a damaged one.
    """
    import transformers

    folder = Path(folder)
    read_record(folder)
    kept = Kept.load(folder / KEPT)
    with explained(str(folder), "shrunk model"), quiet():
        config = transformers.AutoConfig.from_pretrained(folder)
        loader = getattr(transformers, check_shrinkable(config).loader)
        if kept.is_uniform:
            return loader.from_pretrained(folder, **options).eval()
        cls = cut_class(loader._model_mapping[type(config)], kept)
        return cls.from_pretrained(folder, config=config, **options).eval()


def read_record(folder: Path) -> dict[str, Any]:
    """Read the folder's shrunk.json. Raises ValueError if the folder holds no shrunk model."""
    if not (folder / RECORD).exists():
        raise ValueError(f"{folder} holds no shrunk model: expected a folder with {RECORD}, as `shrink` writes it")
    content: dict[str, Any] = files.read_json(folder / RECORD, dict)
    files.check_format(content, FORMAT, VERSION, folder / RECORD)
    return content


def cut_class(whole: type[Any], kept: Kept) -> type[Any]:
    """A subclass whose models are cut when they are built, so that their weights have the shapes of the saved ones."""

    def build(self: Any, config: Any, *args: Any, **options: Any) -> None:
        whole.__init__(self, config, *args, **options)
        cut(self, kept)

    return type(whole.__name__, (whole,), {"__init__": build, "__module__": whole.__module__})
