"""Made-up token trajectories: layers straighten at different times, entropy dips and recovers."""

from __future__ import annotations

import numpy as np
import xarray as xr


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _between, _checkpoints, _measure

    axis = _checkpoints(runs)
    steps = axis["step"][1]
    coords = {
        **axis,
        "layer": np.arange(len(layers)),
        "layer_name": (("layer",), np.array(layers)),
    }
    depth = np.linspace(0.1, 1.0, len(layers))
    shift = 0.05 * (axis["branch"][1] != "main")[:, None]
    bend = 2.05 - shift - _between(steps, [1, 100, 1500], [0, 0.3, 0.2])[:, None] * depth
    entropy = 4.0 - shift - _between(steps, [1, 16, 200, 1500], [0, 1.5, 0.3, 0.8])[:, None] * depth
    both = ("checkpoint", "layer")
    told = {"source": "arXiv 2502.02013", "interval": "clustered by sample"}
    return {
        "curvature/differences": _measure(
            "curvature", "differences", both, coords, bend, np.full(bend.shape, 0.01),
            unit="radians", **told,
        ),
        "sentence_entropy/skean2025": _measure(
            "sentence_entropy", "skean2025", both, coords, entropy, np.full(bend.shape, 0.03),
            unit="nats", length=128, **told,
        ),
    }  # fmt: skip
