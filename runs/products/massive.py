"""Massive activations: the largest numbers of some samples' states at every layer; no state is kept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from geometry.massive import largest_magnitudes
from runs.loaded import Unembedding
from runs.products.base import Arrays, ArraySpec, Batch, HiddenOnly, Spec, layer_coordinates
from runs.tables import CaptureTable

COUNT = 3


class Massive:
    """`magnitude`, `position`, `feature` of the three largest |x| of a sample's states, and `median`."""

    name = "massive"

    def options(self, capture: CaptureTable) -> Mapping[str, object]:
        """How many samples are read."""
        return capture.massive.model_dump()

    def layout(self, spec: Spec) -> dict[str, ArraySpec]:
        """Four arrays, one chunk a checkpoint each."""
        one = (spec.shape.layers, _count(spec))
        each, dims = (*one, COUNT), ("layer", "massive_sample", "largest")
        nan = float("nan")
        return {
            "magnitude": ArraySpec(dims, each, "float32", nan, each, {"long_name": "|x|"}),
            "position": ArraySpec(dims, each, "int32", -1, each),
            "feature": ArraySpec(dims, each, "int32", -1, each),
            "median": ArraySpec(
                dims[:2], one, "float32", nan, one, {"long_name": "median |x| of the sample"}
            ),
        }

    def coordinates(self, spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[np.generic]]]:
        """Layers, and the group of each sample read."""
        return {
            **layer_coordinates(spec.shape),
            "massive_group": (("massive_sample",), spec.inputs.group[: _count(spec)]),
            "largest": (("largest",), np.arange(1, COUNT + 1)),
        }

    def collector(self, spec: Spec, unembedding: Unembedding) -> MassiveCollector:
        """A few numbers a layer and sample."""
        return MassiveCollector(spec)


def _count(spec: Spec) -> int:
    return min(spec.capture.massive.samples, spec.inputs.samples)


class MassiveCollector(HiddenOnly):
    """Takes numbers of one sample at a time: nothing is summed over samples."""

    def __init__(self, spec: Spec) -> None:
        self._layers, self._count = spec.shape.layers, _count(spec)
        self._length = spec.inputs.length
        self._arrays = {
            name: np.full(array.shape, array.fill, array.dtype)
            for name, array in Massive().layout(spec).items()
        }

    def layers(self) -> frozenset[int]:
        """All."""
        return frozenset(range(self._layers))

    def hidden(self, layer: int, state: torch.Tensor, batch: Batch) -> None:
        """Look at the samples of one block that are read."""
        rows = np.flatnonzero(batch.samples < self._count)
        if len(rows) == 0:
            return
        samples = batch.samples[rows]
        picked = state[torch.as_tensor(rows, device=state.device)]
        found = largest_magnitudes(picked, self._length[samples], count=COUNT)
        for name, value in found._asdict().items():
            self._arrays[name][layer, samples] = value.numpy()

    def finish(self) -> Arrays:
        """The four arrays."""
        return dict(self._arrays)
