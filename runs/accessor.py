"""`tree.phasescope`: measures and figures from an opened store."""

from __future__ import annotations

from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from runs.measures import find_row, measure, measure_dataset, sets_for


@xr.register_datatree_accessor("phasescope")  # type: ignore[no-untyped-call]  # xarray
class PhasescopeAccessor:
    """What an opened store or study can be asked.

    Parameters
    ----------
    tree
        From `open_store` or `open_study`.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def measure(self, name: str, **options: Any) -> xr.DataArray:
        """As `runs.measure(tree, name, …)`."""
        return measure(self._tree, name, **options)

    def draw(self, name: str, **options: Any) -> tuple[Figure, xr.Dataset]:
        """As `figures.draw(tree, name, …)`; measures the store does not keep are computed first."""
        from figures import FIGURES, draw

        if name not in FIGURES or FIGURES[name].command:  # draw says what is wrong
            return draw(self._tree, name, **options)
        return draw(with_measures(self._tree, FIGURES[name].needs), name, **options)


def with_measures(tree: xr.DataTree, needs: tuple[tuple[str, str], ...]) -> xr.DataTree:
    """The tree with the named measures of every set that allows them, computed where not kept."""
    nodes = {}
    for name, convention in needs:
        row = find_row(name, convention)
        for chosen in sets_for(tree, row):
            found = measure_dataset(tree, row, chosen)
            nodes[f"measures/{name}/{convention}/{chosen}"] = found.compute()
    # Relative: the tree may be one model of a study.
    return xr.DataTree.from_dict({**tree.to_dict(relative=True), **nodes})
