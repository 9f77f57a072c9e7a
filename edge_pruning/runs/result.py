"""The result of a run, as a value: save it to a run folder, load it from there, draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.contents import CircuitContent, ConfigContent, CurveContent, PatternsContent, Row
from edge_pruning.drawing import draw_against_truth, draw_circuit, draw_size_curve, draw_training, save_picture
from edge_pruning.evaluation import Evaluation
from edge_pruning.provenance import titled
from edge_pruning.runs.folder import CONFIG, CURVE, EVALUATION, FORMAT, FORMAT_VERSION, PATTERNS_FILE
from edge_pruning.view import Inline, Source, report_of, view_page


@dataclass(frozen=True, eq=False)
class Cut:
    """One circuit of a run; `row` is its line in curve.json.

    evaluation: on held-out pairs; None for a size that was only measured to choose among sizes.
    part: the training that it was cut from, if the method trains once per size.
    """

    circuit: Circuit
    evaluation: Evaluation | None
    row: Mapping[str, Any]
    part: str = ""

    @property
    def scores_file(self) -> str:
        return scores_file(self.part)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished run: `run.circuit` is its circuit, `run.evaluation.circuit.kl` its KL on test pairs.

    cuts: every size, ascending; the circuit is one of them.
    training: the rows of metrics.jsonl.
    config: config.json.
    patterns: patterns.json, the patterns and effects of the circuit's heads, if stored.
    folder: its location on disk, if any.
    """

    cuts: tuple[Cut, ...]
    chosen: int
    training: Mapping[str, Sequence[Mapping[str, float]]]
    config: Mapping[str, Any]
    notices: tuple[str, ...] = ()
    patterns: Mapping[str, Any] | None = None
    folder: Path | None = field(default=None)

    def __repr__(self) -> str:
        sizes = f", {len(self.cuts)} sizes" if len(self.cuts) > 1 else ""
        return f"Run({self.title}{sizes}: {self.circuit!r}, {self.evaluation!r})"

    @property
    def circuit(self) -> Circuit:
        return self.cuts[self.chosen].circuit

    @property
    def evaluation(self) -> Evaluation:
        """Means, standard errors and quantiles of the model, the circuit, the empty and random circuits."""
        evaluation = self.cuts[self.chosen].evaluation
        assert evaluation is not None
        return evaluation

    @property
    def circuits(self) -> tuple[Circuit, ...]:
        return tuple(cut.circuit for cut in self.cuts)

    @property
    def curve(self) -> list[Mapping[str, Any]]:
        """One row per size: edges by both counts, split, KL, accuracy."""
        return [cut.row for cut in self.cuts]

    @property
    def title(self) -> str:
        return titled(self.config["settings"]["task"], self.config["settings"]["model"]) or ""

    def draw(self, path: str | Path) -> None:
        """Draw the circuit to a file: SVG, or PNG and PDF (extra `[pictures]`), by the file's name."""
        save_picture(path, draw_circuit(self.circuit, title=self.title))

    def view(self) -> Inline:
        """Return a page for exploring the circuit. Notebooks show it inline; `run.view().save("circuit.html")` writes
        it.
        """
        return Inline(view_page([self._source]))

    @property
    def _source(self) -> Source:
        name = self.folder.name if self.folder else self.title
        report = report_of(self.circuit, self.evaluation.to_json())
        return Source(
            name, self.circuit, report, self.curve, self.patterns, self.config["settings"], path=self.folder
        )

    # --- files -----------------------------------------------------------------------------------------------------

    def save(self, folder: Path, *, write_scores: bool = True) -> None:
        """Write everything but the pictures. evaluation.json comes last, because it marks the run as finished.

        write_scores: False if the search has written them.
        """
        for cut in self.cuts if len(self.cuts) > 1 else ():
            self._save_circuit(cut, folder / circuit_file(cut), write_scores)
            if cut.evaluation is not None:
                files.write_json(folder / f"evaluation-{len(cut.circuit)}.json", cut.evaluation.to_json())
        self._save_circuit(self.cuts[self.chosen], folder / circuit_file(None), write_scores)
        files.write_json(folder / CURVE, {"chosen": self.chosen, "notices": self.notices, "sizes": self.curve})
        if self.patterns is not None:
            files.write_json(folder / PATTERNS_FILE, self.patterns)
        files.write_json(folder / EVALUATION, self.evaluation.to_json())

    @staticmethod
    def _save_circuit(cut: Cut, path: Path, write_scores: bool) -> None:
        cut.circuit.save(path, scores_file=cut.scores_file, write_scores=write_scores)

    @property
    def truth(self) -> Circuit | None:
        """The true circuit, if known."""
        known = self.evaluation.ground_truth
        return None if known is None else Circuit.from_names(self.circuit.graph, known.true_names)

    def save_pictures(self, folder: Path) -> None:
        self.draw(folder / "circuit.svg")
        replace(self, folder=folder).view().save(folder / "circuit.html")
        if self.truth is not None:
            text = draw_against_truth(self.circuit, self.truth, title=f"{self.title}: found and true")
            files.write_text(folder / "truth.svg", text)
        for part, records in self.training.items():
            if records:
                files.write_text(folder / f"training{part}.svg", draw_training(records, title=self.title))
        if len(self.cuts) > 1:
            title = f"{self.title}, {self.curve[0]['split']} pairs, {self.config['ablation']} ablation"
            agreement = self.evaluation.protocol.is_agreement
            files.write_text(folder / "curve.svg", draw_size_curve(self.curve, title=title, agreement=agreement))

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Load a finished run from its folder. Raises ValueError that names the missing or broken file."""
        folder = Path(folder)
        config = files.read_own(folder / CONFIG, FORMAT, FORMAT_VERSION, ConfigContent)
        curve = files.read_json(folder / CURVE, CurveContent)
        rows = curve["sizes"]
        cuts = tuple(_load_cut(folder, row, "" if len(rows) == 1 else f"-{row['edges']}") for row in rows)
        if curve["chosen"] >= len(cuts) or cuts[curve["chosen"]].evaluation is None:
            raise ValueError(f"{folder} is not a finished run: the circuit of {CURVE} has no {EVALUATION}")
        training = {
            path.stem.removeprefix("metrics"): files.read_json_lines(path, dict[str, float])
            for path in sorted(folder.glob("metrics*.jsonl"))
        }
        patterns = (folder / PATTERNS_FILE).exists() and files.read_json(folder / PATTERNS_FILE, PatternsContent)
        return cls(cuts, curve["chosen"], training, config, tuple(curve["notices"]), patterns or None, folder)


def circuit_file(cut: Cut | None) -> str:
    """Return the file of one of several circuits of a run, or (None) of the run's circuit."""
    return "circuit.json" if cut is None else f"circuit-{len(cut.circuit)}.json"


def scores_file(part: str) -> str:
    """Return the file of one training's scores; see `Cut.part`."""
    return f"scores{part}.safetensors"


def _load_cut(folder: Path, row: Row, size: str) -> Cut:
    path, evaluation = folder / f"circuit{size}.json", folder / f"evaluation{size}.json"
    circuit, judged = Circuit.load(path), Evaluation.load(evaluation) if evaluation.exists() else None
    if len(circuit) != row["edges"]:
        raise ValueError(f"{path} has {len(circuit):,} edges, but {CURVE} lists {row['edges']:,}")
    part = Path(files.read_json(path, CircuitContent).get("scores", "scores")).stem.removeprefix("scores")
    return Cut(circuit, judged, row, part)
