"""Made-up bands and bounds: heads leave the top quarter, their logits grow and their bounds part."""

from __future__ import annotations

import numpy as np
import xarray as xr

BANDS = ["0–¼", "¼–½", "½–¾", "¾–1"]


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _between, _checkpoints, _measure

    axis = _checkpoints(runs)
    steps = axis["step"][1]
    late = _between(steps, [1, 60, 1500], [0.0, 0.05, 1.0])[:, None]
    share = late * np.array([0.125, 0.25, 0.25, 0.375]) + (1 - late) * np.array([0, 0, 0, 1.0])
    bands = _measure(
        "band_share", "observed_max", ("checkpoint", "band"), {**axis, "band": np.array(BANDS)},
        share, unit="1",
    )  # fmt: skip
    bands.attrs["source"] = "quarters of a reference, 2501.03489 §3: the largest head entropy"
    bands["lower"] = (bands["value"] - 0.06).clip(0)
    bands["upper"] = (bands["value"] + 0.06).clip(0, 1)
    count = len(layers) - 2  # as many heads as blocks, as the tree has
    heads = {**axis, "block": np.arange(1, count + 1), "head": np.arange(count)}
    spread = np.linspace(0.5, 2, count * count).reshape(count, count)
    norm = (0.5 + 12 * late[:, :, None]) * spread
    top = np.full(norm.shape, 3.86)
    low = 3.86 * np.exp(-0.4 * norm)
    dims = ("checkpoint", "block", "head")
    found = {"band_share/observed_max": bands}
    for name, convention, value, unit in (
        ("row_norm", "centered", norm, "1"),
        ("entropy_lower_bound", "row", low, "nats"),
        ("entropy_upper_bound", "row", top, "nats"),
    ):
        found[f"{name}/{convention}"] = _measure(name, convention, dims, heads, value, unit=unit)
    return found
