"""The plan of a run: its memory and time, and what to do if it does not fit.

    search   the engine at rest  +  frozen values that are kept  +  one micro-batch of a training step
    ranking  the engine at rest  +  one full micro-batch at masks that all are 1, before the steps of some methods
    judging  the model and its maps in float32  +  frozen values that are kept  +  one full micro-batch, forward only

The available memory decides whether folded maps are kept, as in a run (`masked_pass.weights`). The time is that of the
search and of judging its circuits: passes over pairs times the time of a pass. It excludes loading, drawing, and other
work on the machine; and with several ranks, what they send to each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from edge_pruning.discovery.cost import Cost
from edge_pruning.masked_pass.memory import CACHE_SHARE
from edge_pruning.masked_pass.weights import KEEP_SHARE
from edge_pruning.planning.costs import Costs
from edge_pruning.planning.devices import Device

OTHER_DTYPE = {"float32": "bfloat16", "bfloat16": "float32"}
MUCH, LONG = 2, 120  # times as fast, and seconds of a run, from which the other dtype is named
RANKS = (2, 4, 8, 16, 32, 64)
OVERHEAD = {"cpu": 600 << 20, "cuda": 800 << 20, "mps": 800 << 20}  # Python with torch and transformers, or a context
COMPILED = 200 << 20  # code for 128 shapes of products in half precision on a CPU (see `cli/__init__.py`)


@dataclass(frozen=True)
class Work:
    """The work of a run.

    search: the cost of the search.
    judged: full masked forward passes per pair until the report. A frozen pass counts as one.
    tokens: average number per pair.
    positions: compared positions of a pair.
    train: number of training pairs.
    compared: number of pairs whose frozen values are kept while sizes are compared.
    guessed: whether the pairs could not be read, so that their length is that of another tokenizer.
    """

    search: Cost
    judged: float
    tokens: float
    positions: float
    train: int
    compared: int = 0
    guessed: bool = False


@dataclass(frozen=True)
class Speed:
    """Seconds per token, and their source.

    step: of a training step. whole: of a gradient at masks that all are 1. forward: of a masked forward pass.
    """

    step: float
    whole: float
    forward: float
    source: str


@dataclass(frozen=True)
class Plan:
    """The expected cost of a run, in bytes and seconds; with several ranks, of each of them.

    tile, judged_tile: number of pairs of one full micro-batch, in the search and in judging.
    ranks: number of processes that share the pairs. shared: whether they share out the weights, too.
    graphs: whether steps may be captured as CUDA graphs.
    of_judging: bytes of the model in which circuits are judged, if the search runs on a copy.
    """

    model: str
    dtype: str
    device: Device
    costs: Costs
    work: Work
    tile: int
    speed: Speed
    edges: dict[str, int]
    ranks: int = 1
    shared: bool = False
    graphs: bool = False
    of_judging: int = 0
    judged_tile: int = 1

    @classmethod
    def estimated(cls, model: str, dtype: str, device: Device, costs: Costs, work: Work, tile: int,
                  edges: dict[str, int], ranks: int = 1, shared: bool = False, graphs: bool = False,
                  of_judging: int = 0, judged_tile: int = 1) -> Plan:
        """Make a plan with times computed from numbers of operations."""
        in_float32 = costs.forward * (device.bfloat16 if dtype == "bfloat16" else 1)
        speed = Speed(
            device.seconds(costs.train(keep_reads=True), costs.traffic),
            device.seconds(costs.whole, costs.traffic / 7),  # one product of seven that fetch the writes
            device.seconds(in_float32, costs.traffic / 3),
            f"estimated: {device.operations / 1e12:.3g} TFLOP/s",
        )
        return cls(model, dtype, device, costs, work, tile, speed, edges, ranks, shared, graphs, of_judging,
                   judged_tile)

    # --- memory ----------------------------------------------------------------------------------------------------

    @property
    def at_rest(self) -> int:
        """Bytes of the loaded engine, with the overhead of its process."""
        return self._rest(keep_maps=self.keep_maps)

    @property
    def keep_maps(self) -> bool:
        return self._keeps(self.costs, self.costs.weights * self.costs.itemsize + self.of_judging)

    def _keeps(self, costs: Costs, weights: int) -> bool:
        """Whether folded maps are kept beside so many bytes of weights."""
        return not self.shared and costs.folded * costs.itemsize <= (self.device.free - weights) // KEEP_SHARE

    @property
    def cache(self) -> int:
        """Bytes of the frozen values of pairs that the search uses more than once, as far as they fit into memory."""
        return self._cached(self.costs, self.work.search.kept)

    def _cached(self, costs: Costs, pairs: int) -> int:
        share = min(self.device.memory // CACHE_SHARE, max(0, self.device.free - self._rest(keep_maps=False)) // 2)
        return min(share, costs.cache(round(pairs * self.work.tokens)))

    @property
    def pairs_at_once(self) -> int:
        """Pairs of a micro-batch: enough to keep the device busy, at most those that fit and those of a step; at least
        one.
        """
        room = self.device.free - self.at_rest - self.cache
        return max(1, min(self.tile, self.pairs_of_rank, room // self._micro_batch(1)))

    @property
    def pairs_of_rank(self) -> int:
        """A rank's pairs of a step, at most."""
        return math.ceil(self.work.search.step_pairs / self.ranks)

    @property
    def peak(self) -> int:
        """Bytes at most, in the stage that takes the most."""
        return max(self.at_rest + self.cache + self._micro_batch(self.pairs_at_once), self._ranking, self._judging)

    @property
    def _ranking(self) -> int:
        """Bytes while a search ranks edges at masks that all are 1, where reads are not kept."""
        if not self.work.search.whole:
            return 0
        room = (self.device.free - self.at_rest) // self._micro_batch(1, keep_reads=False)
        pairs = max(1, min(self.tile, self.work.train, room))
        return self.at_rest + self._micro_batch(pairs, keep_reads=False)

    @property
    def _judging(self) -> int:
        """Bytes while circuits are judged, in float32."""
        costs, half = replace(self.costs, itemsize=max(4, self.costs.itemsize)), self.costs.itemsize < 4
        weights = self.of_judging or self._rest(keep_maps=False) - self._overhead
        kept = self._keeps(costs, weights) and (self.of_judging or not half)  # a model in half precision keeps none
        maps = costs.folded * costs.itemsize if kept else 0
        rest = weights + maps + self._cached(costs, self.work.compared) + self._overhead
        one = costs.forward_pass(math.ceil(self.work.tokens), math.ceil(self.work.positions))
        return rest + max(1, min(self.judged_tile, (self.device.free - rest) // one)) * one

    @property
    def captured(self) -> int:
        """Bytes that captured steps hold beside the peak, at most: the largest micro-batch's results, which all graphs
        share, and copies of its frozen values. If there is no room for them, steps run as usual.
        """
        steps = (self.work.search.gradients or 0) > self.work.search.whole
        if self.device.kind != "cuda" or self.shared or not self.graphs or not steps:
            return 0
        tokens = math.ceil(self.pairs_at_once * self.work.tokens)
        return self._micro_batch(self.pairs_at_once) + self.costs.cache(tokens)

    @property
    def least(self) -> int:
        """The smallest memory for a run: one pair at a time, and no maps kept."""
        return self._rest(keep_maps=False) + self.cache + self._micro_batch(1)

    @property
    def fits(self) -> bool:
        return self.least <= self.device.free

    def _rest(self, *, keep_maps: bool) -> int:
        engine = self.costs.at_rest_shared(self.ranks) if self.shared else self.costs.at_rest(keep_maps=keep_maps)
        return engine + self.of_judging + self._overhead

    @property
    def _overhead(self) -> int:
        compiled = COMPILED if self.device.kind == "cpu" and self.costs.itemsize < 4 else 0
        return OVERHEAD[self.device.kind] + compiled

    def _micro_batch(self, pairs: int, *, keep_reads: bool = True) -> int:
        tokens, positions = math.ceil(pairs * self.work.tokens), math.ceil(pairs * self.work.positions)
        return self.costs.step(tokens, positions, keep_reads=keep_reads)

    # --- time ------------------------------------------------------------------------------------------------------

    @property
    def step_seconds(self) -> float:
        return self.pairs_of_rank * self.work.tokens * self.speed.step

    @property
    def search_seconds(self) -> float | None:
        frozen = self.speed.forward * 2 * self.costs.unmasked / self.costs.forward  # one clean and one ablated run
        per_token = self.work.search.weighed(
            gradient=self.speed.step, whole=self.speed.whole, forward=self.speed.forward, frozen=frozen
        )
        share = self.pairs_of_rank / self.work.search.step_pairs
        return None if per_token is None else self.work.tokens * per_token * share

    @property
    def judging_seconds(self) -> float:
        return self.work.judged * self.work.tokens * self.speed.forward / self.ranks

    @property
    def seconds(self) -> float | None:
        return None if self.search_seconds is None else self.search_seconds + self.judging_seconds

    # --- in words --------------------------------------------------------------------------------------------------

    @property
    def advice(self) -> list[str]:
        """What to do about a plan that does not fit or would take days, with numbers."""
        options = []
        if not self.fits and (self.of_judging or self.dtype != "bfloat16"):
            half = self._of_one_model(2)
            enough = "" if half.fits else ", which does not fit either"
            options.append(f"--dtype bfloat16 needs {gigabytes(half.least)} instead of {gigabytes(self.least)}{enough}")
        recomputed = self.least - self._micro_batch(1) + self._micro_batch(1, keep_reads=False)
        if not self.fits and recomputed <= self.device.free:
            how = "reads recomputed (in Python: FusedPass(..., keep_reads=False))"
            options.append(f"{how} need {gigabytes(recomputed)}")
        if not self.fits:
            if not self.shared:
                options.append(f"several GPUs (--device spread) need {gigabytes(self._uncopied.least)} together")
            options += self._on_more_ranks
            options.append("shorter prompts or a smaller model")
        elif (self.seconds or 0) > 86_400:
            options.append("this takes days: a GPU (--device), fewer steps (--steps), or another preset (--preset)")
        elif self._other_dtype:
            options.append(self._other_dtype)
        return options

    def _of_one_model(self, itemsize: int) -> Plan:
        """The plan without a copy for the search. itemsize: bytes per weight."""
        return replace(self, of_judging=0, costs=replace(self.costs, itemsize=itemsize))

    @property
    def _uncopied(self) -> Plan:
        """The plan on several GPUs, where no copy is made."""
        return self._of_one_model(4) if self.of_judging else self

    @property
    def _other_dtype(self) -> str:
        """Which dtype is much faster on this CPU, if the run takes minutes; otherwise empty."""
        gain = self.device.bfloat16 if self.dtype == "float32" else 1 / self.device.bfloat16
        if self.device.kind != "cpu" or self.dtype not in OTHER_DTYPE or gain < MUCH or (self.seconds or 0) < LONG:
            return ""
        other = OTHER_DTYPE[self.dtype]
        return f"--dtype {other} is faster: this CPU multiplies {gain:.1f} times as fast in it as in {self.dtype}"

    @property
    def _on_more_ranks(self) -> list[str]:
        """The fewest GPUs on which the weights fit if they are shared out."""
        if self.device.kind == "cpu":
            return []  # its ranks share one memory
        whole, now = self._uncopied, self.ranks * self.shared
        more = (replace(whole, ranks=ranks, shared=True) for ranks in RANKS if ranks > now)
        enough = next((plan for plan in more if plan.fits), None)
        if enough is None:
            return []
        least = gigabytes(enough.least)
        return [f"{enough.ranks} GPUs that share out the weights (torchrun, --shard) need {least} each"]

    @property
    def line(self) -> str:
        """The plan in one line."""
        if not self.fits:
            return f"does not fit: {gigabytes(self.least)} needed, {gigabytes(self.device.free)} free"
        time = "no estimate of the time" if self.seconds is None else f"about {duration(self.seconds)}"
        memory = f"{gigabytes(self.peak)} of memory ({gigabytes(self.device.free)} free)"
        copy = f"searched in {self.dtype}, judged in float32" if self.of_judging else ""
        return "; ".join(filter(None, [f"{time}, {memory}", self.speed.source, copy, self._other_dtype]))

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model, "dtype": self.dtype, "device": self.device.name, "edges": self.edges,
            "weights": self.costs.weights, "tokens_per_pair": self.work.tokens, "pairs_at_once": self.pairs_at_once,
            "ranks": self.ranks, "weights_shared": self.shared,
            "bytes": {"weights": self.costs.weights * self.costs.itemsize + self.of_judging, "at_rest": self.at_rest,
                      "cache": self.cache, "peak": self.peak, "captured": self.captured, "least": self.least,
                      "free": self.device.free},
            "maps": "kept" if self.keep_maps else "folded at use",
            "seconds": {"step": self.step_seconds, "search": self.search_seconds, "judging": self.judging_seconds,
                        "run": self.seconds},
            "speed": self.speed.source, "fits": self.fits, "advice": self.advice,
        }  # fmt: skip


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB" if count < 1e11 else f"{count / 1e9:,.0f} GB"


def duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}" if seconds >= 10 * length else f"{seconds / length:.1f} {unit}"
    return f"{seconds:.2g} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
