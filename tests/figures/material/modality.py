"""Modalities in conflict: measures of the simulated chooser, its few checkpoints spread over a run."""

from __future__ import annotations

from functools import cache

import numpy as np
import xarray as xr

from figures import FIGURES
from runs.measures import measure_dataset
from runs.rows.modality import ROWS
from tests.runs.modality_chooser import STEPS, chooser_tree

_INPUTS = "1024 documents × 128 tokens, shuffle seed 0, N/d = 8.0"


@cache
def _measured() -> dict[str, xr.Dataset]:
    shown = {
        pair for name, row in FIGURES.items() if name.startswith("modality") for pair in row.needs
    }
    tree = chooser_tree(16, 1)
    return {
        f"{row.name}/{row.convention}": measure_dataset(tree, row, "scenes").compute()
        for row in ROWS
        if (row.name, row.convention) in shown
    }


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    steps = np.concatenate(list(runs.values()))
    branch = np.repeat(list(runs), [s.size for s in runs.values()])
    rows = np.searchsorted(STEPS[:-1], steps, side="left")
    axis = {
        "checkpoint": [f"{b}/step{s}" for b, s in zip(branch, steps, strict=True)],
        "step": ("checkpoint", steps),
        "tokens": ("checkpoint", steps * 2048),
        "branch": ("checkpoint", branch),
    }
    found = {}
    for name, data in _measured().items():
        spread = data.drop_vars(["checkpoint", "step", "tokens", "branch"]).isel(checkpoint=rows)
        if "layer" in data.dims:
            spread = spread.isel(layer=slice(len(layers)))
            spread = spread.assign_coords(layer_name=("layer", layers))
        found[name] = spread.assign_coords(axis).assign_attrs(set="sotu", inputs=_INPUTS)
    return found
