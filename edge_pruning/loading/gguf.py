"""Models in GGUF files, the format of llama.cpp and related tools.

A GGUF file contains configuration, tokenizer and weights, usually packed into 4 to 8 bits per weight. Transformers
unpacks it into an ordinary model, so circuits are found in it as in any other, but for the rounded weights. Reading
requires the package gguf (the extra of that name) and is slow: the file is parsed separately for the configuration, the
tokenizer and the weights, and tokens are parsed one by one.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_pruning.loading.pretrained import explained

SUFFIX, MAGIC = ".gguf", b"GGUF"


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file on this machine."""

    path: Path

    @property
    def source(self) -> str:
        """The model argument of `from_pretrained`."""
        return str(self.path.parent)

    @property
    def options(self) -> dict[str, str]:
        """Further arguments of `from_pretrained`."""
        return {"gguf_file": self.path.name}

    def configuration(self) -> Any:
        """Read the configuration. Raises ValueError: truncated, not GGUF, or of an architecture that transformers
        cannot unpack.
        """
        with self.path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"{self.path} is not a GGUF file: expected it to begin with {MAGIC.decode()}")
        import transformers

        try:
            return transformers.AutoConfig.from_pretrained(self.source, **self.options)
        except Exception as error:  # numpy and transformers raise many types
            raise ValueError(self._why_not(error)) from error

    def _why_not(self, error: Exception) -> str:
        import gguf

        try:
            architecture = gguf.GGUFReader(self.path).fields["general.architecture"].contents()
        except Exception as broken:
            return f"{self.path} is truncated, or not a complete GGUF file ({broken}); download it again"
        return (
            f"{self.path} holds a model of the architecture {architecture!r}, which transformers does not unpack "
            f"({error}); load the original model, not packed, if its family is supported"
        )

    def bits(self, weights: int) -> float:
        """Return the number of bits per weight in the file, with one decimal."""
        return round(8 * self.path.stat().st_size / weights, 1)


def gguf_file(name: str, revision: str | None = None) -> GgufFile | None:
    """Return the GGUF file that a model's name stands for; None if the name is not such a file.

    name: a path that ends with .gguf, or `owner/repository/file.gguf` on the hub.

    Raises ValueError if there is no such file, or the package gguf is not installed.
    """
    if not name.lower().endswith(SUFFIX):
        return None
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"{name} needs the package gguf, which is not installed: pip install "
                         "'edge-pruning[gguf]'")  # fmt: skip
    path, parts = Path(name), name.split("/", 2)
    if path.is_file():
        return GgufFile(path)
    if len(parts) < 3 or path.parent.is_dir() or not parts[0]:
        raise ValueError(f"{name} does not exist; expected a GGUF file, or owner/repository/file.gguf on the hub")
    import huggingface_hub

    owner, repository, file = parts
    with explained("/".join((owner, repository)), f"file {file}"):
        return GgufFile(Path(huggingface_hub.hf_hub_download(f"{owner}/{repository}", file, revision=revision)))
