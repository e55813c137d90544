"""The toy itself, of a few seeds and steps: it takes less than a made-up one would need lines."""

from __future__ import annotations

from functools import cache

import numpy as np
import xarray as xr

from runs.models.toy_measures import measure_toy


@cache
def _measured() -> dict[str, xr.Dataset]:
    return measure_toy(seeds=3, steps=120, learning_rate=0.5)


def measures(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    from tests.figures.conftest import INPUTS  # it imports this package

    return {name: data.assign_attrs(inputs=INPUTS) for name, data in _measured().items()}
