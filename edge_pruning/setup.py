"""Setup: everything needed to find and judge a circuit.

    model + graph    the masked pass (`engine`)
    task             pairs per split: train to find circuits, validation to choose sizes, test for reports
    ablation         what a removed edge carries; any data it needs comes from training pairs only
    truth            the true circuit, if the model is a compiled program

Everything that takes time or memory is made once, on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.graph import Graph
from edge_pruning.loading.model import Model
from edge_pruning.loading.search_dtype import SearchCopy
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.own_predictions import with_predictions
from edge_pruning.tasks import PairSet, Task
from edge_pruning.truth.truth import Truth
from edge_pruning.truth.truths import truth_for


class Setup:
    """A model on a graph, a task's pairs and an ablation. `Setup.of` makes one from names, the constructor from parts.

    split: the pairs on which circuits are judged.
    seed: seed of all random choices in judging.
    """

    def __init__(
        self,
        engine: MaskedPass,
        pairs: PairSet | Callable[[str], PairSet],
        ablation: Ablation,
        *,
        truth: Truth | Callable[[], Truth | None] | None = None,
        split: str | None = None,
        seed: int = 0,
        model: Model | None = None,
        copy: SearchCopy | None = None,
    ) -> None:
        """Assemble a setup from parts.

        pairs: the pairs to judge on, or a function from the name of a split to its pairs.
        ablation: a fitted ablation. If `pairs` is a function, it is fitted to the training pairs on first use.
        """
        self.engine, self.seed, self.model, self._copy = engine, seed, model, copy
        self._ablation, self._truth = ablation, truth
        self._pairs = {pairs.split: pairs} if isinstance(pairs, PairSet) else {}
        self._pairs_of = None if isinstance(pairs, PairSet) else pairs
        self.split = pairs.split if isinstance(pairs, PairSet) else split or "test"
        self._restricted: tuple[Tensor, MaskedPass] | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        task: Task,
        ablation: Ablation,
        *,
        graph: Graph | None = None,
        split: str = "test",
        seed: int = 0,
        truth: Path | None = None,
        metric: str | None = None,
        objective: str | None = None,
        copy: SearchCopy | None = None,
    ) -> Setup:
        """Make the setup of a task on a loaded model, in which circuits are found and judged.

        truth: a file with the true circuit (default: that of the compiled program, if the model is one).
        metric, objective: names that replace the metric and objective of the task.
        copy: a copy of the model in another dtype, in which circuits are searched.
        """
        task.check_split(split)
        engine = model.engine(graph)

        def pairs_of(split: str) -> PairSet:
            pairs = task.pairs(model.tokenizer, split, max_length=model.adapter.max_length)
            return replace(pairs, metric=metric or pairs.metric, objective=objective or pairs.objective)

        def known() -> Truth | None:
            return truth_for(model, ablation.name, engine.graph, truth)

        return cls(engine, pairs_of, ablation, truth=known, split=split, seed=seed, model=model, copy=copy)

    @property
    def graph(self) -> Graph:
        return self.engine.graph

    @property
    def dtype(self) -> str:
        """The dtype of the computation, such as `float32`."""
        return str(self.engine.dtype).removeprefix("torch.")

    # --- pairs -----------------------------------------------------------------------------------------------------

    def pairs_of(self, split: str) -> PairSet:
        """Return the pairs of a split. For pairs without an answer, the model's prediction becomes the answer.

        Raises ValueError if only other pairs were given.
        """
        if split not in self._pairs:
            if self._pairs_of is None:
                raise ValueError(f"expected pairs of split {split!r}, but only {', '.join(self._pairs)} were given")
            self._pairs[split] = with_predictions(self._pairs_of(split), self.engine)
        return self._pairs[split]

    @property
    def train(self) -> PairSet:
        return self.pairs_of("train")

    @property
    def validation(self) -> PairSet:
        return self.pairs_of("validation")

    @property
    def pairs(self) -> PairSet:
        """The pairs on which circuits are judged."""
        return self.pairs_of(self.split)

    # --- ablation and truth ----------------------------------------------------------------------------------------

    @cached_property
    def ablation(self) -> Ablation:
        """The ablation, fitted to the training pairs if it needs data."""
        if self._pairs_of is None or not self._ablation.needs_pairs:
            return self._ablation
        return self._ablation.fitted(self.engine, self.train.pairs)

    @cached_property
    def truth(self) -> Truth | None:
        """The true circuit under this ablation, if known."""
        return self._truth() if callable(self._truth) else self._truth

    # --- variants --------------------------------------------------------------------------------------------------

    def with_seed(self, seed: int, ablation: Ablation) -> Setup:
        """Return the setup with another seed. ablation: the same ablation under that seed, not fitted."""
        assert self._pairs_of is not None
        return Setup(
            self.engine, self.pairs_of, ablation, truth=lambda: self.truth, split=self.split, seed=seed,
            model=self.model, copy=self._copy,
        )

    @property
    def search_dtype(self) -> str:
        """The dtype of the search, such as `bfloat16`."""
        return self.dtype if self._copy is None else self._copy.dtype

    @property
    def searching(self) -> Setup:
        """The setup for the search: on a copy of the model in another dtype, if there is one; else itself.

        It is not kept, because it refers to this setup: both would live until the next garbage collection.
        """
        if self._copy is None:
            return self
        searching = self._on(self._copy.model.engine(self.graph), self._copy.model)
        searching.engine.cuda_graph = self.engine.cuda_graph
        return searching

    def end_search(self) -> None:
        """Free the memory that only a search needs. The next search makes the copy of the model again."""
        if self._copy is not None:
            self._copy.drop()

    @cached_property
    def judging(self) -> Setup:
        """The setup for judging: the same model in float32 arithmetic, whatever the dtype of the search.

        No weights are loaded or copied.
        """
        engine = self.engine.in_float32()
        return self if engine is self.engine else self._on(engine, self.model)

    def on_some_pairs(self, most: int) -> Setup:
        """Return the setup with at most `most` of its pairs, sampled with the seed and kept in order."""
        some = self.pairs.sample(most, self.seed)
        if some is self.pairs:
            return self
        return Setup(self.engine, some, self.ablation, truth=lambda: self.truth, seed=self.seed, model=self.model)

    def _on(self, engine: MaskedPass, model: Model | None) -> Setup:
        """Return the setup on another engine. The ablation is fitted again, because its values depend on the dtype."""
        pairs = self.pairs if self._pairs_of is None else self.pairs_of
        return Setup(
            engine, pairs, self._ablation, truth=lambda: self.truth, split=self.split, seed=self.seed, model=model
        )

    def restricted(self, candidates: Tensor) -> MaskedPass:
        """Return the pass for masks that are zero outside `candidates`, bool [w, r]. The last one is cached."""
        if self._restricted is None or not torch.equal(self._restricted[0], candidates):
            engine = self.engine.restricted(candidates, consistent=self.ablation.consistent)
            self._restricted = candidates.clone(), engine
        return self._restricted[1]
