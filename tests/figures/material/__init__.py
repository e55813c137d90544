"""Made-up measures for figures, one family a module.

Each module has `measures(runs, layers) -> {"NAME/CONVENTION": Dataset}`, of the set `sotu`, or with
`NAME/CONVENTION/SET` of another: `runs` maps a branch to its
steps, `layers` lists names of layers. What it gives stands in the tree that all figures' tests draw from.
"""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import xarray as xr


def extra(runs: dict[str, np.ndarray], layers: list[str]) -> dict[str, xr.Dataset]:
    found: dict[str, xr.Dataset] = {}
    for module in pkgutil.iter_modules(__path__):
        found |= importlib.import_module(f"{__name__}.{module.name}").measures(runs, layers)
    return found
