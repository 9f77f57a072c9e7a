"""Reading the parts of a model from a folder or the hub, with errors that say what is missing and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError


def read(loader: Any, name: str, source: str, what: str, *, known: Collection[str] = (), **options: Any) -> Any:
    """`loader.from_pretrained`. Raises ValueError: which part of the model is missing, why, and what to do."""
    with explained(name, what, known):
        return loader.from_pretrained(source, **options)


@contextmanager
def explained(name: str, what: str, known: Collection[str] = ()) -> Iterator[None]:
    """Turn whatever transformers and the hub raise into a ValueError that says what is missing, and what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or type(error).__name__
        mistyped = difflib.get_close_matches(name, known, 1)
        advice = hint(name, known) if mistyped else _about_the_hub(error, name) or hint(name, known)
        raise ValueError(f"could not load the {what} of model {name!r}: {reason}{advice}") from error


def hint(name: str, known: Collection[str] = ()) -> str:
    """What is in the folder, or which names there are."""
    path = Path(name)
    if path.is_dir():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        return f" (the folder {name} holds: {found}; expected config.json, tokenizer files and *.safetensors)"
    near = difflib.get_close_matches(name, known, 1)
    nearest = f" Did you mean {near[0]!r}?" if near else ""
    return f" (no such folder, and not found on the hub; bundled models: {', '.join(known)}.{nearest})"


def _about_the_hub(error: BaseException, name: str) -> str:
    """What the hub has against it, and what helps; nothing if it was not asked."""
    advice = {
        GatedRepoError: f"the model is gated: open https://huggingface.co/{name}, accept its licence, then log in with "
        "`hf auth login`",
        RevisionNotFoundError: f"the branches, tags and commits it has are on https://huggingface.co/{name}/tree/main",
        RepositoryNotFoundError: "check the name; if the model is private, log in with `hf auth login`",
        OfflineModeIsEnabled: "offline mode is on (HF_HUB_OFFLINE); download the model first and give its folder",
        LocalEntryNotFoundError: "the hub cannot be reached and there is no local copy; where there is a connection, "
        f"`hf download {name} --local-dir FOLDER`, then give that folder",
    }
    for cause in _chain(error):
        for kind, words in advice.items():
            if isinstance(cause, kind):
                return f" ({words})"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
