"""Predictive geometry over training: effective numbers, and how layers line up with predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures import axes as shared
from figures.lines import step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    at_layer,
    branches,
    by_branch,
    layer_names,
    merge_tables,
    require_series,
)
from figures.style import WIDTH, Theme

_NUMBERS = {
    "rankme": "final states\n(RankMe)",
    "fisher_rankme": "Fisher metric\n(RankMe)",
    "effective_predictions": "predictions\n(different ones)",
}
_BY_LAYER = {
    "prediction_cka": "CKA with\npredictions",
    "dirichlet_energy": "Dirichlet energy\n(relative)",
}
_HEIGHTS = (1.45, 1.25, 1.25)  # inches of the three panels of a branch
_TITLE = 0.34  # inches above a branch's panels for its name
_LEGEND = 1.3  # inches on the right
_NAMED = 7  # layers that a legend names


def draw_predictive(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw, for each branch, effective numbers, CKA with predictions and Dirichlet energy by layer.

    Parameters
    ----------
    material : rankme (checkpoint, layer), fisher_rankme (checkpoint, pool), effective_predictions
        (checkpoint), prediction_cka and dirichlet_energy (checkpoint, layer).

    Returns
    -------
    The figure and a Dataset of the five curves, with intervals where there are any. Of the Fisher
    metric pool `last` is drawn, or the only other one.

    Raises
    ------
    TooFewCheckpoints
        If no branch has two checkpoints.

    Notes
    -----
    Memory: the measures. Colours of layers run from the embedding (dark on light) to the final layer.
    """
    require_series(material.measures["rankme"])
    numbers = {name: _one(material.measures[name]) for name in _NUMBERS}
    layered = {name: material.measures[name].compute() for name in _BY_LAYER}
    shown = {**numbers, **layered}
    lines = branches(numbers["rankme"])
    parts = {name: dict(by_branch(data)) for name, data in shown.items()}
    lines = [line for line in lines if all(line in part for part in parts.values())]
    figure, panels = _layout(len(lines), zero=_from_zero(shown))
    for number, line in enumerate(lines):
        own = panels[3 * number : 3 * number + 3]
        _numbers(own[0], {name: parts[name][line] for name in _NUMBERS}, theme)
        for panel, name in zip(own[1:], _BY_LAYER, strict=True):
            _layers(panel, parts[name][line], name, theme, legend=panel is own[1])
        if len(lines) > 1:
            _title(figure, own[0], line, first=number == 0)
    tokens = np.concatenate([data["tokens"].values for data in shown.values()]).astype(float)
    shared.token_axis(panels, tokens)
    label, first = step_axis_of(numbers["rankme"])
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(panels[0], steps, seen, label=label)
    return figure, _table(shown)


def _one(data: xr.Dataset) -> xr.Dataset:
    """The final layer of what has layers, the last tokens of what has pools."""
    if "pool" in data.dims:
        pools = data["pool"].values.astype(str).tolist()
        data = data.isel(pool=pools.index("last") if "last" in pools else 0, drop=True)
    data = at_layer(data, "final").compute()
    return data.drop_vars(["layer", "layer_name", "depth"], errors="ignore")


def _from_zero(shown: Mapping[str, xr.Dataset]) -> bool:
    return any(bool((data["tokens"].values == 0).any()) for data in shown.values())


def _layout(blocks: int, *, zero: bool) -> tuple[Figure, list[shared.Panel]]:
    """Three panels a branch; more room above each but the first, where its name stands."""
    below, above = 0.5, 0.55 + (_TITLE if blocks > 1 else 0)
    spaces = [0.0, 0.16, 0.16] + [_TITLE + 0.1, 0.16, 0.16] * (blocks - 1)
    heights = list(_HEIGHTS) * blocks
    tall = sum(heights) + sum(spaces) + below + above
    figure = Figure(figsize=(WIDTH, tall))
    # One grid without gaps, then each panel at its own place: gaps of a grid are all alike.
    grid = GridSpec(
        1, 1, figure, left=0.82 / WIDTH, right=1 - _LEGEND / WIDTH,
        bottom=below / tall, top=1 - above / tall,
    )  # fmt: skip
    panels = shared.stacked_panels(figure, grid[0], heights, zero=zero)
    top = tall - above
    for panel, height, space in zip(panels, heights, spaces, strict=True):
        top -= space
        for axes in panel.all:
            place = axes.get_position()
            axes.set_position((place.x0, (top - height) / tall, place.width, height / tall))
        top -= height
    return figure, panels


