"""Token trajectories: how each sample's states bend and spread, layer by layer; no state is kept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from geometry.matrix_entropy import sentence_entropy
from geometry.trajectory import TRAJECTORY, TokenMean, trajectory_statistics
from runs.loaded import Unembedding
from runs.products.base import Arrays, ArraySpec, Batch, HiddenOnly, Spec, layer_coordinates
from runs.tables import CaptureTable

ENTROPIES = {"centered_entropy": True, "plain_entropy": False}
STATISTICS = (*TRAJECTORY, *ENTROPIES)


class Trajectory:
    """`mean` and `terms` of every statistic for each layer and sample.

    Entropies need an eigenvalue problem a layer and sample: they are made at `entropy_samples` samples,
    spread evenly over the set, and are NaN over −1 terms elsewhere.
    """

    name = "trajectory"

    def options(self, capture: CaptureTable) -> Mapping[str, object]:
        """How many samples have entropies."""
        return capture.trajectory.model_dump()

    def layout(self, spec: Spec) -> dict[str, ArraySpec]:
        """Two arrays, one chunk a checkpoint each."""
        shape = (len(STATISTICS), spec.shape.layers, spec.inputs.samples)
        dims = ("statistic", "layer", "sample")
        return {
            "mean": ArraySpec(
                dims,
                shape,
                "float32",
                float("nan"),
                shape,
                {"long_name": "mean over a sample's tokens; entropies in nats, angles in radians"},
            ),
            "terms": ArraySpec(
                dims, shape, "int32", -1, shape, {"long_name": "terms of the mean; −1: not made"}
            ),
        }

    def coordinates(self, spec: Spec) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Layers and names of statistics."""
        return {
            **layer_coordinates(spec.shape),
            "statistic": (("statistic",), np.array(STATISTICS)),
        }

    def collector(self, spec: Spec, unembedding: Unembedding) -> TrajectoryCollector:
        """Two arrays of (statistic, layer, sample)."""
        return TrajectoryCollector(spec)


def chosen_samples(samples: int, wanted: int) -> np.ndarray:
    """Which of the samples have entropies: `wanted` of them, evenly spread, or all; bool (sample,)."""
    chosen = np.zeros(samples, bool)
    count = min(samples, wanted)
    chosen[np.arange(count) * samples // max(count, 1)] = True
    return chosen


class TrajectoryCollector(HiddenOnly):
    """Takes numbers of one sample at a time: nothing is summed over samples."""

    def __init__(self, spec: Spec) -> None:
        self._layers = spec.shape.layers
        self._chosen = chosen_samples(spec.inputs.samples, spec.capture.trajectory.entropy_samples)
        self._arrays = {
            name: np.full(array.shape, array.fill, array.dtype)
            for name, array in Trajectory().layout(spec).items()
        }

    def layers(self) -> frozenset[int]:
        """All."""
        return frozenset(range(self._layers))

    def hidden(self, layer: int, state: torch.Tensor, batch: Batch) -> None:
        """Measure one block."""
        for name, found in trajectory_statistics(state, batch.mask).items():
            self._put(name, layer, batch.samples, found)
        rows = np.flatnonzero(self._chosen[batch.samples])
        if len(rows) == 0:
            return
        picked = torch.as_tensor(rows, device=state.device)
        for name, centered in ENTROPIES.items():
            found = sentence_entropy(state[picked], batch.mask[picked], centered=centered)
            self._put(name, layer, batch.samples[rows], found)

    def _put(self, name: str, layer: int, samples: np.ndarray, found: TokenMean) -> None:
        at = STATISTICS.index(name)
        self._arrays["mean"][at, layer, samples] = found.value.cpu().numpy()
        self._arrays["terms"][at, layer, samples] = found.terms.cpu().numpy()

    def finish(self) -> Arrays:
        """The two arrays."""
        return dict(self._arrays)
