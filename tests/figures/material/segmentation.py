"""Two made-up segmentations of a made-up score, a boundary of every kind among them."""

from __future__ import annotations

import numpy as np
import xarray as xr


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _checkpoints, _measure

    axis = _checkpoints(runs)
    steps, tokens = axis["step"][1], axis["tokens"][1].astype(float)
    score = np.log1p(steps)
    state = np.searchsorted([16, 181], steps, side="right")
    missing = np.full(steps.size, np.nan)
    found, published = missing.copy(), missing.copy()
    for place, (ours, theirs) in {16: (1, 1), 181: (np.nan, 2), 54: (2, np.nan)}.items():
        found[steps == place], published[steps == place] = ours, theirs
    there = np.isfinite(found)
    node = _measure("segmentation", "polypythias", ("checkpoint",), dict(axis), score, unit="1")
    node = node.assign(
        state=("checkpoint", state.astype(float)),
        fitted=("checkpoint", np.where(steps > 0, score, np.nan)),
        found=("checkpoint", found),
        published=("checkpoint", published),
        pooled=("checkpoint", np.zeros(steps.size)),
        found_lower=("checkpoint", np.where(there, tokens / 1.5, np.nan)),
        found_upper=("checkpoint", np.where(there, tokens * 1.4, np.nan)),
    )
    return {"segmentation/polypythias": node}
