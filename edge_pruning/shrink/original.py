"""A model that is to be shrunk for a task, and the smaller ones that come out of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from edge_pruning.ablation import get_ablation
from edge_pruning.loading.model import Model
from edge_pruning.models.image_reader import ImageReader
from edge_pruning.pair import Pair
from edge_pruning.setup import Setup
from edge_pruning.shrink.config import ShrinkConfig
from edge_pruning.shrink.cutting import cut, fill, zero
from edge_pruning.shrink.finetuning import finetune
from edge_pruning.shrink.job import Job, Stage, silent
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import Layout, check_shrinkable
from edge_pruning.shrink.means import mean_inputs
from edge_pruning.shrink.running import batches
from edge_pruning.shrink.selection import PartScores
from edge_pruning.tasks import Task

FRESH = 1200  # training pairs, if a task can write more than it usually has
SURVEYED = 512  # training pairs that means are taken over


@dataclass(frozen=True)
class Smaller:
    """A Hugging Face model that has been cut, and what stays of the original."""

    hf: Any
    kept: Kept


class Original:
    """A loaded model with a task's pairs. Scores that serve every size are computed once.

    split: the pairs that smaller models are measured on.
    Raises ValueError for a family that cannot be shrunk.
    """

    def __init__(self, model: Model, task: Task, *, split: str = "test", seed: int = 0) -> None:
        check_shrinkable(model.adapter.config)
        self.model, self.hf = model, model.adapter.hf
        self.sizes = Layout(self.hf).sizes
        self.setup = Setup.of(model, task, get_ablation("patch"), split=split, seed=seed)
        self._scored: tuple[Any, Any, PartScores] | None = None

    def shrunk(self, config: ShrinkConfig, stage: Stage = silent) -> Smaller:
        """Score the parts, cut, and fine-tune. The original stays as it is."""
        scored, scores = self._scores(config, stage)
        hf = copy.deepcopy(scored)
        job = self._job(hf, config, stage)
        kept = job.kept(scores, uniform=config.uniform)
        means = self._means(hf) if config.ablation == "mean" else None
        if means is not None:
            fill(hf, kept, means)
        cut(hf, kept)
        if config.finetune:
            _tune(job, config, config.finetune)
        return Smaller(hf, kept)

    def companions(self, folder: Path) -> None:
        """Write the files of the tokenizer or of the image processor into a folder."""
        tokenizer = self.model.tokenizer
        files_of = tokenizer.processor if isinstance(tokenizer, ImageReader) else tokenizer
        if files_of is not None:  # a model in memory may come without one
            files_of.save_pretrained(folder)

    def _scores(self, config: ShrinkConfig, stage: Stage) -> tuple[Any, PartScores]:
        """A copy of the model, and the scores of its parts. Scoring may have trained the copy's weights."""
        same: tuple[Any, ...] = (config.method, config.settings, config.seed, config.ablation)
        if config.shrinker.tunes:
            same = (*same, config.finetune, config.batch_size, config.learning_rate)
        if self._scored is None or self._scored[0] != same or not config.shrinker.one_run_ranks_all:
            hf = copy.deepcopy(self.hf)
            self._scored = same, hf, config.shrinker.score(self._job(hf, config, stage))
        return self._scored[1], self._scored[2]

    def _job(self, hf: Any, config: ShrinkConfig, stage: Stage) -> Job:
        def tune(kept: Kept, share: float) -> None:
            zero(hf, kept)
            _tune(job, config, max(1, round(share * config.finetune)), after_step=lambda: zero(hf, kept))

        job = Job(
            hf, self.setup, self.training, self._whole_means if config.ablation == "mean" else None, config.keep,
            config.seed, tune if config.finetune else None, stage,
        )  # fmt: skip
        return job

    @cached_property
    def training(self) -> Sequence[Pair]:
        """The pairs to learn from: at least the training pairs, and up to `FRESH` if the task can write more."""
        return self.setup.train.enlarged(FRESH).pairs

    @cached_property
    def _whole_means(self) -> dict[str, Tensor] | None:
        return self._means(self.hf)

    def _means(self, hf: Any) -> dict[str, Tensor] | None:
        """The mean inputs of the maps; None if no map has a bias to hold them."""
        linears = [linear for maps in Layout(hf) for of_place in maps.by_place.values() for linear in of_place]
        if all(linear.bias is None for linear in linears):
            return None
        return mean_inputs(hf, batches(self.setup.engine, self.training[:SURVEYED]))


def _tune(job: Job, config: ShrinkConfig, steps: int, after_step: Callable[[], object] | None = None) -> None:
    finetune(
        job.hf, job.target, lambda step: job.batch(step, config.batch_size), steps=steps,
        learning_rate=config.learning_rate, after_step=after_step, stage=job.stage,
    )  # fmt: skip
