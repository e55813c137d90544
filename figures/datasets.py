"""RankMe and α of one model on several sets of inputs, over training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures import axes as shared
from figures.lines import Look, legend_rows, line_legend, step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    TooFewSets,
    at_layer,
    branches,
    by_branch,
    has_numbers,
    require_series,
)
from figures.sets import one_a_text
from figures.style import WIDTH, Theme

_MEASURES = {"rankme": "RankMe", "alpha_req": "α-ReQ"}
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_MARKERS = "os^Dv"
_HEIGHTS = (1.9, 1.5)  # inches


def draw_datasets(
    material: Material, theme: Theme, *, layer: str | int = "final"
) -> tuple[Figure, xr.Dataset]:
    """Draw RankMe and α against tokens, one line a set of inputs.

    Parameters
    ----------
    material : rankme and alpha_req (checkpoint, layer) of every set.
    layer : the layer shown, by name or number.

    Returns
    -------
    The figure and a Dataset with `rankme`, `alpha_req` and their bounds (set, checkpoint). α is left
    out where it is NaN everywhere.

    Raises
    ------
    TooFewSets
        If there are not two sets of different texts.
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If there is no such layer.

    Notes
    -----
    After arXiv 2509.23024, figures 9 and 10. A set has a colour and a mark; branches of it, or models of
    a study, differ in dashes. Memory: the layer's numbers of every set.
    """
    texts = one_a_text(material)
    if len(texts) < 2:
        raise TooFewSets(f"the figure compares sets of inputs; there is {', '.join(texts)} only")
    require_series(material.measures["rankme"])
    found = {
        measure: {name: at_layer(own[measure], layer).compute() for name, own in texts.items()}
        for measure in _MEASURES
    }
    shown = {
        measure: parts
        for measure, parts in found.items()
        if measure == "rankme" or any(has_numbers(data["value"]) for data in parts.values())
    }
    looks = _looks(found["rankme"], theme)
    labels = {key: key for key in looks}
    _, rows = legend_rows(list(labels))
    heights = _HEIGHTS[: len(shown)]
    below, above = 0.6 + 0.19 * rows, 0.5
    tall = sum(heights) * 1.1 + below + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=0.62 / WIDTH, right=1 - 0.12 / WIDTH,
        bottom=below / tall, top=1 - above / tall,
    )  # fmt: skip
    every = [data for parts in shown.values() for data in parts.values()]
    tokens = np.concatenate([data["tokens"].values for data in every]).astype(float)
    panels = shared.stacked_panels(figure, grid[0], heights, zero=bool((tokens == 0).any()))
    for panel, (measure, parts) in zip(panels, shown.items(), strict=True):
        for name, data in parts.items():
            for branch, part in by_branch(data):
                label = _label(name, branch, data)
                shared.draw_curve(panel, part, looks[label].style, label)
        _value_axis(panel, measure)
    shared.token_axis(panels, tokens)
    title, first = step_axis_of(every[0])
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(panels[0], steps, seen, label=title)
    line_legend(figure, looks, labels)
    table = _table(shown)
    table.attrs["panels"] = " and ".join(_MEASURES[measure] for measure in shown)
    table.attrs["told"] = "; ".join(
        f"{name}: {own['rankme'].attrs.get('inputs', 'not described')}"
        for name, own in texts.items()
    )
    return figure, table


def _looks(parts: Mapping[str, xr.Dataset], theme: Theme) -> dict[str, Look]:
    looks: dict[str, Look] = {}
    for number, (name, data) in enumerate(parts.items()):
        base = Look(theme.category(number), marker=_MARKERS[number % len(_MARKERS)])
        for index, branch in enumerate(branches(data)):
            dashes = _DASHES[index % len(_DASHES)]
            looks[_label(name, branch, data)] = replace(base, dashes=dashes)
    return looks


def _label(name: str, branch: str, data: xr.Dataset) -> str:
    return name if len(branches(data)) == 1 else f"{name}, {branch}"


def _value_axis(panel: shared.Panel, measure: str) -> None:
    panel.left.set_ylabel(_MEASURES[measure])
    if measure == "rankme":
        for axes in panel.all:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(shared.short_number))
            axes.yaxis.set_minor_formatter(NullFormatter())


def _table(shown: Mapping[str, Mapping[str, xr.Dataset]]) -> xr.Dataset:
    """Return what is drawn, with the set of inputs as a dimension."""
    columns = []
    for measure, parts in shown.items():
        rows = []
        for data in parts.values():
            kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
            names = {v: measure if v == "value" else f"{measure}_{v}" for v in kept}
            row = data[kept].rename(names).drop_attrs()
            rows.append(row.drop_vars(["layer", "layer_name", "depth"], errors="ignore"))
        label = xr.DataArray(np.array(list(parts)), dims="set", name="set")
        table = xr.concat(rows, label, join="outer", coords="minimal", compat="override")
        for variable in table.data_vars.values():
            variable.attrs = {"units": str(next(iter(parts.values())).attrs.get("unit", "1"))}
        columns.append(table)
    return xr.merge(columns, join="outer", compat="override")


ROW = FigureRow(
    name="datasets",
    title="Sets of inputs",
    function=draw_datasets,
    needs=(("rankme", "li2025"), ("alpha_req", "li2025")),
    phases=False,
    source="arXiv 2509.23024, figures 9 and 10",
    caption=(
        "{panels} of layer {layer} against tokens, one line a set of inputs (log axis; step 0 left of"
        " the break). Bands: {level} intervals ({interval}). Levels compare only between sets of the"
        " same N/d. {told}."
    ),
    every_set=("rankme", "alpha_req"),
    extra=True,
)
