"""The phase plane: relative uncertainty × training step → which modality is followed."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from figures.axes import short_number, shortened
from figures.modality_panels import FEWEST, diverging, united
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names, require_series
from figures.style import WIDTH, Theme

_ACROSS = 3
_LEFT, _RIGHT, _TOP, _FOOT, _HIGH, _APART = 0.6, 0.85, 0.3, 0.5, 2.1, 0.55  # inches


def draw_modality_plane(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw preference over ΔH and training, a panel a line, with the balance point on top.

    Parameters
    ----------
    material : following_curve in fixed bins (checkpoint, delta_bin) and balance_point (checkpoint).

    Returns
    -------
    The figure and a Dataset: `follows_text` (checkpoint, delta_bin), NaN in bins of fewer than 5 cases,
    and `balance_point` with its bounds.

    Raises
    ------
    TooFewCheckpoints
        If there is no course of training.

    Notes
    -----
    Ours; a column a checkpoint, equally wide. Memory: the measures.
    """
    data = material.measures["following_curve"].compute()
    require_series(data)
    points = dict(by_branch(material.measures["balance_point"].compute()))
    lines = dict(by_branch(data))
    across = min(_ACROSS, len(lines))
    rows = -(-len(lines) // across)
    tall = _TOP + rows * _HIGH + (rows - 1) * _APART + _FOOT
    figure = Figure(figsize=(WIDTH, tall))
    each = (WIDTH - _LEFT - _RIGHT - 0.15 * (across - 1)) / across
    for number, (line, part) in enumerate(lines.items()):
        row, column = divmod(number, across)
        bottom = tall - _TOP - (row + 1) * _HIGH - row * _APART
        place = (
            (_LEFT + column * (each + 0.15)) / WIDTH,
            bottom / tall,
            each / WIDTH,
            _HIGH / tall,
        )
        axes = figure.add_axes(place, label=line)
        _plane(axes, part, points[line], checkpoint_names(part, material.revisions), each, theme)
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            axes.set_ylabel("ΔH   (text easier ← 0 → image easier)", fontsize=8)
        if len(lines) > 1:
            axes.set_title(shortened(line, each, size=9))
    side = figure.add_axes(
        (1 - (_RIGHT - 0.15) / WIDTH, (tall - _TOP - _HIGH) / tall, 0.13 / WIDTH, _HIGH / tall),
        label="bar",
    )
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), diverging(theme)), cax=side)
    bar.set_label("share that follows the text")
    bar.outline.set_visible(False)
    kept = data["value"].where(data["cases"] >= FEWEST)
    table = kept.to_dataset(name="follows_text").drop_attrs(deep=False)
    point = material.measures["balance_point"].compute()
    table["balance_point"] = point["value"]
    for bound in ("lower", "upper"):
        table[f"balance_{bound}"] = point[bound]
    return figure, united(table)


def _plane(
    axes: Axes, part: xr.Dataset, point: xr.Dataset, names: list[str], inches: float, theme: Theme
) -> None:
    """Draw one line's cells and its balance points; where there is none there is no mark."""
    values = part["value"].where(part["cases"] >= FEWEST).transpose("delta_bin", "checkpoint")
    count = values.sizes["checkpoint"]
    axes.pcolormesh(
        np.arange(count + 1) - 0.5, np.linspace(-2, 2, values.sizes["delta_bin"] + 1),
        values.values, cmap=diverging(theme), norm=Normalize(0, 1), rasterized=True,
    )  # fmt: skip
    place, low, high = (point[n].values for n in ("value", "lower", "upper"))
    x = np.arange(count)
    axes.plot(x, place, "-", color=theme.ink, lw=1)
    axes.vlines(x, np.clip(low, -2, 2), np.clip(high, -2, 2), color=theme.ink, lw=1.2)
    axes.plot(x, place, "D", color=theme.ink, markerfacecolor=theme.page, markersize=4)
    axes.set_ylim(-2, 2)
    axes.grid(False)
    steps = part["step"].values.astype(int)
    kept = np.arange(0, count, max(1, -(-count // max(int(inches / 0.42), 2))))
    axes.set_xticks(kept.tolist(), [short_number(int(steps[i])) for i in kept])
    axes.set_xlabel("step" if count > 1 else names[0])


ROW = FigureRow(
    name="modality_plane",
    title="Preference over relative uncertainty and training",
    function=draw_modality_plane,
    needs=(("following_curve", "fixed"), ("balance_point", "logistic")),
    phases=False,
    source="ours, after arXiv 2511.02243",
    caption=(
        "Share of conflicts solved in both modalities that follow the text, by relative uncertainty ΔH"
        " (up) at each checkpoint (across); bins of fewer than 5 cases are blank. Diamonds: balance point"
        " of the logistic fit with {level} interval by resampled groups; where the curve does not cross"
        " one half there is none. Which conflicts are solved changes with training. Inputs: {inputs}."
    ),
    extra=True,
)
