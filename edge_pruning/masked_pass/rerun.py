"""Rerun a circuit with other edges into one reader, recomputing only the nodes after that reader.

Other edges into reader j change what j reads and the nodes after j. The writes before j are kept, and several
alternatives k run side by side. A later reader's share from unchanged writers is computed once for all of them:

    x_r = base_r + sum_{i before j} z_ir D_i  +  sum_{i from j on} z_ir D_i^k,          D_i = y_i - c_i
          (once)                                 (for each alternative k)

The result equals `MaskedPass.logits` without gradients; the tests compare the two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.graph import Site
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.unmasked_pass import Frozen


class Rerun:
    """A circuit on one batch.

    You may edit columns of `mask` [w, r] only for readers at or after the next one you query. `frozen` must come from
    a `MaskedPass` (not a fused one) over the whole graph.
    """

    def __init__(self, engine: MaskedPass, mask: Tensor, batch: Batch, frozen: Frozen) -> None:
        with torch.no_grad(), engine.arithmetic():
            self._run(engine, mask, batch, frozen)

    def _run(self, engine: MaskedPass, mask: Tensor, batch: Batch, frozen: Frozen) -> None:
        self.engine, self.batch, self.frozen = engine, batch, frozen
        self.mask = mask.to(frozen.embeddings)
        self.sites = engine.graph.sites
        self.contexts = engine.contexts(frozen.embeddings.shape[1])
        self.bases = list(frozen.bases(parallel=engine.graph.shape.parallel))
        n = engine.graph.n_embeddings
        embeddings = frozen.embedding_difference.flatten(1, 2)
        self.all_tokens = embeddings.new_zeros(len(mask), *embeddings.shape[1:])  # [w, token, d]; the last MLP's stay 0
        self.all_tokens[:n] = embeddings
        self.compared = self.all_tokens[:, batch.positions]  # [w, n, d]
        self.whole, all_tokens, compared = self._from(0, self._known(self.sites[0], n), skip=False)
        self.all_tokens[n:], self.compared[n:] = all_tokens[:, 0], compared[:, 0]

    def logits(self, reader: int, columns: Tensor) -> Tensor:
        """Logits at the compared positions [k, n, vocab] with each of `columns` [k, w] as the mask of `reader`."""
        with torch.no_grad(), self.engine.arithmetic():
            return self._logits(reader, columns)

    def _logits(self, reader: int, columns: Tensor) -> Tensor:
        at = next(i for i, site in enumerate(self.sites) if reader < site.readers.stop)
        site, columns = self.sites[at], columns.to(self.mask)
        reads = self._known(site, site.before).repeat(1, len(columns), 1, 1)
        own = columns[:, : site.before] @ self._before(site)[: site.before].flatten(1)  # [k, token * d]
        reads[reader - site.readers.start] = self._base(site) + own.view_as(reads[0])
        return self._from(at, reads, skip=True)[0]

    # --- a run from a site on --------------------------------------------------------------------------------------

    def _from(self, at: int, reads: Tensor, *, skip: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [k, n, vocab], given a site's reads [r, k, token, d]; and the differences of the later writers.

        The differences are returned for all tokens [w, k, token, d] and at the compared positions [w, k, n, d].
        skip: leave the differences of writers that nothing reads at 0.
        """
        first, k = self.sites[at].writers.start, reads.shape[1]
        later = self.all_tokens.new_zeros(len(self.mask) - first, k, *reads.shape[2:])
        all_tokens = later
        for i, site in enumerate(self.sites[at:]):
            if self._is_last(site) and later.shape[2] != self.compared.shape[1]:
                later = later[:, :, self.batch.positions]
            if skip and site.writers.start < site.writers.stop and not self.mask[site.writers].any():
                continue
            x = reads if i == 0 else self._read(site, first, later)
            if site is self.sites[-1]:
                return self.engine.unembed(x[0].flatten(0, 1)).unflatten(0, (k, -1)), all_tokens, later
            later[site.writers.start - first : site.writers.stop - first] = self._write(site, x)
        raise AssertionError("the logits are the last site")

    def _read(self, site: Site, first: int, later: Tensor) -> Tensor:
        """The reads of a site [r, k, token, d]; `later` [w, k, token, d] holds the differences from `first` on."""
        x, changed = self._known(site, first), later[: max(0, site.before - first)]
        if not len(changed):
            return x.expand(-1, later.shape[1], -1, -1)
        z = self.mask[first : site.before, site.readers].T
        return x + (z @ changed.flatten(1)).unflatten(1, changed.shape[1:])

    def _known(self, site: Site, first: int) -> Tensor:
        """The share of the reads [r, 1, token, d] from the base and the writers before `first`."""
        before = self._before(site)[: min(first, site.before)]
        z = self.mask[: len(before), site.readers].T
        return (self._base(site) + (z @ before.flatten(1)).unflatten(1, before.shape[1:]))[:, None]

    def _write(self, site: Site, x: Tensor) -> Tensor:
        """The differences that a site writes [w, k, token, d], from its reads [r, k, token, d]."""
        adapter, home = self.engine.adapter, x.device
        x = x.to(self.engine.devices[site.layer])
        with adapter.weights_of(site.layer):
            return self._written(site, x, home)

    def _written(self, site: Site, x: Tensor, home: torch.device) -> Tensor:
        adapter, k = self.engine.adapter, x.shape[1]
        if site.is_mlp:
            ablated = self.frozen.mlps[site.layer].flatten(0, 1)
            y = adapter.feed_forward(site.layer, x.flatten(1, 2)[:, None])[:, 0].unflatten(1, (k, -1)).to(home)
            return y - (ablated[self.batch.positions] if self._is_last(site) else ablated)
        b, p, d = self.frozen.embeddings.shape
        heads, kv = self.engine.graph.shape.heads, self.engine.graph.kv_readers
        q, key, v = x.reshape(-1, k * b, p, d).split([heads, kv, kv])
        y = adapter.attend(site.layer, q, key, v, self.contexts[x.device])
        return y.reshape(heads, k, b * p, d).to(home) - self.frozen.heads[site.layer].reshape(heads, 1, b * p, d)

    # --- what a site stands on -------------------------------------------------------------------------------------

    def _is_last(self, site: Site) -> bool:
        """Whether only the compared positions matter: the last MLP and the logits."""
        return site.layer + site.is_mlp >= self.engine.graph.shape.layers

    def _before(self, site: Site) -> Tensor:
        return self.compared if self._is_last(site) else self.all_tokens

    def _base(self, site: Site) -> Tensor:
        base = self.bases[2 * site.layer + site.is_mlp].flatten(0, 1)
        return base[self.batch.positions] if self._is_last(site) else base
