"""Circuits on the Hugging Face hub: `circuit.push_to_hub("me/ioi-circuit")`, `Circuit.from_hub("me/ioi-circuit")`.

    circuit.json  scores.safetensors  evaluation.json  circuit.svg  README.md (the card)

A repository holds one circuit. One request with a short timeout decides whether the hub answers, because its client
asks again and again. Nothing in a repository is run: the files are read like any other circuit file.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.drawing import draw_circuit, title_of
from edge_pruning.evaluation import Evaluation
from edge_pruning.numbers import numbers_for
from edge_pruning.runs import Run
from edge_pruning.version import __version__

log = logging.getLogger("edge_pruning")

CIRCUIT, SCORES = "circuit.json", "scores.safetensors"
SECONDS_TO_ANSWER = 5.0
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def push_to_hub(
    circuit: Circuit,
    repository: str,
    *,
    evaluation: Evaluation | None = None,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload a circuit",
) -> str:
    """Upload the circuit, its scores, evaluation and picture, and a card. Returns the address of the repository.

    repository: OWNER/NAME; made if it does not exist. token: by default the one that `hf auth login` stored. Raises
    ValueError in one line if the hub does not answer or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    with _explained(repository, "upload to"), tempfile.TemporaryDirectory() as folder:
        _write(circuit, evaluation, repository, Path(folder))
        api = HfApi(token=token)
        try:
            api.model_info(repository, timeout=SECONDS_TO_ANSWER)
        except RepositoryNotFoundError:
            log.info("%s is new", repository)
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    return str(address)


def push_run_to_hub(run: Run, repository: str, **how: Any) -> str:
    """Upload the run's circuit with its evaluation; see `Circuit.push_to_hub`."""
    return push_to_hub(run.circuit, repository, evaluation=run.evaluation, **how)


def from_hub(repository: str, *, revision: str | None = None, token: str | None = None) -> Circuit:
    """Download a circuit, with its scores if the repository has them. revision: a branch, tag or commit.

    Raises ValueError in one line if the hub does not answer, there is no such repository, or it holds no circuit.
    """
    from huggingface_hub import HfApi

    with _explained(repository, "download from"):
        api = HfApi(token=token)
        info = api.model_info(repository, revision=revision, timeout=SECONDS_TO_ANSWER)
        there = {file.rfilename for file in info.siblings or ()}
        if CIRCUIT not in there:
            raise ValueError(f"the repository holds {', '.join(sorted(there)) or 'nothing'}; expected {CIRCUIT}")
        paths = {
            name: Path(api.hf_hub_download(repository, name, revision=info.sha or revision))
            for name in (SCORES, CIRCUIT) if name in there
        }
    return Circuit.load(paths[CIRCUIT])


@contextmanager
def _explained(repository: str, what: str) -> Iterator[None]:
    """Turn errors of the hub and the network into a ValueError of one line."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise ValueError(f"could not {what} {repository}: offline mode is on (HF_HUB_OFFLINE)") from None
    except (HFValidationError, ValueError) as error:
        raise ValueError(f"could not {what} {repository}: {_line(error)}") from None
    except HfHubHTTPError as error:
        advice = "check the name, and log in with `hf auth login` if the repository is private or yours to write"
        raise ValueError(f"could not {what} {repository}: {_line(error)}; {advice}") from error
    except Exception as error:  # each HTTP library has its own exceptions
        raise ValueError(f"could not {what} {repository}: the hub does not answer ({_line(error)})") from error


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _write(circuit: Circuit, evaluation: Evaluation | None, repository: str, folder: Path) -> None:
    circuit.save(folder / CIRCUIT, scores_file=SCORES)
    if evaluation is not None:
        files.write_json(folder / "evaluation.json", evaluation.to_json())
    files.write_text(folder / "circuit.svg", draw_circuit(circuit, title=title_of(circuit)))
    files.write_text(folder / "README.md", card(circuit, evaluation, repository))


# --- the card ---------------------------------------------------------------------------------------------------------


def card(circuit: Circuit, evaluation: Evaluation | None, repository: str) -> str:
    """The card of a repository, in Markdown: what the circuit is, how good it is, how to load it."""
    parts = [*_front_matter(circuit), *_about(circuit), *(_quality(evaluation) if evaluation else ())]
    load = f"""## Use

```python
import edge_pruning as ep

circuit = ep.Circuit.from_hub("{repository}")
print(ep.evaluate(circuit).circuit.kl)
```
"""
    return "\n".join([*parts, load])


def _front_matter(circuit: Circuit) -> Iterator[str]:
    yield from ("---", "library_name: edge-pruning", "tags:", "- interpretability", "- circuit", "- edge-pruning")
    model = circuit.provenance.model
    if model and HUB_ID.fullmatch(model):
        yield f"base_model: {model}"
    yield from ("---", "")


def _about(circuit: Circuit) -> Iterator[str]:
    counts, origin = circuit.counts, circuit.provenance
    yield from (f"# Circuit: {_plain(title_of(circuit) or 'of a transformer')}", "", "![The circuit](circuit.svg)", "")
    yield from ("| | |", "|---|---|")
    yield f"| edges | {counts['edges']:,} of {counts['edges_total']:,} |"
    yield f"| without dangling edges | {counts['edges_without_dangling']:,} |"
    yield f"| counted | {counts['convention']} |"
    for name, value in origin.names.items():
        yield f"| {name} | {_plain(value)}{_settings(origin, name)} |"
    yield from (f"| edge-pruning | {__version__} |", "")


def _settings(origin: Mapping[str, Any], name: str) -> str:
    part = origin.get(name)
    settings = part.get("settings") if isinstance(part, Mapping) else None
    words = ", ".join(f"{key}={value}" for key, value in (settings or {}).items())
    return f" ({_plain(words)})" if words else ""


def _quality(evaluation: Evaluation) -> Iterator[str]:
    protocol = evaluation.protocol
    numbers = numbers_for(evaluation.loss, protocol.metric, agreement=protocol.is_agreement)
    yield from (
        "## Quality", "", f"On {protocol.examples} {protocol.split} pairs of {_plain(protocol.task)}; removed edges "
        f"carry the {protocol.ablation} ablation.", "",
        "| | edges | " + " | ".join(number.heading for number in numbers) + " |", "|---" * (2 + len(numbers)) + "|",
    )
    for name, run in evaluation.summaries.items():
        shown = " | ".join(number.shown(run.mean.get(number.name)) for number in numbers)
        yield f"| {name.replace('_', ' ')} | {run.edges:,.0f} | {shown} |"
    yield from ("", *(f"- {_plain(warning)}" for warning in evaluation.warnings), "")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))
