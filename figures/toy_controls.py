"""Controls of the theory toy: uniform classes, and no bottleneck."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures.row import FigureRow
from figures.select import Material
from figures.style import Theme
from figures.toy_panels import CAPTION, NEEDS, draw_tasks


def draw_toy_controls(
    material: Material, theme: Theme, *, seed: int = 0
) -> tuple[Figure, xr.Dataset]:
    """Draw the uniform task and the task of three components, as `figures.toy.draw_toy` does."""
    return draw_tasks(material, theme, tasks=("uniform", "wide"), seed=seed)


ROW = FigureRow(
    name="toy_controls",
    title="Theory toy, controls: uniform classes, no bottleneck",
    function=draw_toy_controls,
    needs=NEEDS,
    phases=False,
    source="arXiv 2509.23024, figure 12",
    caption="The toy with two samples a class, and with three components for four classes."
    + CAPTION,
    kind="toy",
)
