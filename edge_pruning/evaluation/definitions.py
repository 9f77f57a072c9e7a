"""What each number of an evaluation means, in words that are stored beside it."""

from __future__ import annotations

from edge_pruning.evaluation.bootstrap import CONFIDENCE, RESAMPLES
from edge_pruning.evaluation.conditions import Conditions
from edge_pruning.evaluation.faithfulness_scale import FaithfulnessScale
from edge_pruning.numbers import AGREEMENT, LOSSES, NUMBERS, measured_numbers

RUNS = {
    "complement": "all edges but the circuit's; the closer to the empty circuit, the more complete is the circuit",
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


def definitions_of(conditions: Conditions, scale: FaithfulnessScale) -> dict[str, str]:
    """Of the numbers that every run has, and of how they are summarised."""
    metric = conditions.metric
    return {
        "ablation": f"a removed edge carries: {conditions.ablation_description}",
        "kl": NUMBERS["kl"].meaning,
        "loss": "how far a run is from the model: kl, or squared_error where the output is a number",
        "squared_error": NUMBERS["squared_error"].meaning,
        **{n.name: n.meaning.format(metric=metric) for n in measured_numbers(metric) if n.name not in LOSSES},
        **({"accuracy": AGREEMENT.meaning} if conditions.is_agreement else {}),
        "faithfulness": scale.definition,
        "standard_error": "of the mean, over pairs",
        "interval": f"{100 * CONFIDENCE:.0f} % confidence interval of the mean, bootstrapped over pairs ({RESAMPLES:,} "
        "resamples, percentile method)",
        "quantiles": "percent -> value, over pairs (random: pairs and circuits); for faithfulness, over the pairs' "
        "shares, whose mean it is",
    }
