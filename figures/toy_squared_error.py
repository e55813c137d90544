"""The theory toy with squared error instead of cross-entropy."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures.row import FigureRow
from figures.select import Material
from figures.style import Theme
from figures.toy_panels import CAPTION, NEEDS, draw_tasks


def draw_toy_squared_error(
    material: Material, theme: Theme, *, seed: int = 0
) -> tuple[Figure, xr.Dataset]:
    """Draw both tasks of squared error, as `figures.toy.draw_toy` does."""
    return draw_tasks(material, theme, tasks=("squared_uniform", "squared_skewed"), seed=seed)


ROW = FigureRow(
    name="toy_squared_error",
    title="Theory toy, controls: squared error",
    function=draw_toy_squared_error,
    needs=NEEDS,
    phases=False,
    source="arXiv 2509.23024, figure 13",
    caption="The toy with half the squared distance to the label's unit vector as loss." + CAPTION,
    kind="toy",
)
