"""A worker takes cells that no other worker holds, until every cell of the sweep is finished or has failed.

If a cell fails, its error is stored, and the worker takes the next one. A failed cell is tried again on request only. A
worker without a free cell waits, because a cell becomes free if its worker dies.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from edge_pruning import files, ranks
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.patterns import MOST_HEADS
from edge_pruning.runs import RunConfig, RunFolder, RunObserver
from edge_pruning.runs.folder import Busy, Place
from edge_pruning.runs.kept import begun, kept
from edge_pruning.runs.pipeline import run_in, setup_of
from edge_pruning.sweep.claims import Claim, Held, Lost, dead_ends
from edge_pruning.sweep.folder import SweepFolder
from edge_pruning.sweep.grid import Cell

WAIT = 5.0  # seconds until a worker that has found nothing to do looks again
AGAIN = 60.0  # and until it tries a cell again whose folder another process holds
DEATHS = 3  # workers that die at the same place before a cell is given up


class Worker:
    """One process that works on a sweep."""

    def __init__(self, folder: SweepFolder, watch: RunObserver | None = None) -> None:
        if ranks.launched():
            raise ValueError("a sweep starts its own workers, each with one process; start it without torchrun")
        self.folder, self.watch = folder, watch or RunObserver()
        self._models = _LastModel()
        self._later: dict[str, float] = {}

    def work(self) -> None:
        """Return when every cell is settled."""
        while unsettled := [cell for cell in self.folder.cells if not self.folder.is_settled(cell)]:
            ready = [cell for cell in unsettled if self._later.get(cell.name, 0.0) <= time.monotonic()]
            ready.sort(key=lambda cell: not self._models.has(cell.config))  # those of the loaded model first
            if not any(self._attempted(cell) for cell in ready):
                time.sleep(WAIT)

    def _attempted(self, cell: Cell) -> bool:
        """Work on a cell, unless another worker does."""
        place, claims = self.folder.run_folder(cell), self.folder.claims
        found = kept(place) if begun(place) else "nothing"
        deaths = dead_ends(claims.of(cell.name), found, claims.now())
        claim = claims.take(cell.name, found)
        if claim is None:
            return False
        with Held(claims, claim).kept() as held:
            if self.folder.is_settled(cell):  # since it was looked at
                return True
            try:
                if deaths >= DEATHS:
                    raise ValueError(
                        f"{deaths} workers died at this run, one after the other, and none made any progress. A likely "
                        "cause is too little memory; after a remedy, --retry-failed tries the run again"
                    )
                self._run(cell, _Watched(self.watch, cell.name, held.check))
            except Lost:
                pass
            except Busy:
                self._later[cell.name] = time.monotonic() + AGAIN
            except Exception as error:
                self._models.forget()
                self._write_down(cell, claim, error)
        return True

    def _run(self, cell: Cell, watch: RunObserver) -> None:
        """As `discover` does with `resume`."""
        path, config, about = self.folder.run_folder(cell), cell.config, self.folder.about
        place = Place.of(RunFolder, path, resume=True, overwrite=False)
        watch.stage("loading the model")
        setup = setup_of(config, self._models.of(config), dtype=place.dtype)
        heads = about.get("patterns", MOST_HEADS)
        run_in(place.folder, config, setup, watch, resume=True, draw=about.get("draw", True), patterns=heads)

    def _write_down(self, cell: Cell, claim: Claim, error: Exception) -> None:
        said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        failure = {"error": said, "worker": claim.worker, "traceback": "".join(traceback.format_exception(error))}
        files.write_json(self.folder.error_file(cell), failure)


class _LastModel:
    """The model of the last cell, which the next one often needs as well."""

    def __init__(self) -> None:
        self._which: tuple[object, ...] | None = None
        self._model: Model | None = None

    def has(self, config: RunConfig) -> bool:
        return self._which == _which_model(config)

    def of(self, config: RunConfig) -> Model:
        if self._model is None or not self.has(config):
            self.forget()  # before another one is loaded: memory may not be enough for both
            self._model = load_model(
                config.model, revision=config.revision, device=config.device, dtype=config.loaded_dtype,
                trust_remote_code=config.trust_remote_code,
            )
            self._which = _which_model(config)
        return self._model

    def forget(self) -> None:
        self._which = self._model = None


def _which_model(config: RunConfig) -> tuple[object, ...]:
    return config.model, config.revision, config.device, config.loaded_dtype, config.trust_remote_code


class _Watched(RunObserver):
    """Says which cell a stage belongs to, and calls a function whenever something happens."""

    def __init__(self, watch: RunObserver, which: str, check: Callable[[], None]) -> None:
        self.watch, self.which, self.check = watch, which, check

    def stages(self, work: Mapping[str, float]) -> None:
        self.watch.stages({f"{self.which}: {words}": units for words, units in work.items()})

    def stage(self, words: str, done: int = 0, total: int = 0) -> None:
        self.check()
        self.watch.stage(f"{self.which}: {words}", done, total)

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        self.check()
        self.watch.progress(records, total)
