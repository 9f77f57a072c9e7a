"""The protocol of an evaluation: data, split, metric, ablation, seed, model weights; and the definition of each number.

Both are stored with the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from edge_pruning.evaluation.bootstrap import CONFIDENCE, RESAMPLES
from edge_pruning.evaluation.faithfulness_scale import FaithfulnessScale
from edge_pruning.numbers import AGREEMENT, LOSSES, NUMBERS, measured_numbers
from edge_pruning.setup import Setup

RUNS = {
    "complement": "all edges but the circuit's; the closer to the empty circuit, the more complete the circuit",
    "random": "circuits of as many edges as the circuit, drawn uniformly, counted with dangling edges",
    "spread": "standard deviation between the random circuits",
    "discretisation_gap": "loss of the circuit minus that of the soft mask it was cut from",
}
CURVE = {
    "edges": "the edges with the highest scores, before dangling ones are removed; without dangling: as they are run",
    "cpr": "area under the faithfulness against the share of edges: trapezoids at MIB's ten shares from 0.1 % to 100 %",
    "cmd": "area of |1 - faithfulness| in the same way",
    "log_cpr": "mean of the faithfulness along the logarithm of the share of edges, at the same ten shares",
    "log_cmd": "mean of |1 - faithfulness| in the same way",
    "levels": "the smallest circuit, of those that were run, that reaches a level; found to 5 % of its size. stays: "
    "whether all larger ones that were run reach it too",
}


@dataclass(frozen=True)
class EvaluationProtocol:
    """The data and settings of a measurement.

    predicted: number of pairs whose answer is the model's own prediction.
    weights: the fingerprint of the model's weights.
    notices: what the task left out, and other remarks about its pairs.
    """

    task: str
    split: str
    metric: str
    data_hash: str
    examples: int
    ablation: str
    ablation_description: str
    dtype: str
    seed: int
    predicted: int = 0
    weights: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def is_agreement(self) -> bool:
        """Whether accuracy is agreement with the model, because no pair has its own answer."""
        return self.predicted == self.examples

    @classmethod
    def of(cls, setup: Setup) -> EvaluationProtocol:
        pairs, ablation = setup.pairs, setup.ablation
        return cls(
            pairs.task, pairs.split, pairs.metric, pairs.hash, len(pairs.pairs), ablation.name, ablation.description,
            setup.dtype, setup.seed, pairs.predicted, setup.model.fingerprint if setup.model else None,
            pairs.notices,
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EvaluationProtocol:
        """Read the fields from a JSON object, which may contain others; files of older versions lack the last fields.
        """
        known = {f.name: content[f.name] for f in fields(cls) if f.name in content or f.default is MISSING}
        return cls(**{**known, "notices": tuple(known.get("notices", ()))})


def definitions_of(protocol: EvaluationProtocol, scale: FaithfulnessScale) -> dict[str, str]:
    """Define the numbers that every run has, and their summaries."""
    metric = protocol.metric
    return {
        "ablation": f"a removed edge carries: {protocol.ablation_description}",
        "kl": NUMBERS["kl"].meaning,
        "loss": "the distance of a run from the model: kl, or squared_error if the output is a number",
        "squared_error": NUMBERS["squared_error"].meaning,
        **{n.name: n.meaning.format(metric=metric) for n in measured_numbers(metric) if n.name not in LOSSES},
        **({"accuracy": AGREEMENT.meaning} if protocol.is_agreement else {}),
        "faithfulness": scale.definition,
        "standard_error": "of the mean, over pairs",
        "interval": f"{100 * CONFIDENCE:.0f} % confidence interval of the mean, bootstrapped over pairs ({RESAMPLES:,} "
        "resamples, percentile method)",
        "quantiles": "percent -> value, over pairs (random: pairs and circuits); for faithfulness, over the pairs' "
        "shares, whose mean it is",
    }
