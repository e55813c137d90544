"""Hidden states, kept one by one at the set's points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from runs.errors import CheckpointError
from runs.loaded import Unembedding
from runs.products.base import Arrays, ArraySpec, Batch, HiddenOnly, Spec, layer_coordinates
from runs.tables import CaptureTable

_CHUNK_BYTES = 64 << 20
_FEWEST_ROWS = 256
_FLOAT16_SAFE = 6e4


class Hidden:
    """`hidden` (layer, point, feature): the final layer at all points, others at the first ones."""

    name = "hidden"

    def options(self, capture: CaptureTable) -> Mapping[str, object]:
        """Points and dtype."""
        return capture.hidden.model_dump()

    def layout(self, spec: Spec) -> dict[str, ArraySpec]:
        """One array; a chunk is one layer's points, at most 64 MB and as many as other layers keep."""
        points, width = len(spec.points), spec.shape.width
        dtype = spec.capture.hidden.dtype
        row_bytes, kept = width * np.dtype(dtype).itemsize, _kept(spec)
        # More rows than most layers keep would be NaN on disk; a chunk of nothing else is not written.
        rows = max(1, min(points, max(min(kept), _FEWEST_ROWS), _CHUNK_BYTES // row_bytes))
        return {
            "hidden": ArraySpec(
                ("layer", "point", "feature"),
                (spec.shape.layers, points, width),
                dtype,
                float("nan"),
                (1, rows, width),
                {"long_name": "hidden state"},
                written=sum(-(-int(count) // rows) for count in kept) * rows * row_bytes,
            )
        }

    def coordinates(self, spec: Spec) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Layers, and how many points each keeps."""
        return {**layer_coordinates(spec.shape), "kept": (("layer",), _kept(spec))}

    def collector(self, spec: Spec, unembedding: Unembedding) -> HiddenCollector:
        """A fresh buffer: (L + 1) × `other_points` × d + points × d numbers."""
        return HiddenCollector(spec)


def _kept(spec: Spec) -> np.ndarray:
    kept = np.full(spec.shape.layers, min(len(spec.points), spec.capture.hidden.other_points))
    kept[-1] = len(spec.points)
    return kept


class HiddenCollector(HiddenOnly):
    """Gathers the points of each block."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._kept = _kept(spec)
        width = spec.shape.width
        self._rows = [np.full((n, width), np.nan, np.float32) for n in self._kept]
        order = np.argsort(spec.points.sample, kind="stable")
        self._points = order
        self._starts = np.searchsorted(
            spec.points.sample[order], np.arange(spec.inputs.samples + 1)
        )

    def layers(self) -> frozenset[int]:
        """All."""
        return frozenset(range(self._spec.shape.layers))

    def hidden(self, layer: int, state: torch.Tensor, batch: Batch) -> None:
        """Copy the points of this block that the layer keeps."""
        spans = [self._points[self._starts[s] : self._starts[s + 1]] for s in batch.samples]
        points = np.concatenate(spans)
        rows = np.repeat(np.arange(len(spans)), [len(s) for s in spans])
        keep = points < self._kept[layer]
        points, rows = points[keep], rows[keep]
        positions = self._spec.points.position[points]
        picked = state[
            torch.as_tensor(rows, device=state.device),
            torch.as_tensor(positions, dtype=torch.long, device=state.device),
        ]
        self._rows[layer][points] = picked.float().cpu().numpy()

    def finish(self) -> Arrays:
        """(layer, point, feature), NaN where a layer keeps no point."""
        spec = self._spec
        dtype = np.dtype(spec.capture.hidden.dtype)
        whole = np.full((spec.shape.layers, len(spec.points), spec.shape.width), np.nan, dtype)
        for layer, rows in enumerate(self._rows):
            largest = float(np.abs(rows).max(initial=0.0))
            if dtype == np.float16 and largest >= _FLOAT16_SAFE:
                raise CheckpointError(
                    f"hidden state of layer {layer} reaches {largest:.3g}, too large for float16; "
                    'set capture.hidden.dtype = "float32"'
                )
            whole[layer, : len(rows)] = rows
        return {"hidden": whole}
