"""Entropy ledger, CKA and principal angles of a made-up run."""

from __future__ import annotations

import numpy as np
import xarray as xr

BANDS = ("1", "2–10", "11–100", "101–500", "501+")


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import _checkpoints, _measure

    rng = np.random.default_rng(7)
    axis = _checkpoints(runs)
    steps = axis["step"][1]
    count, depth = steps.size, len(layers)
    first = np.concatenate([np.arange(s.size) == 0 for s in runs.values()])
    labels = axis["checkpoint"][1]
    other = np.where(first, "", np.roll(labels, 1))
    axis = {**axis, "other": (("checkpoint",), other)}
    coords = {**axis, "layer": np.arange(depth), "layer_name": (("layer",), np.array(layers))}
    fall = np.where(steps < 16, -0.4, 0.3)
    shares = np.array([0.5, 0.35, 0.15, 0.0, 0.0])
    change = fall[:, None, None] * shares + rng.normal(0, 0.02, (count, depth, 5)) * (shares > 0)
    change[first] = np.nan
    drift = 1 - 0.5 * np.exp(-(((np.log1p(steps) - 3) / 1.5) ** 2))[:, None] * np.linspace(
        0.6, 1, depth
    )
    drift = drift + rng.normal(0, 0.005, drift.shape)
    drift[first] = np.nan
    gap = np.abs(np.subtract.outer(np.arange(depth), np.arange(depth)))
    maps = np.exp(-gap * (0.1 + 0.05 * np.log1p(steps))[:, None, None])
    angles = drift[..., None] ** np.array([1, 2, 3])
    both = ("checkpoint", "layer")
    top = {**coords, "directions": np.array([1, 8, 32])}
    found = {
        "entropy_ledger/li2025": _measure(
            "entropy_ledger", "li2025", (*both, "band"), {**coords, "band": np.array(BANDS)},
            change, unit="nats",
        ),
        "linear_cka/debiased_previous": _measure(
            "linear_cka", "debiased_previous", both, coords, drift, unit="1"
        ),
        "layer_cka/debiased": _measure(
            "layer_cka", "debiased", (*both, "other_layer"),
            {**coords, "other_layer": np.arange(depth)}, maps, unit="1",
        ),
        "principal_angles/previous": _measure(
            "principal_angles", "previous", (*both, "directions"), top, angles, unit="1"
        ),
    }  # fmt: skip
    random = np.broadcast_to(np.array([1, 8, 32]) / 128, angles.shape)
    node = found["principal_angles/previous"]
    node["random"] = ((*both, "directions"), random.copy())
    return found
