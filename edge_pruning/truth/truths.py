"""Find and write the truths of a compiled program: `truth.json` and a card in its folder."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Literal

from edge_pruning import files
from edge_pruning.ablation import get_ablation
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.models.tracr import Compiled, compiled_folder
from edge_pruning.models.tracr.folder import PREFIX
from edge_pruning.tasks import get_task
from edge_pruning.truth.card import card
from edge_pruning.truth.truth import FILE, Truth, Truths

log = logging.getLogger("edge_pruning")

ABLATIONS = ("zero", "patch")
EMBEDDINGS: tuple[Literal["split", "joint"], ...] = ("split", "joint")


def write_truths(folder: str, *, command: str = "compile_program") -> Truths:
    """Find and write the truths of the program in a folder, or of a bundled one. command: how the folder was made, for
    its card.
    """
    name = folder if folder.startswith(PREFIX) else PREFIX + folder
    place = compiled_folder(name)
    assert place is not None
    model, compiled = load_model(name, device="cpu"), Compiled.load(place)
    pairs = get_task(name).pairs(model.tokenizer, "test")
    each = [
        Truth.find(model.engine(Graph(model.adapter.shape, embeddings)), pairs, get_ablation(ablation))
        for ablation, embeddings in itertools.product(ABLATIONS, EMBEDDINGS)
    ]
    truths = Truths(compiled.program.name, compiled.fingerprint, each)
    truths.save(place / FILE)
    files.write_text(place / "README.md", card(compiled, truths, command))
    return truths


def truth_for(model: Model, ablation: str, graph: Graph, path: Path | None = None) -> Truth | None:
    """Return the true circuit of a model, if known. Raises ValueError if a given file does not contain it."""
    truths = Truths.load(path) if path else known_truths(model.name)
    if truths is None:
        return None
    try:
        return truths.get(str(model.revision), ablation, graph)
    except ValueError as error:
        if path:
            raise ValueError(f"{path}: {error}") from None
        log.warning("no comparison with the truth: %s", error)
        return None


def known_truths(model_name: str) -> Truths | None:
    """Return the truths stored beside a compiled model's weights; None for other models, or if there are none."""
    place = compiled_folder(model_name) if model_name.startswith(PREFIX) or Path(model_name).is_dir() else None
    return Truths.load(place / FILE) if place and (place / FILE).exists() else None
