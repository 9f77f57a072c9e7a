"""From scores to what stays: the parts with the lowest scores go first, until the wanted share of the FLOPs is left.

The share is that of the FLOPs of the parts that a method scores: with scores for heads only, `keep=0.6` keeps six heads
in ten; with scores for heads and units, six tenths of the layers' FLOPs. Every layer keeps at least one part of each
kind. Smaller models are parts of larger ones (except with `uniform`), so one set of scores gives models of every size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from edge_pruning.shrink.flops import Counts, counts_of, layer_flops
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import Sizes

NAMES = {
    "heads": "head", "channels": "channel", "attention_inputs": "attention input", "mlp_inputs": "MLP input",
    "units": "MLP unit",
}  # fmt: skip

ONLY = (None, "heads", "units")  # what a method may be restricted to


@dataclass(frozen=True)
class PartScores:
    """How much each part matters. Parts of all kinds are compared with each other, and those with higher scores stay.

    heads [layer, group], channels [layer, group, e], attention_inputs [layer, d], mlp_inputs [layer, d],
    units [layer, f]: scores; None: all parts of this kind stay.
    positions: bool [layer, p], no scores but the method's own choice of the positions whose keys and values stay; None:
    all.
    Raises ValueError if a score is NaN.
    """

    heads: Tensor | None = None
    channels: Tensor | None = None
    attention_inputs: Tensor | None = None
    mlp_inputs: Tensor | None = None
    units: Tensor | None = None
    positions: Tensor | None = None

    def __post_init__(self) -> None:
        broken = [name for name, scores in self.kinds.items() if scores.isnan().any()]
        if broken:
            raise ValueError(f"the scores of {', '.join(broken)} are not numbers; are the model's outputs finite?")

    @property
    def kinds(self) -> dict[str, Tensor]:
        """The kinds of parts that are scored."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name in NAMES)
        return {name: scores for name, scores in named if scores is not None}


def part_costs(sizes: Sizes, width: int) -> dict[str, int]:
    """FLOPs of one group of heads and of one unit, in a whole layer."""
    whole = counts_of(Kept.all(sizes), width)[0]
    flops = whole.flops(sizes, width)
    fewer_heads = replace(whole, groups=whole.groups - 1, channels=whole.channels - sizes.e)
    fewer_units = replace(whole, units=whole.units - 1)
    return {"heads": flops - fewer_heads.flops(sizes, width), "units": flops - fewer_units.flops(sizes, width)}


