"""Minimality: the contribution of each edge of a circuit, measured by removing it alone.

    loss(e) = KL(model || circuit without e) - KL(model || circuit),        in nats, mean over pairs

or of the squared error, if the output is a number. An edge is *needed* if the loss is significantly above zero,
*harmful* if it is significantly below, and otherwise *idle*: its removal has no effect that these pairs can show.
Significance is a two-sided paired t-test over the pairs for each edge, corrected for the number of edges (Benjamini and
Hochberg, 1995): at most 5 % of the edges called needed or harmful are expected to be idle.

It misleads where edges substitute for each other: each alone is idle, but both together are not. Therefore all idle
edges are also removed at once. Cost: one masked pass per edge and pair, at most `max_runs` of them, over the nodes of
the circuit only. Large circuits use fewer pairs. Circuits that are too large even for `FEWEST_PAIRS` are judged by some
of their edges: the strongest, and a random sample that represents the others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.caveats import percent
from edge_pruning.evaluation.measure import Progress, measure, problems_with
from edge_pruning.files import json_values
from edge_pruning.objectives import get_objective
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

SIGNIFICANCE = 0.05  # false discovery rate
ROUNDING = 1e-6  # nats; smaller differences are rounding errors of float32
MAX_RUNS = 50_000
LARGE_MAX_RUNS = 10_000  # in a report on a large graph
FEWEST_PAIRS = 30
AT_ONCE = 64  # edges whose masks are in memory together
STRONGEST = 0.5  # of the judged edges, if not all are judged
IDLE = 0.1  # of the edges; a larger share causes a warning
DEFINITION = (
    "loss: {loss} of the circuit without this edge minus that of the circuit, mean over the pairs. needed, harmful: "
    f"the loss is above or below 0 (two-sided t-test over pairs, false discovery rate {SIGNIFICANCE:g} by Benjamini "
    "and Hochberg over all edges); idle: neither, so no clear effect"
)


@dataclass(frozen=True, eq=False)
class Minimality:
    """The loss caused by removing each edge of a circuit.

    losses: per edge and pair, float64 [edge, b], edges in the order of `circuit.edges`.
    of_circuit: the distance of the circuit from the model.
    without_idle: the distance of the circuit without all edges known to be idle, on the same pairs.
    loss_name: the distance: `kl` in nats, or `squared_error` of numbers.
    judged: which of the circuit's edges were removed, bool [edge of the circuit]; None: all of them.
    """

    circuit: Circuit
    losses: Tensor
    loss_name: str
    of_circuit: float
    without_idle: float
    judged: Tensor | None = None

    @property
    def edges(self) -> list[str]:
        """The edges that were removed, in the order of `losses`."""
        names = self.circuit.edges
        return names if self.judged is None else [names[i] for i in self.judged.nonzero().flatten().tolist()]

    @property
    def loss(self) -> Tensor:
        """The mean over pairs, [edge]."""
        return self.losses.mean(1)

    @cached_property
    def p(self) -> Tensor:
        """The corrected p-values of the t-tests, [edge]."""
        return corrected_p(self.losses)

    @property
    def idle(self) -> Tensor:
        """Whether each edge is idle, bool [edge]."""
        return self.p >= SIGNIFICANCE

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of needed, idle and harmful edges."""
        significant, loss = ~self.idle, self.loss
        needed, harmful = int((significant & (loss > 0)).sum()), int((significant & (loss < 0)).sum())
        return {"needed": needed, "idle": len(loss) - needed - harmful, "harmful": harmful}

    @property
    def warnings(self) -> tuple[str, ...]:
        idle, harmful = self.counts["idle"], self.counts["harmful"]
        edges, pairs, sentences = len(self.losses), self.losses.shape[1], []
        words = get_objective(self.loss_name).short
        if edges < len(self.circuit):
            sentences.append(
                f"{edges:,} of the circuit's {len(self.circuit):,} edges were removed one at a time: "
                "the strongest ones, and a random sample of the others"
            )
        if idle > IDLE * edges:
            sentences.append(
                f"{percent(idle / edges)} of the {'kept' if edges == len(self.circuit) else 'judged'} edges "
                f"({idle:,} of {edges:,}) have no effect that {pairs:,} pairs "
                f"can show, each removed alone; without all of them the {words} is {self.without_idle:.3g} instead "
                f"of {self.of_circuit:.3g}"
            )
        if harmful:
            sentences.append(f"{harmful:,} of {edges:,} edges do harm: the circuit is closer to the model without each")
        return tuple(sentences)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per edge, the most needed first: `edge`, `loss`, `standard_error`, `p`, `verdict`."""
        numbers = (self.loss, _errors(self.losses), self.p)
        columns = zip(self.edges, *(number.tolist() for number in numbers), strict=True)
        rows = [
            {"edge": edge, "loss": loss, "standard_error": e, "p": p, "verdict": _verdict(loss, p)}
            for edge, loss, e, p in columns
        ]
        ordered: list[dict[str, Any]] = json_values(sorted(rows, key=lambda row: -row["loss"]))
        return ordered

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        counts = self.counts
        content: dict[str, Any] = json_values({
            "definition": DEFINITION.format(loss=get_objective(self.loss_name).heading),
            "loss": self.loss_name,
            "examples": self.losses.shape[1],
            "edges": len(self.loss),
            "of_edges": len(self.circuit),
            **counts,
            "idle_share": counts["idle"] / max(1, len(self.loss)),
            "of_circuit": self.of_circuit,
            "without_idle": self.without_idle,
            "rows": self.rows(),
        })
        return content


def evaluate_minimality(
    circuit: Circuit,
    setup: Setup,
    *,
    max_runs: int = MAX_RUNS,
    progress: Progress | None = None,
) -> Minimality:
    """Remove every edge alone, and measure the loss.

    max_runs: the largest number of edges times pairs. If the circuit is too large for all pairs, some pairs are drawn
        (by the seed); if it is too large even for `FEWEST_PAIRS`, some of its edges are judged.

    Raises ValueError for a circuit of another graph, an empty one, or no pairs.
    """
    problems = list(problems_with(circuit.graph, "circuit", setup))
    if not len(circuit):
        problems.append("the circuit has no edges, so none can be removed")
    if max_runs < 1:
        problems.append(f"expected max_runs to be at least 1, got {max_runs}")
    if problems:
        raise ValueError("; ".join(problems))
    judged = _chosen_edges(circuit, max(1, max_runs // min(FEWEST_PAIRS, len(setup.pairs.pairs))), setup.seed)
    chosen = torch.ones(len(circuit), dtype=torch.bool) if judged is None else judged
    some = _some(setup.pairs, max(1, max_runs // int(chosen.sum())), setup.seed)
    places, parts = circuit.mask.nonzero()[chosen].tolist(), []
    for first in range(0, len(places), AT_ONCE):
        masks = [circuit.mask, *(_without(circuit.mask, place) for place in places[first : first + AT_ONCE])]
        _, measured = measure(setup, masks, some, within=circuit.mask, progress=_part_of(progress, first, len(places)))
        parts.append(measured.loss[1:] - measured.loss[:1])
    before = float(measured.loss[0].mean())
    minimality = Minimality(circuit, torch.cat(parts), measured.loss_name, before, without_idle=before, judged=judged)
    idle = [place for place, yes in zip(places, minimality.idle.tolist(), strict=True) if yes]
    _, rest = measure(setup, [_without(circuit.mask, *idle)], some, within=circuit.mask)
    return replace(minimality, without_idle=float(rest.loss.mean()))


def _part_of(progress: Progress | None, first: int, edges: int) -> Progress | None:
    """Convert the progress on some edges to the progress on all edges."""
    if progress is None:
        return None
    return lambda done, total: progress((first * total + done * min(AT_ONCE, edges - first)) // edges, total)


def corrected_p(losses: Tensor) -> Tensor:
    """Return the p-value of a two-sided t-test of a zero mean, for each edge's losses [edge, b]; corrected, [edge].

    Losses within rounding count as 0; an edge with no other losses is certainly idle (1).
    """
    from scipy import stats  # slow to import, and rarely needed

    values = losses.where(losses.abs() > ROUNDING, 0)
    t = (values.mean(1) / _errors(values)).abs().nan_to_num(0, posinf=torch.inf)
    p = 2 * stats.t.sf(t.numpy(), max(1, losses.shape[1] - 1))
    return torch.from_numpy(stats.false_discovery_control(p))


def _errors(losses: Tensor) -> Tensor:
    """Return standard errors of the means over pairs, [edge]; NaN for a single pair."""
    n = losses.shape[1]
    return losses.std(1) / n**0.5 if n > 1 else torch.full_like(losses[:, 0], torch.nan)


def _verdict(loss: float, p: float) -> str:
    return "idle" if p >= SIGNIFICANCE else "needed" if loss > 0 else "harmful"


def _without(mask: Tensor, *places: Sequence[int]) -> Tensor:
    """Return the mask [w, r] without these edges."""
    left = mask.clone()
    for w, r in places:
        left[w, r] = False
    return left


def _chosen_edges(circuit: Circuit, most: int, seed: int) -> Tensor | None:
    """Choose the edges to judge, bool [edge]; None: all of them. They are the strongest and a random sample."""
    n = len(circuit)
    if n <= most:
        return None
    strength = None if circuit.scores is None else circuit.scores.values[circuit.mask]
    order = torch.arange(n) if strength is None else strength.argsort(descending=True, stable=True)
    strongest = 0 if strength is None else round(STRONGEST * most)
    others = order[strongest:][torch.randperm(n - strongest, generator=torch.Generator().manual_seed(seed))]
    chosen = torch.cat([order[:strongest], others[: most - strongest]])
    return torch.zeros(n, dtype=torch.bool).index_fill_(0, chosen, True)


def _some(pairs: PairSet, most: int, seed: int) -> PairSet:
    """Return at most `most` of the pairs, drawn at random, in order."""
    if len(pairs.pairs) <= most:
        return pairs
    return pairs.subset(sorted(random.Random(f"minimality {seed}").sample(range(len(pairs.pairs)), most)))