def _numbers(panel: shared.Panel, parts: Mapping[str, xr.Dataset], theme: Theme) -> None:
    """Draw the effective numbers of one branch on a log axis."""
    handles = []
    for index, (name, part) in enumerate(parts.items()):
        style: dict[str, Any] = {"color": theme.category(index), "marker": "osD"[index]}
        shared.draw_curve(panel, part, style, name)
        handles.append(Line2D([], [], label=_NUMBERS[name], **style))
    panel.left.set_ylabel("effective\nnumber")
    for axes in panel.all:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(shared.short_number))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(panel, handles)


def _layers(
    panel: shared.Panel, part: xr.Dataset, name: str, theme: Theme, *, legend: bool
) -> None:
    """Draw one line a layer; the final one thicker."""
    names = layer_names(part)
    colours = theme.line_colours()
    named = np.unique(np.round(np.linspace(0, len(names) - 1, _NAMED)).astype(int))
    handles = []
    for index in reversed(range(len(names))):
        # A layer's place from the embedding up, whatever the depth of the model.
        colour = colours(index / max(len(names) - 1, 1))
        final = names[index] == "final"
        # Marks of size 0 are seen at step 0 alone, where there is no line.
        style: dict[str, Any] = {
            "color": colour, "marker": "o", "markersize": 3 if final else 0,
            "linewidth": 1.8 if final else 1.1,
        }  # fmt: skip
        shared.draw_curve(panel, part.isel(layer=index), style, f"layer {names[index]}")
        if index in named:
            handles.append(Line2D([], [], label=names[index], **style))
    panel.left.set_ylabel(_BY_LAYER[name])
    if name == "dirichlet_energy":
        for axes in panel.all:
            axes.axhline(1.0, color=theme.muted, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    if legend:
        _legend(panel, handles, title="layer")


def _legend(panel: shared.Panel, handles: list[Line2D], title: str | None = None) -> None:
    panel.log.legend(
        handles=handles, title=title, title_fontsize=8, loc="upper left",
        bbox_to_anchor=(1.01, 1.03), borderaxespad=0, handlelength=1.4, labelspacing=0.35,
        alignment="left",
    )  # fmt: skip


def _title(figure: Figure, panel: shared.Panel, name: str, *, first: bool) -> None:
    """Write a branch's name above its panels; above the steps, where they are."""
    place, tall = panel.left.get_position(), figure.get_figheight()
    figure.text(
        place.x0, place.y1 + (0.55 if first else 0.1) / tall,
        shared.shortened(name, WIDTH - 0.82 - 0.1, size=9), fontsize=9,
    )  # fmt: skip


def _table(shown: Mapping[str, xr.Dataset]) -> xr.Dataset:
    parts = []
    for name, data in shown.items():
        kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
        part = data[kept].rename({v: name if v == "value" else f"{name}_{v}" for v in kept})
        for variable in part.data_vars.values():
            variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(part)
    return merge_tables(parts)


ROW = FigureRow(
    name="predictive",
    title="Predictive geometry",
    function=draw_predictive,
    needs=(
        ("rankme", "li2025"),
        ("fisher_rankme", "li2025"),
        ("effective_predictions", "von_neumann"),
        ("prediction_cka", "debiased"),
        ("dirichlet_energy", "relative"),
    ),
    phases=False,
    source="after arXiv 2507.19247, sections 6 and 7, which has no figures",
    caption=(
        "Above: how many directions the final states fill, how many the mean pullback Fisher metric"
        " has (the steps in hidden space that change predictions), and how many different predictions"
        " there are (exponential of the von Neumann entropy of their Bhattacharyya kernel). Middle:"
        " debiased CKA of each layer with that kernel, over the same contexts. Below: the kernel's mean"
        " over pairs of contexts weighted by their squared distance in a layer, over its plain mean:"
        " below 1 (dotted), contexts that predict alike lie close. Bands: {level} intervals of the"
        " first two, probe noise of one run. Inputs: {inputs}."
    ),
    extra=True,
)
