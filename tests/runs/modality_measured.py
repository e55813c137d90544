"""The tree of the simulated chooser with every measure about modalities kept in it."""

from __future__ import annotations

import xarray as xr

from runs.measures import measure_dataset
from runs.rows.modality import ROWS
from tests.runs.modality_chooser import chooser_tree


def measured_tree(groups: int = 40, seeds: int = 3) -> xr.DataTree:
    """As a store is after `phasescope measure`."""
    tree = chooser_tree(groups, seeds)
    nodes = tree.to_dict()
    for row in ROWS:
        found = measure_dataset(tree, row, "scenes").compute()
        nodes[f"/measures/{row.name}/{row.convention}/scenes"] = found
    return xr.DataTree.from_dict(nodes)