class Selection:
    """The order in which the parts of a model go, and the FLOPs of the layers after each.

    width: positions per example.
    """

    def __init__(self, scores: PartScores, sizes: Sizes, width: int) -> None:
        self.scores, self.sizes, self.width = scores, sizes, width
        self.whole = replace(Kept.all(sizes), positions=scores.positions)
        self.full = layer_flops(self.whole, sizes, width)
        self.removable = self.full - _without(scores, self.whole, sizes, width)
        self.removed, self.flops = self._removed()

    def kept(self, keep: float, *, uniform: bool = False) -> Kept:
        """What stays with a share `keep` of the FLOPs; with `uniform`, equally many heads and units in each layer.

        Raises ValueError if a layer would lose its last part of a kind, or if `uniform` cannot express what stays.
        """
        target = self.full - (1 - keep) * self.removable
        if uniform:
            return self._uniform(keep, target)
        n = next((n for n, flops in enumerate(self.flops) if flops <= target + 0.5), None)
        if n is None:
            raise self._too_small(keep, self.flops[-1])
        return self._after(n)

    def _after(self, n: int) -> Kept:
        """What stays once the first `n` parts are gone."""
        masks = {name: getattr(self.whole, name).clone() for name in ("channels", *NAMES) if name != "heads"}
        for kind, layer, index in self.removed[:n]:
            if kind == "heads":
                masks["channels"][layer, index] = False
            else:
                masks[kind][layer].view(-1)[index] = False
        return self.whole.with_only(**masks)

    def _removed(self) -> tuple[list[tuple[str, int, int]], list[int]]:
        """The parts that can go, in their order, and the FLOPs after none, one, two, ... of them are gone."""
        layers = counts_of(self.whole, self.width)
        alive = self.whole.channels.sum(-1)  # channels of each group
        total = self.full
        removed, flops = [], [total]
        for kind, layer, index in _in_order(self.scores):
            counts = layers[layer]
            if _last_of_its_kind(kind, counts):
                continue
            before = counts.flops(self.sizes, self.width)
            _take_one(kind, counts, alive[layer], index, self.sizes)
            total += counts.flops(self.sizes, self.width) - before
            removed.append((kind, layer, index))
            flops.append(total)
        return removed, flops

    def _uniform(self, keep: float, target: float) -> Kept:
        sizes, heads, units = self.sizes, self.scores.heads, self.scores.units
        unsaid = {*self.scores.kinds} - {"heads", "units"}
        if unsaid or self.scores.positions is not None:
            what = "positions" if not unsaid else f"{' and '.join(NAMES[kind] for kind in sorted(unsaid))}s"
            raise ValueError(
                f"--uniform: no configuration can say which {what} stay; use a method or settings that remove whole "
                "heads and MLP units only"
            )
        most = sizes.groups if heads is None else max(1, round(keep * sizes.groups))
        for groups in range(most, 0 if heads is not None else most - 1, -1):
            left = sizes.units if units is None else _units_that_fit(target, groups, sizes, self.width)
            if left >= 1 and _uniform_flops(groups, left, sizes, self.width) <= target + 0.5:
                break
        else:
            fewest = _uniform_flops(
                sizes.groups if heads is None else 1, sizes.units if units is None else 1, sizes, self.width
            )
            raise self._too_small(keep, fewest)
        kept = self.whole
        if heads is not None:
            best = _best(heads, groups)
            kept = kept.with_only(channels=best[..., None].expand_as(kept.channels).clone())
        return kept if units is None else kept.with_only(units=_best(units, left))

    def _too_small(self, keep: float, fewest: int) -> ValueError:
        """An error for a share below that of the `fewest` FLOPs; this one is rounded up, so that it can be given."""
        least = math.ceil(1000 * (1 - (self.full - fewest) / self.removable) - 1e-6) / 1000
        return ValueError(
            f"--keep {keep:g} is too small: every layer keeps at least one of each kind of part, which is a share of "
            f"{least:.3f}; give at least that much"
        )


def _in_order(scores: PartScores) -> list[tuple[str, int, int]]:
    """All parts (kind, layer, index in its layer), lowest score first."""
    parts, values = [], []
    for kind, of_kind in scores.kinds.items():
        rows = of_kind.flatten(1)
        parts += [(kind, layer, index) for layer in range(len(rows)) for index in range(rows.shape[1])]
        values.append(rows.flatten().double())
    order = torch.cat(values).argsort(stable=True).tolist() if values else []
    return [parts[i] for i in order]


def _last_of_its_kind(kind: str, counts: Counts) -> bool:
    return int(getattr(counts, "groups" if kind == "heads" else kind)) == 1


def _take_one(kind: str, counts: Counts, alive: Tensor, index: int, sizes: Sizes) -> None:
    """Update the counts for one more removed part. alive: the channels left in each group of the layer [group]."""
    if kind == "heads":
        counts.groups -= 1
        counts.channels -= int(alive[index])
        alive[index] = 0
    elif kind == "channels":
        group = index // sizes.e
        counts.channels -= 1
        alive[group] -= 1
        counts.groups -= int(alive[group] == 0)
    else:
        setattr(counts, kind, getattr(counts, kind) - 1)


def _without(scores: PartScores, whole: Kept, sizes: Sizes, width: int) -> int:
    """FLOPs if all scored parts were gone."""
    total = 0
    for counts in counts_of(whole, width):
        for kind in scores.kinds:
            setattr(counts, "groups" if kind == "heads" else kind, 0)
            if kind in ("heads", "channels"):
                counts.groups = counts.channels = 0
        total += counts.flops(sizes, width)
    return total


def _uniform_flops(groups: int, units: int, sizes: Sizes, width: int) -> int:
    counts = Counts(sizes.d, groups, groups * sizes.e, sizes.d, units, width)
    return sizes.layers * counts.flops(sizes, width)


def _units_that_fit(target: float, groups: int, sizes: Sizes, width: int) -> int:
    none, one = (_uniform_flops(groups, units, sizes, width) for units in (0, 1))
    return min(sizes.units, int((target + 0.5 - none) // (one - none)))


def _best(scores: Tensor, n: int) -> Tensor:
    """The parts with the n highest scores in each layer, as a bool mask [layer, part]."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(n, 1).indices, True)
