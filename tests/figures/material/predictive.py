"""Predictive geometry of a run that learns to tell contexts apart."""

from __future__ import annotations

import numpy as np
import xarray as xr

LEVELS = {"level": 0.95, "interval": "spread over 8 folds", "set": "sotu"}


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    steps = np.concatenate(list(runs.values()))
    branch = np.repeat(list(runs), [s.size for s in runs.values()])
    names = [f"{b}/step{s}" for b, s in zip(branch, steps, strict=True)]
    axis = {
        "checkpoint": (("checkpoint",), np.array(names)),
        "step": (("checkpoint",), steps),
        "tokens": (("checkpoint",), steps * 2048),
        "branch": (("checkpoint",), branch),
    }
    layered = {
        **axis,
        "layer": np.arange(len(layers)),
        "layer_name": (("layer",), np.array(layers)),
    }
    late = np.log1p(steps) / np.log1p(1500) - 0.1 * (branch != "main")
    depth = np.linspace(0.2, 1.0, len(layers))

    def made(name, dims, coords, value, unit="1", **more):
        attrs = {"measure": name, "unit": unit, **LEVELS}
        return xr.Dataset({"value": (dims, value), **more}, coords, attrs)

    rank = np.stack([20 + 60 * late, 25 + 70 * late], axis=1)
    pools = ("checkpoint", "pool")
    both = ("checkpoint", "layer")
    return {
        "fisher_rankme/li2025": made(
            "fisher_rankme", pools, {**axis, "pool": np.array(["last", "all"])}, rank,
            "directions", lower=(pools, rank / 1.1), upper=(pools, rank * 1.1),
        ),
        "effective_predictions/von_neumann": made(
            "effective_predictions", ("checkpoint",), axis, 1 + 40 * np.abs(late), "predictions"
        ),
        "prediction_cka/debiased": made(
            "prediction_cka", both, layered, 0.9 * late[:, None] * depth
        ),
        "dirichlet_energy/relative": made(
            "dirichlet_energy", both, layered, 1 - 0.6 * late[:, None] * depth
        ),
    }  # fmt: skip
