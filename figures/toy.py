"""The theory toy: skewed classes under a bottleneck, from both starts."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures.row import FigureRow
from figures.select import Material
from figures.style import Theme
from figures.toy_panels import CAPTION, NEEDS, draw_tasks


def draw_toy(material: Material, theme: Theme, *, seed: int = 0) -> tuple[Figure, xr.Dataset]:
    """Draw paths, RankMe and singular values of the skewed task.

    Parameters
    ----------
    material : the measures of `figures.toy_panels.NEEDS`.
    seed : the seed whose paths are drawn; RankMe and singular values are drawn of all.

    Returns
    -------
    The figure and a Dataset over (task, start, …) of exactly what it shows.

    Raises
    ------
    ValueError
        If there is no such seed.
    """
    return draw_tasks(material, theme, tasks=("skewed",), seed=seed)


ROW = FigureRow(
    name="toy",
    title="Theory toy: skewed classes under a bottleneck",
    function=draw_toy,
    needs=NEEDS,
    phases=False,
    source="arXiv 2509.23024, figure 4",
    caption="The toy with cross-entropy, skewed classes and fewer components than classes."
    + CAPTION,
    kind="toy",
)
