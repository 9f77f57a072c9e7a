"""Read the parts of a model from a folder or the hub, with errors that name what is missing and what to do.

Transformers and huggingface_hub are imported inside functions, because importing them takes seconds, and neither a
mistyped name nor drawing a circuit needs them. Their progress bars and notices are off while they read.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger("edge_pruning")

SECONDS_TO_ANSWER = 5.0  # timeout for the hub


def read(loader: str, name: str, source: str, what: str, *, known: Collection[str] = (), **options: Any) -> Any:
    """Call `from_pretrained` of a class in transformers. Raises ValueError with the missing part, the reason, and what
    to do.
    """
    import transformers

    with explained(name, what, known), quiet():
        return getattr(transformers, loader).from_pretrained(source, **options)


def without_weights(loader: str, config: Any, name: str, dtype: Any, *, known: Collection[str] = ()) -> Any:
    """Call `from_config` of a class in transformers. Raises ValueError like `read`."""
    import transformers

    with explained(name, "model", known), quiet():
        return getattr(transformers, loader).from_config(config, dtype=dtype)


def only_local_files(source: str, revision: str | None = None) -> bool:
    """Return whether only local files can be used: the model is a folder, or the hub does not answer.

    A single request decides, because transformers requests every file repeatedly, which takes half a minute.
    """
    if Path(source).exists():
        return True
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        HfApi().model_info(source, revision=revision, timeout=SECONDS_TO_ANSWER)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled):  # an answer, which `explained` interprets
        return False
    except Exception as error:  # each HTTP library has its own exceptions
        log.debug("the hub does not answer: %s", error)
        return True
    return False


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off progress bars and notices of transformers, and restore them afterwards."""
    from transformers.utils import logging as notices

    before, bars = notices.get_verbosity(), notices.is_progress_bar_enabled()
    notices.set_verbosity_error()
    notices.disable_progress_bar()
    try:
        yield
    finally:
        notices.set_verbosity(before)
        if bars:
            notices.enable_progress_bar()


@contextmanager
def explained(name: str, what: str, known: Collection[str] = ()) -> Iterator[None]:
    """Turn any error of transformers and the hub into a ValueError with what is missing and what to do."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or type(error).__name__
        mistyped = difflib.get_close_matches(name, known, 1)
        advice = hint(name, known) if mistyped else _about_the_hub(error, name) or hint(name, known)
        raise ValueError(f"could not load the {what} of model {name!r}: {reason}{advice}") from error


def hint(name: str, known: Collection[str] = ()) -> str:
    """Describe the content of the folder, or the available names."""
    path = Path(name)
    if path.is_dir():
        entries = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        return f" (the folder {name} holds: {entries}; expected config.json, tokenizer files and *.safetensors)"
    near = difflib.get_close_matches(name, known, 1)
    nearest = f" Did you mean {near[0]!r}?" if near else ""
    return f" (no such folder, and not found on the hub; bundled models: {', '.join(known)}.{nearest})"


def _about_the_hub(error: BaseException, name: str) -> str:
    """Return advice about an error of the hub; nothing if the hub was not used."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    advice = {
        GatedRepoError: f"the model is gated: open https://huggingface.co/{name}, accept its licence, then log in with "
        "`hf auth login`",
        RevisionNotFoundError: f"its branches, tags and commits are listed at https://huggingface.co/{name}/tree/main",
        RepositoryNotFoundError: "check the name; if the model is private, log in with `hf auth login`",
        OfflineModeIsEnabled: "offline mode is on (HF_HUB_OFFLINE); download the model first and pass its folder",
        LocalEntryNotFoundError: "the hub cannot be reached and there is no local copy; on a connected machine, run "
        f"`hf download {name} --local-dir FOLDER`, then pass that folder",
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
