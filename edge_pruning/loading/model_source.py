"""Resolve the name of a model: the bundled model, a folder, a GGUF file, or a repository on the hub.

A `ModelSource` reads configuration, tokenizer and weights separately.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge_pruning import files
from edge_pruning.loading.gguf import GgufFile, gguf_file
from edge_pruning.loading.placement import DTYPES
from edge_pruning.loading.pretrained import hint, only_local_files, read, without_weights
from edge_pruning.models import check_supported
from edge_pruning.models.bundled import BUNDLED
from edge_pruning.models.digits import DIGITS
from edge_pruning.models.image_reader import ImageReader
from edge_pruning.models.tracr import compiled_folder
from edge_pruning.provenance import MODEL_IN_MEMORY

log = logging.getLogger("edge_pruning")
NAMED = {"bundled": BUNDLED, "digits": DIGITS}
LONGEST_NAME = 500  # characters; file systems accept fewer


@dataclass(frozen=True)
class ModelSource:
    """The source of the parts of a model.

    name: as the user gave it.
    path: the model argument of `from_pretrained`: a folder or a hub id.
    packed: the GGUF file, if the model is in one.
    options: further arguments of `from_pretrained`.
    """

    name: str
    path: str
    packed: GgufFile | None
    options: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, revision: str | None, *, trust_remote_code: bool) -> ModelSource:
        """Resolve a name. Raises ValueError for a GGUF file that does not exist."""
        path, options = source_of(name), {"revision": revision, "trust_remote_code": trust_remote_code}
        packed = gguf_file(path, revision)
        if packed:
            path, options = packed.source, {**options, "revision": None, **packed.options}
        if only_local_files(path, revision):
            options |= {"local_files_only": True}
        return cls(name, path, packed, options)

    def configuration(self) -> Any:
        """Read the configuration. Raises ValueError with what is missing, and for shrunk models of unequal layers."""
        if self.packed:
            return self.packed.configuration()
        _refuse_unequal_layers(Path(self.path))
        return self._read("AutoConfig", "configuration (config.json)")

    def tokenizer(self, config: Any) -> Any:
        """Read the tokenizer. Raises ValueError if it has no tokens, or tokens beyond the model's vocabulary."""
        tokenizer = self._read("AutoTokenizer", "tokenizer")
        check_tokenizer(tokenizer, config, self.name)
        return tokenizer

    def image_reader(self, config: Any) -> ImageReader | None:
        """Read the image processor, on Pillow, whose pixels are the same everywhere; None if the model has none."""
        try:
            processor = self._read("AutoImageProcessor", "image processor (preprocessor_config.json)", backend="pil")
        except ValueError as error:
            log.warning("%s; so it can be given images as tensors only", error)
            return None
        return ImageReader.of(processor, config)

    def weights(self, loader: str, dtype: str, **options: Any) -> Any:
        """Read the weights into a Hugging Face model. Raises ValueError with what is missing."""
        return self._read(loader, "weights", dtype=DTYPES[dtype], **options)

    def without_weights(self, config: Any, dtype: str) -> Any:
        """Build the model with empty weights on the device `meta`; takes no memory."""
        with torch.device("meta"):
            return without_weights(check_supported(config).loader, config, self.name, DTYPES[dtype], known=NAMED)

    def _read(self, loader: str, what: str, **options: Any) -> Any:
        return read(loader, self.name, self.path, what, known=NAMED, **options, **self.options)


def _refuse_unequal_layers(folder: Path) -> None:
    """Raise ValueError for a folder of `edge-pruning shrink` whose configuration does not describe the weights."""
    record = folder / "shrunk.json"
    if record.is_file() and files.read_json(record, dict).get("uniform") is False:
        raise ValueError(
            f"{folder} is a shrunk model whose layers keep different numbers of heads and units. Open it with "
            "edge_pruning.load_shrunk; to find circuits in a shrunk model, make it with --uniform"
        )


def source_of(name: str) -> str:
    """Return the folder or hub id that a name stands for."""
    return str(NAMED.get(name, name))


def checked_name(name: str, revision: str | None) -> str:
    """Return the name of a model. Raises ValueError for a model that was in memory, and for a revision without effect.
    """
    if name.endswith(MODEL_IN_MEMORY):
        raise ValueError(
            f"{name}: this model is not in a file. Pass it again (model=(model, tokenizer)), or save it with "
            "save_pretrained and give the folder"
        )
    if len(name) > LONGEST_NAME:
        raise ValueError(f"expected the name of a model or a folder, got a string of {len(name):,} characters")
    here = name in NAMED or Path(name).exists()
    if revision is not None and here and not compiled_folder(name):
        raise ValueError(f"model {name!r} is a local model, which has no revision {revision!r}; leave out --revision")
    return name


def weights_at_hand(name: str, revision: str | None = None) -> bool:
    """Return whether a model's weights are already on this machine."""
    from huggingface_hub import try_to_load_from_cache

    source = source_of(name)
    if Path(source).exists():
        return Path(source).is_file() or any(Path(source).glob("*.safetensors"))
    files = ("model.safetensors", "model.safetensors.index.json")
    return any(isinstance(try_to_load_from_cache(source, file, revision=revision), str) for file in files)


def check_tokenizer(tokenizer: Any, config: Any, name: str) -> None:
    """Raise ValueError if a tokenizer has no tokens, or tokens beyond the model's vocabulary; warn if it has few."""
    ids, added = tokenizer.get_vocab(), tokenizer.get_added_vocab()  # each call makes a dictionary of all tokens
    if set(ids.values()) <= set(tokenizer.all_special_ids):  # transformers invents a tokenizer if there is none
        raise ValueError(f"could not load the tokenizer of model {name!r}: it has no tokens{hint(name, NAMED)}")
    size, own = config.vocab_size, ids.keys() - added.keys()
    beyond = sum(ids[word] >= size for word in own)  # added tokens may lie beyond; no text contains them
    if beyond:
        raise ValueError(
            f"the tokenizer of model {name!r} belongs to another model: {beyond:,} of its {len(own):,} tokens have ids "
            f"beyond the {size:,} that the model knows. Give the folder of the right model, or replace tokenizer files"
        )
    if len(own) < size / 2:
        log.warning(
            "the tokenizer of model %r has %s tokens, the model %s: is it this model's?", name, f"{len(own):,}",
            f"{size:,}",
        )
