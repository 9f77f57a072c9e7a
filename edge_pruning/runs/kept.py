"""Describe what an interrupted run has left in its folder."""

from __future__ import annotations

from pathlib import Path

from edge_pruning import files
from edge_pruning.runs.folder import CONFIG, EVALUATION


def begun(folder: Path) -> bool:
    """Return whether there is a run that `--resume` can continue."""
    return (folder / CONFIG).exists()


def kept(folder: Path) -> str:
    """Describe what the folder of a run, or of several seeds, contains."""
    seeds = sorted(folder.glob("seed-*"), key=lambda path: int(path.name.removeprefix("seed-")))
    finished = [path.name for path in seeds if (path / EVALUATION).exists()]
    if seeds:
        last = f"{seeds[-1]} keeps {_of_one(seeds[-1])}" if seeds[-1].name not in finished else ""
        done = f"{folder} keeps {len(finished)} finished runs" if finished else ""
        return ", and ".join(words for words in (done, last) if words)
    return f"{folder} keeps {_of_one(folder)}"


def _of_one(folder: Path) -> str:
    if (folder / EVALUATION).exists():
        return "the finished run"
    if (folder / "scores.safetensors").exists():
        return "the scores of all edges: only the evaluation is left"
    sizes = len(list(folder.glob("scores-*.safetensors")))
    checkpoints = sorted(folder.glob("checkpoint*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    found = [f"the scores of {sizes} sizes"] if sizes else []
    if checkpoints:
        found.append(f"a checkpoint after step {int(files.read_tensors(checkpoints[-1])['steps']):,}")
    return " and ".join(found) or "the settings, but no step of the search yet"
