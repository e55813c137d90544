"""Text-following by kind of text, of image and of question: what pooling hides."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.axes import shortened
from figures.modality_panels import (
    FEWEST,
    PREFERENCE,
    delta_axis,
    diverging,
    last_of,
    last_table,
    preference_axis,
    shown_steps,
)
from figures.row import FigureRow
from figures.select import Material
from figures.style import WIDTH, Theme

_LEFT, _TOP, _FOOT, _HIGH, _APART = 0.55, 0.4, 1.2, 1.6, 0.5  # inches
_FEWEST_CELL = 12  # pairs; a rank correlation of fewer says nothing
_CURVES = {
    "text_tier": ("following_curve", "by text tier"),
    "visual_tier": ("following_curve/by_visual_tier", "by visual tier"),
    "subset": ("following_curve/by_subset", "by what is asked"),
}


def draw_modality_strata(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw following curves by stratum, a row a line, and the rank correlation in every cell.

    Parameters
    ----------
    material : following_curve by text tier, visual tier and subset (checkpoint, …, curve_bin), and
        following_monotone by tiers (checkpoint, text_tier, visual_tier).

    Returns
    -------
    The figure and a Dataset of the last checkpoints; curves by subset stand in place of those by visual
    tier if there are several subsets.

    Notes
    -----
    arXiv 2511.02243, Fig. 10, and what its pooled curve cannot show: whether the law holds inside kinds
    of texts. Memory: the measures.
    """
    found = {name: data.compute() for name, data in material.measures.items()}
    subsets = _there(found[_CURVES["subset"][0]], "subset")
    shown = ("text_tier", "subset" if subsets.size > 1 else "visual_tier")
    cells = found["following_monotone"]
    lines = last_of(cells)
    tall = _TOP + len(lines) * _HIGH + (len(lines) - 1) * _APART + _FOOT
    figure = Figure(figsize=(WIDTH, tall))
    grid = figure.subplots(
        len(lines), 3, squeeze=False,
        gridspec_kw={
            "left": _LEFT / WIDTH, "right": 1 - 0.9 / WIDTH, "top": 1 - _TOP / tall,
            "bottom": _FOOT / tall, "wspace": 0.3, "hspace": _APART / _HIGH,
        },
    )  # fmt: skip
    for number, (row, (line, one)) in enumerate(zip(grid, lines.items(), strict=True)):
        bottom = number == len(lines) - 1
        for axes, stratum in zip(row[:2], shown, strict=True):
            key, title = _CURVES[stratum]
            values = _there(found[key], stratum)
            _curves(axes, last_of(found[key])[line], stratum, values, theme, legend=bottom)
            delta_axis(axes, label=False)
            if bottom:
                axes.set_xlabel(f"ΔH, {title}")
        if len(lines) > 1:
            row[0].set_title(shortened(line, WIDTH - 1.5, size=9))
        row[0].set_ylabel(PREFERENCE, fontsize=8)
        row[1].tick_params(labelleft=False)
        _cells(row[2], one, theme, label=bottom)
    place = grid[0, 2].get_position()
    side = figure.add_axes((1 - 0.76 / WIDTH, place.y0, 0.11 / WIDTH, place.height), label="bar")
    bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), diverging(theme)), cax=side)
    bar.set_label("Spearman", fontsize=8)
    bar.outline.set_visible(False)
    parts = {
        stratum: (
            found[_CURVES[stratum][0]],
            {n: f"{n}_by_{stratum}" for n in ("value", "lower", "upper", "delta", "cases")},
        )
        for stratum in shown
    }
    names = {"value": "spearman", "cases": "spearman_cases"}
    table = last_table({**parts, "cells": (cells, names)})
    return figure, table.assign_attrs(
        steps=shown_steps(cells, material.revisions), signs=_signs(lines)
    )


def _there(data: xr.Dataset, stratum: str) -> np.ndarray:
    """The strata that any checkpoint has cases in."""
    others = [dim for dim in data["cases"].dims if dim != stratum]
    return np.asarray(data[stratum].values[(data["cases"] > 0).any(others).values])


def _curves(
    axes: Axes, one: xr.Dataset, stratum: str, values: np.ndarray, theme: Theme, *, legend: bool
) -> None:
    """Draw a curve a stratum, in the colours of a ramp where strata are ordered."""
    palette = theme.line_colours()
    handles = []
    for index, value in enumerate(values):
        share = index / max(len(values) - 1, 1)
        colour = theme.category(index) if stratum == "subset" else palette(share)
        curve = one.sel({stratum: value})
        kept = curve["cases"].values >= FEWEST
        axes.plot(curve["delta"].values[kept], curve["value"].values[kept], "o-", color=colour)
        handles.append(Line2D([], [], color=colour, marker="o", label=str(value)))
    preference_axis(axes, theme)
    if legend:
        axes.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.27), ncols=4, fontsize=8,
            handlelength=1.0, columnspacing=0.8, labelspacing=0.2, handletextpad=0.3,
        )  # fmt: skip


def _cells(axes: Axes, one: xr.Dataset, theme: Theme, *, label: bool) -> None:
    """Draw the rank correlation of following with ΔH inside every text tier × visual tier."""
    rho = one["value"].where(one["cases"] >= _FEWEST_CELL)
    text, visual = (
        np.flatnonzero((one["cases"] > 0).any(dim).values) for dim in ("visual_tier", "text_tier")
    )
    rho = rho.isel(text_tier=text, visual_tier=visual).transpose("text_tier", "visual_tier")
    axes.pcolormesh(
        np.arange(visual.size + 1) - 0.5, np.arange(text.size + 1) - 0.5, rho.values,
        cmap=diverging(theme), norm=Normalize(-1, 1), rasterized=True,
    )  # fmt: skip
    axes.set_xticks(range(visual.size), [str(int(v)) for v in rho["visual_tier"].values])
    axes.set_yticks(range(text.size), [str(int(v)) for v in rho["text_tier"].values])
    axes.tick_params(labelsize=8)
    axes.grid(False)
    axes.set_ylabel("text tier", labelpad=1)
    if label:
        axes.set_xlabel("visual tier")


def _signs(lines: dict[str, xr.Dataset]) -> str:
    """How many cells have a rank correlation, and in how many it is below 0."""
    found = []
    for line, one in lines.items():
        rho = one["value"].where(one["cases"] >= _FEWEST_CELL).values
        known = np.isfinite(rho)
        found.append(f"{line}: {int((rho[known] < 0).sum())} of {int(known.sum())}")
    return "; ".join(found)


ROW = FigureRow(
    name="modality_strata",
    title="Text-following inside kinds of texts and images",
    function=draw_modality_strata,
    needs=(
        ("following_curve", "by_text_tier"),
        ("following_curve", "by_visual_tier"),
        ("following_curve", "by_subset"),
        ("following_monotone", "by_tiers"),
    ),
    phases=False,
    source="arXiv 2511.02243, figure 10",
    caption=(
        "Share of conflicts solved in both modalities that follow the text against ΔH, {steps}, in five"
        " equal-count bins of each kind of case. Right: Spearman correlation of following with ΔH inside"
        " each text tier × visual tier; a cell where one modality is always followed, or of fewer than 12"
        " cases, is blank. Below 0: {signs}. Inputs: {inputs}."
    ),
    extra=True,
)
