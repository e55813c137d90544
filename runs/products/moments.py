"""Streamed moments of hidden states: spectra without keeping a state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from geometry.moments import Moments
from runs.inputs import FOLDS
from runs.loaded import Unembedding
from runs.products.base import Arrays, ArraySpec, Batch, HiddenOnly, Spec, layer_coordinates
from runs.tables import CaptureTable

CENTERINGS = ("centered", "uncentered")


class MomentsProduct:
    """`eigenvalues`, `mean`, `n` per layer, pool and fold; fold 0 is all samples."""

    name = "moments"

    def options(self, capture: CaptureTable) -> Mapping[str, object]:
        """Pools."""
        return capture.moments.model_dump()

    def layout(self, spec: Spec) -> dict[str, ArraySpec]:
        """Three arrays, one chunk a checkpoint each."""
        layers, pools = spec.shape.layers, len(spec.capture.moments.pools)
        width, folds = spec.shape.width, FOLDS + 1
        spectrum = (layers, pools, len(CENTERINGS), folds, width)
        mean = (layers, pools, folds, width)
        nan = float("nan")
        return {
            "eigenvalues": ArraySpec(
                ("layer", "pool", "centering", "fold", "rank"),
                spectrum,
                "float64",
                nan,
                spectrum,
                {"long_name": "eigenvalues of the covariance, divided by n"},
            ),
            "mean": ArraySpec(("layer", "pool", "fold", "feature"), mean, "float64", nan, mean),
            "n": ArraySpec(("pool", "fold"), (pools, folds), "int64", 0, (pools, folds)),
        }

    def coordinates(self, spec: Spec) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Layers, pools, centrings, folds and ranks from 1."""
        return {
            **layer_coordinates(spec.shape),
            "pool": (("pool",), np.array(spec.capture.moments.pools)),
            "centering": (("centering",), np.array(CENTERINGS)),
            "fold": (("fold",), np.arange(FOLDS + 1)),
            "rank": (("rank",), np.arange(1, spec.shape.width + 1)),
        }

    def collector(self, spec: Spec, unembedding: Unembedding) -> MomentsCollector:
        """Two covariances a layer and pool (the running fold's and the total), in float64."""
        return MomentsCollector(spec)


class MomentsCollector(HiddenOnly):
    """Accumulates one fold at a time, so memory does not grow with the number of folds."""

    sums = True

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._fold = 0
        self._pools = spec.capture.moments.pools
        self._running: dict[tuple[int, str], Moments] = {}
        self._total: dict[tuple[int, str], Moments] = {}
        self._arrays = {
            name: np.full(array.shape, array.fill, array.dtype)
            for name, array in MomentsProduct().layout(spec).items()
        }

    def layers(self) -> frozenset[int]:
        """All."""
        return frozenset(range(self._spec.shape.layers))

    def hidden(self, layer: int, state: torch.Tensor, batch: Batch) -> None:
        """Add one block's rows."""
        if batch.fold != self._fold:
            self._close_fold()
            self._fold = batch.fold
        for pool in self._pools:
            if pool == "all":
                rows = state.flatten(0, 1) if bool(batch.mask.all()) else state[batch.mask]
            else:
                last = batch.mask.sum(1) - 1
                rows = state[torch.arange(len(last), device=state.device), last]
            key = (layer, pool)
            if key not in self._running:
                self._running[key] = Moments(state.shape[-1], device=state.device)
            self._running[key].update(rows)

    def _close_fold(self) -> None:
        for key, moments in self._running.items():
            self._record(key, self._fold, moments)
            if key in self._total:
                self._total[key].merge(moments)
            else:
                self._total[key] = moments
        self._running = {}

    def _record(self, key: tuple[int, str], fold: int, moments: Moments) -> None:
        layer, pool = key[0], self._pools.index(key[1])
        for index, centering in enumerate(CENTERINGS):
            spectrum = moments.eigenvalues(centered=centering == "centered").cpu().numpy()
            row = self._arrays["eigenvalues"][layer, pool, index, fold]
            row[:] = 0.0  # fewer rows than features: the other eigenvalues are 0
            row[: len(spectrum)] = spectrum
        self._arrays["mean"][layer, pool, fold] = moments.mean.cpu().numpy()
        self._arrays["n"][pool, fold] = moments.count

    def finish(self) -> Arrays:
        """Close the last fold and write fold 0."""
        # The accumulators were made in inference mode and may only be changed there.
        with torch.inference_mode():
            self._close_fold()
            for key, moments in self._total.items():
                self._record(key, 0, moments)
        return dict(self._arrays)
