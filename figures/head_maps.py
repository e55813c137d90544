"""Maps of one number a head: blocks and heads as cells, at a few checkpoints or at one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures import axes as shared
from figures.style import WIDTH, Theme

LEFT, RIGHT = 0.8, 0.85  # inches beside the panels
ACROSS = WIDTH - LEFT - RIGHT
MAPS = 6
_CELL = 0.3  # inches; the widest cell of a map that stands alone


def chosen_rows(part: xr.Dataset, count: int = MAPS) -> np.ndarray:
    """Positions on the checkpoint axis of so many maps, spread evenly in log step, step 0 first."""
    have = part["step"].values.astype(int)
    if have.size <= count:
        return np.arange(have.size)
    begin = int(have[0] == 0)
    marks = np.geomspace(have[begin], have[-1], count - begin)
    near = [int(np.argmin(np.abs(np.log(have[begin:] / mark)))) + begin for mark in marks]
    return np.unique([0] * begin + near)


def map_height(part: xr.Dataset, maps: int) -> float:
    """Inches that a branch's maps are high: one map lies on its side, blocks across."""
    if maps == 1:
        return float(np.clip(_cell(part) * part.sizes["head"], 0.4, 4.5))
    return float(np.clip(0.16 * part.sizes["block"], 0.75, 2.6))


def draw_maps(
    figure: Figure,
    bottom: float,
    height: float,
    values: xr.DataArray,
    titles: Sequence[str],
    norm: Normalize,
    theme: Theme,
    label: str,
) -> None:
    """Draw one map a checkpoint side by side, or one alone, and their colour bar.

    Parameters
    ----------
    bottom, height : in inches from the foot of the figure.
    values : (checkpoint, block, head).
    titles : one a map.
    label : of the colour bar.
    """
    tall = figure.get_figheight()
    count = values.sizes["checkpoint"]
    blocks, heads = values["block"].values, values["head"].values
    if count == 1:
        width = _cell(values) * blocks.size
        place = (LEFT / WIDTH, bottom / tall, width / WIDTH, height / tall)
        axes = figure.add_axes(place, label=f"map {bottom:.3f}")
        _cells(axes, values.values[0].T, norm, theme, titles[0])
        _ticks(axes, blocks, heads, 15, 15)
        axes.set_xlabel("block")
        axes.set_ylabel("head")
        bar = LEFT + width + 0.13
    else:
        gap = 0.09
        width = (ACROSS - gap * (count - 1)) / count
        for index in range(count):
            left = LEFT + index * (width + gap)
            place = (left / WIDTH, bottom / tall, width / WIDTH, height / tall)
            axes = figure.add_axes(place, label=f"map {bottom:.3f} {index}")
            _cells(axes, values.values[index], norm, theme, titles[index])
            _ticks(axes, heads, blocks, 4, 8)
            axes.tick_params(labelleft=index == 0)
            axes.set_xlabel("head")
            if index == 0:
                axes.set_ylabel("block")
        bar = WIDTH - RIGHT + 0.13
    side = figure.add_axes(
        (bar / WIDTH, bottom / tall, 0.13 / WIDTH, height / tall), label=f"bar {bottom:.3f}"
    )
    made = figure.colorbar(ScalarMappable(norm, theme.heat_colours()), cax=side)
    made.set_label(label)
    made.locator = MaxNLocator(4)
    made.outline.set_visible(False)


def step_titles(names: Sequence[str]) -> list[str]:
    """Names of checkpoints short enough to stand above maps side by side."""
    found = []
    for name in names:
        word, _, number = name.partition(" ")
        long = word == "step" and number.isdigit() and int(number) >= 100_000
        found.append(f"step {shared.short_number(int(number))}" if long else name)
    return found


def _cell(part: xr.Dataset | xr.DataArray) -> float:
    return min(_CELL, ACROSS / part.sizes["block"], 4.5 / part.sizes["head"])


def _cells(axes: Axes, values: np.ndarray, norm: Normalize, theme: Theme, title: str) -> None:
    high, wide = values.shape
    axes.pcolormesh(
        np.arange(wide + 1) - 0.5, np.arange(high + 1) - 0.5, values, norm=norm,
        cmap=theme.heat_colours(), rasterized=True,
    )  # fmt: skip
    axes.set_title(title)
    axes.grid(False)


def _ticks(axes: Axes, across: np.ndarray, up: np.ndarray, most_across: int, most_up: int) -> None:
    both = ((axes.xaxis, across, most_across), (axes.yaxis, up, most_up))
    for each, names, most in both:
        kept = np.arange(0, names.size, max(1, -(-names.size // most)))
        each.set_ticks(kept.tolist(), labels=[str(names[i]) for i in kept])
