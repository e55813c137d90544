"""The checkpoint-mean Fisher metric that predictions put on the final hidden states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from geometry.fisher import FisherMetric
from runs.inputs import FOLDS
from runs.loaded import Unembedding
from runs.products.base import Arrays, ArraySpec, Batch, HiddenOnly, Spec
from runs.tables import CaptureTable


class Fisher:
    """`eigenvalues` and `n` of the mean pullback Fisher metric per pool and fold; fold 0 is all samples.

    Pool `last` takes the last token of every sample, the contexts of RankMe; `all` every real token.
    """

    name = "fisher"

    def options(self, capture: CaptureTable) -> Mapping[str, object]:
        """Pools."""
        return capture.fisher.model_dump()

    def layout(self, spec: Spec) -> dict[str, ArraySpec]:
        """Two arrays, one chunk a checkpoint each."""
        pools, folds = len(spec.capture.fisher.pools), FOLDS + 1
        spectrum = (pools, folds, spec.shape.width)
        return {
            "eigenvalues": ArraySpec(
                ("pool", "fold", "rank"),
                spectrum,
                "float64",
                float("nan"),
                spectrum,
                {
                    "long_name": "eigenvalues of the mean pullback Fisher metric",
                    "units": "nats per squared unit of hidden state",
                },
            ),
            "n": ArraySpec(("pool", "fold"), (pools, folds), "int64", 0, (pools, folds)),
        }

    def coordinates(self, spec: Spec) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Pools, folds and ranks from 1."""
        return {
            "pool": (("pool",), np.array(spec.capture.fisher.pools)),
            "fold": (("fold",), np.arange(FOLDS + 1)),
            "rank": (("rank",), np.arange(1, spec.shape.width + 1)),
        }

    def collector(self, spec: Spec, unembedding: Unembedding) -> FisherCollector:
        """Two metrics a pool (the running fold's and the total), in float64."""
        return FisherCollector(spec, unembedding)


class FisherCollector(HiddenOnly):
    """Accumulates one fold at a time, as moments do."""

    sums = True

    def __init__(self, spec: Spec, unembedding: Unembedding) -> None:
        self._spec, self._unembedding = spec, unembedding
        self._final = spec.shape.layers - 1
        self._pools = spec.capture.fisher.pools
        self._fold = 0
        self._running: dict[str, FisherMetric] = {}
        self._total: dict[str, FisherMetric] = {}
        self._arrays = {
            name: np.full(array.shape, array.fill, array.dtype)
            for name, array in Fisher().layout(spec).items()
        }

    def layers(self) -> frozenset[int]:
        """The final one."""
        return frozenset({self._final})

    def hidden(self, layer: int, state: torch.Tensor, batch: Batch) -> None:
        """Add one block's rows."""
        if layer != self._final:
            return
        if batch.fold != self._fold:
            self._close_fold()
            self._fold = batch.fold
        self._unembedding = self._unembedding.on(state.device)
        for pool in self._pools:
            if pool == "all":
                rows = state[batch.mask]
            else:
                last = batch.mask.sum(1) - 1
                rows = state[torch.arange(len(last), device=state.device), last]
            if pool not in self._running:
                self._running[pool] = self._metric()
            self._running[pool].update(rows)

    def _metric(self) -> FisherMetric:
        head = self._unembedding
        return FisherMetric(
            head.weight, bias=head.bias, vocab_size=self._spec.vocabulary, softcap=head.softcap
        )

    def _close_fold(self) -> None:
        for pool, metric in self._running.items():
            self._record(pool, self._fold, metric)
            if pool in self._total:
                self._total[pool].merge(metric)
            else:
                self._total[pool] = metric
        self._running = {}

    def _record(self, pool: str, fold: int, metric: FisherMetric) -> None:
        place = self._pools.index(pool), fold
        self._arrays["eigenvalues"][place] = metric.eigenvalues().numpy()
        self._arrays["n"][place] = metric.count

    def finish(self) -> Arrays:
        """Close the last fold and write fold 0."""
        with torch.inference_mode():
            self._close_fold()
            for pool, metric in self._total.items():
                self._record(pool, 0, metric)
        return dict(self._arrays)
