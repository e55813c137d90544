"""Heads by the height of their entropy: the share of each quarter over training, and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from figures import axes as shared
from figures.lines import Look, legend_rows, line_looks
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names, has_numbers, tokens_unknown
from figures.style import WIDTH, Theme

_PANEL, _GROUPS = 1.35, 1.5  # inches of a panel over training, and of the one at its end
_TICKS = 9
_SERIES = "One bar a checkpoint, in the order of training; steps are not to scale."
_END = (
    " Below: each line's last checkpoint; whiskers reach from the heads whose interval lies wholly in"
    " the band to those whose interval touches it."
)


def draw_attention_bands(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw the share of heads in each quarter of the reference as stacked bars, one a checkpoint.

    Parameters
    ----------
    material : band_share (checkpoint, band).

    Returns
    -------
    The figure, one panel a branch (of a study, a line) and below them, if there are several, bars of
    their last checkpoints side by side; and a Dataset with `band_share` and its interval
    (checkpoint, band). A checkpoint with a head that failed has no bar.

    Raises
    ------
    ValueError
        If no checkpoint has a number.

    Notes
    -----
    Bands after arXiv 2501.03489, §3 and figure 2(a). Memory: the measure.
    """
    data = material.measures["band_share"].compute()
    # In an order of our own: a store lists its arrays as its disk does.
    kept = [n for n in ("value", "standard_error", "lower", "upper") if n in data]
    data = data[kept].map(lambda array: array.transpose("checkpoint", "band"))
    if not has_numbers(data["value"]):
        raise ValueError("band_share is NaN at every checkpoint; there is nothing to draw")
    bands = [str(band) for band in data["band"].values]
    ramp = theme.line_colours()
    colours = [to_hex(ramp(index / (len(bands) - 1))) for index in range(len(bands))]
    parts = list(by_branch(data))
    looks = line_looks([data], theme)
    figure, panels, groups = _layout(parts, looks)
    for axes, (line, part) in zip(panels, parts, strict=True):
        _stack(axes, part, colours, checkpoint_names(part, material.revisions), theme)
        if len(parts) > 1:
            axes.set_title(shared.shortened(line, WIDTH - 1.0, size=9))
    _axes_names(panels, parts)
    handles = [
        Patch(color=colour, label=f"{band} of the reference")
        for band, colour in zip(bands, colours, strict=True)
    ]
    figure.legend(
        handles=handles, loc="upper center", ncols=len(bands), handlelength=1.0, columnspacing=1.4
    )
    if groups is not None:
        _groups(groups, parts, bands, looks, theme)
        _line_key(figure, looks)
    table = data.rename(value="band_share")
    for name in table.data_vars:
        table[name].attrs = {"units": "1"}
    attrs = material.measures["band_share"].attrs
    table.attrs["panels"] = _SERIES + _END * (groups is not None)
    table.attrs["reference"] = str(attrs.get("source", "")).rpartition(": ")[2]
    return figure, table


def _layout(
    parts: Sequence[tuple[str, xr.Dataset]], looks: Mapping[str, Look]
) -> tuple[Figure, list[Axes], Axes | None]:
    """Return the figure, a panel a line and, if there are several, the one of their ends."""
    many = len(parts) > 1
    _, rows = legend_rows(list(looks))
    heights = [_PANEL] * len(parts) + [_GROUPS] * many
    above, below = 0.55 if many else 0.4, 0.5 + (0.2 * rows + 0.1) * many
    gap = 0.62
    inner = sum(heights) + gap * (len(heights) - 1)
    tall = inner + above + below
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        len(heights), 1, figure, height_ratios=heights, left=0.75 / WIDTH, right=1 - 0.12 / WIDTH,
        bottom=below / tall, top=1 - above / tall, hspace=gap / float(np.mean(heights)),
    )  # fmt: skip
    panels = [figure.add_subplot(grid[row]) for row in range(len(parts))]
    return figure, panels, figure.add_subplot(grid[len(parts)]) if many else None


def _stack(
    axes: Axes, part: xr.Dataset, colours: Sequence[str], names: Sequence[str], theme: Theme
) -> None:
    shares = part["value"].values
    places = np.arange(len(shares))
    edge: dict[str, Any] = {"edgecolor": theme.page, "linewidth": 0.6 if len(shares) < 80 else 0}
    foot = np.zeros(len(shares))
    for band, colour in enumerate(colours):
        there = np.nan_to_num(shares[:, band])
        axes.bar(places, there, 0.92, bottom=foot, color=colour, label=f"_{band}", **edge)
        foot = foot + there
    axes.set_xlim(-0.6, max(len(shares), 8) - 0.4)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.grid(False)
    if tokens_unknown(part):
        axes.set_xticks([0], names)
        return
    steps = part["step"].values
    shown = np.unique(np.linspace(0, len(steps) - 1, min(_TICKS, len(steps))).round().astype(int))
    axes.set_xticks(shown, [shared.short_number(float(steps[place])) for place in shown])


def _axes_names(panels: Sequence[Axes], parts: Sequence[tuple[str, xr.Dataset]]) -> None:
    for axes in panels:
        axes.set_ylabel("share of heads")
    if not tokens_unknown(parts[-1][1]):
        panels[-1].set_xlabel("step")


def _groups(
    axes: Axes,
    parts: Sequence[tuple[str, xr.Dataset]],
    bands: Sequence[str],
    looks: Mapping[str, Look],
    theme: Theme,
) -> None:
    """Draw the last checkpoints' shares side by side, as figure 2(a) of arXiv 2501.03489."""
    width = 0.82 / len(parts)
    for number, (line, part) in enumerate(parts):
        last = part.isel(checkpoint=-1)
        places = np.arange(len(bands)) + (number - (len(parts) - 1) / 2) * width
        value = last["value"].values
        hatch = "////" if looks[line].face is not None else None
        axes.bar(
            places, np.nan_to_num(value), 0.92 * width, color=looks[line].colour, label=f"_{line}",
            hatch=hatch, edgecolor=theme.page, linewidth=0,
        )  # fmt: skip
        if {"lower", "upper"} <= set(last.data_vars):
            axes.vlines(
                places, last["lower"].values, last["upper"].values, color=theme.ink, linewidth=0.9
            )
    axes.set_xticks(np.arange(len(bands)), [f"{band} of the reference" for band in bands])
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.set_ylabel("share of heads")
    axes.set_title("last checkpoints")


def _line_key(figure: Figure, looks: Mapping[str, Look]) -> None:
    columns, _ = legend_rows(list(looks))
    page = figure.get_facecolor()
    handles = [
        Patch(
            facecolor=look.colour, edgecolor=page, linewidth=0,
            label=shared.shortened(line, WIDTH - 0.8), hatch="////" if look.face is not None else None,
        )
        for line, look in looks.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="lower center", ncols=columns, handlelength=1.2)


ROW = FigureRow(
    name="attention_bands",
    title="Heads by the height of their entropy",
    function=draw_attention_bands,
    needs=(("band_share", "observed_max"),),
    phases=False,
    source="arXiv 2501.03489, §3 and figure 2(a)",
    caption=(
        "Share of heads whose mean attention entropy lies in each quarter of a reference: {reference}."
        " {panels} Inputs: {inputs}."
    ),
)
