"""What the figures of modalities in conflict share: last checkpoints, ΔH axes, balance points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator
from scipy.special import expit

from figures.lines import Look, key, legend_rows
from figures.select import branches, by_branch, checkpoint_names, line_names
from figures.style import Theme
from probes.modality import REASONS

FEWEST = 5  # cases in a bin or a cell below which its rate is not drawn
DELTA = "ΔH   (text easier ← 0 → image easier)"
PREFERENCE = "share that follows the text"
_EDGES = (-2.0, -1.0, 0.0, 1.0, 2.0)


def last_rows(data: xr.Dataset) -> np.ndarray:
    """Position of each line's last checkpoint."""
    names = line_names(data).astype(str)
    found = []
    for line in branches(data):
        own = np.flatnonzero(names == line)
        found.append(int(own[np.argmax(data["tokens"].values[own])]))
    return np.array(found)


def last_of(data: xr.Dataset) -> dict[str, xr.Dataset]:
    """Each line's last checkpoint."""
    rows = last_rows(data)
    return {line: data.isel(checkpoint=row) for line, row in zip(branches(data), rows, strict=True)}


def last_table(
    measures: Mapping[str, tuple[xr.Dataset, Mapping[str, str]]],
) -> xr.Dataset:
    """What is drawn of the last checkpoints: each variable under its new name."""
    parts = []
    for data, names in measures.values():
        parts.append(data.isel(checkpoint=last_rows(data))[list(names)].rename(names))
    return united(xr.merge(parts, join="outer", compat="override", combine_attrs="drop"))


def united(table: xr.Dataset, unit: str = "1") -> xr.Dataset:
    """Return the table with this unit at every variable, and no other attributes."""
    plain = table.drop_attrs(deep=True)
    for name in plain.data_vars:
        plain[name].attrs = {"units": unit}
    return plain


def shown_steps(data: xr.Dataset, revisions: Mapping[str, str]) -> str:
    """Say of which checkpoints a figure of last checkpoints is."""
    named = {line: checkpoint_names(part, revisions)[-1] for line, part in by_branch(data)}
    if len(set(named.values())) == 1:
        return f"at {next(iter(named.values()))}"
    return "at " + ", ".join(f"{name} of {line}" for line, name in named.items())


def diverging(theme: Theme) -> Colormap:
    """Colours of what has a middle: the middle is the page's, light or dark."""
    name = "RdBu" if theme.name == "light" else "berlin_r"
    return matplotlib.colormaps[name].with_extremes(bad=theme.faint)


def delta_axis(axes: Axes, *, label: bool = True) -> None:
    """Limits, ticks and label of an axis of relative uncertainty."""
    axes.set_xlim(-2.05, 2.05)
    axes.xaxis.set_major_locator(FixedLocator(_EDGES))
    if label:
        axes.set_xlabel(DELTA)


def preference_axis(axes: Axes, theme: Theme) -> None:
    """Limits of a rate, and its half."""
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    axes.axhline(0.5, color=theme.muted, lw=0.8, ls=(0, (4, 2)), zorder=1)


def draw_points(axes: Axes, curve: xr.Dataset, colour: str, **style: Any) -> None:
    """Draw a curve in bins with its intervals; bins of few cases are left out."""
    kept = curve["cases"].values >= FEWEST
    x, y, low, high = (curve[n].values[kept] for n in ("delta", "value", "lower", "upper"))
    axes.plot(x, y, color=colour, **{"ls": "none", "marker": "o", **style})
    axes.vlines(x, np.clip(low, 0, 1), np.clip(high, 0, 1), color=colour, lw=0.9)


def draw_logistic(
    axes: Axes, point: xr.Dataset, colour: str, ls: Any = "-", face: str | None = None
) -> None:
    """Draw the logistic curve of a balance point, and the point with its interval at one half."""
    value, slope = float(point["value"]), float(point["slope"])
    if np.isnan(value):
        return
    x = np.linspace(-2, 2, 201)
    steep = np.clip(4 * slope, -1e4, 0)
    axes.plot(x, expit(steep * (x - value)), color=colour, ls=ls, lw=1.3)
    low, high = (np.clip(float(point[n]), -2, 2) for n in ("lower", "upper"))
    axes.plot([low, high], [0.5, 0.5], color=colour, lw=4, alpha=0.45, solid_capstyle="butt")
    axes.plot([value], [0.5], "D", color=colour, mfc=face or colour, markersize=5, zorder=5)


def told(point: xr.Dataset) -> str:
    """A balance point in words, with its interval or why there is none."""
    value = float(point["value"])
    if np.isnan(value):
        code = float(point["reason"])
        why = REASONS[int(code)] if np.isfinite(code) else "no cases"
        beyond = float(point["extrapolated"])
        more = (
            f"; the fit would cross at {beyond:.2f}, outside the data"
            if np.isfinite(beyond)
            else ""
        )
        return f"not crossed ({why}{more})"
    return f"{value:.2f} [{float(point['lower']):.2f}, {float(point['upper']):.2f}]"


def each_line(data: xr.Dataset) -> Iterator[tuple[int, str, xr.Dataset]]:
    """Number, name and checkpoints of every line."""
    for number, (line, part) in enumerate(by_branch(data)):
        yield number, line, part


def foot_legend(figure: Figure, looks: Mapping[str, Look], more: Sequence[Line2D] = ()) -> None:
    """Draw the legend of lines, and of whatever else, at the foot of a figure."""
    handles = [*(key(look, line) for line, look in looks.items()), *more]
    columns, _ = legend_rows([str(handle.get_label()) for handle in handles])
    figure.legend(
        handles=handles, loc="lower center", ncols=columns, columnspacing=1.6, handlelength=2.4
    )
