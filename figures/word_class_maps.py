"""Maps of hidden states in two dimensions, each point in the colour of its word class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import axes as shared
from figures.row import FigureRow
from figures.select import Material, checkpoint_names, is_study, layer_names
from figures.style import WIDTH, Theme
from figures.word_class_parts import (
    class_key,
    class_styles,
    layer_title,
    present_classes,
    shown_layers,
    shown_lines,
    spread_rows,
)

_LEFT, _RIGHT, _GAP = 0.42, 0.1, 0.1  # inches
_ROWS, _STUDY_ROWS, _FEW = (
    4,
    2,
    4,
)  # checkpoints of one line; of each of a study's few; how many are few
_METHODS = {
    "classical": "classical multidimensional scaling (principal coordinates)",
    "smacof": "metric multidimensional scaling by SMACOF",
    "tsne": "t-SNE",
}


def draw_word_class_maps(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw a map a layer (across) and checkpoint (down), coloured by the class of the word to come.

    Parameters
    ----------
    material : word_class_map (checkpoint, layer, word_class, member, axis): `value` the places and
        `stress`, one number a map; NaN where a set has no such class or fewer members.

    Returns
    -------
    The figure and a Dataset: `place` (checkpoint, layer, word_class, member, axis) and `stress`
    (checkpoint, layer) of what is drawn.

    Raises
    ------
    ValueError
        If every map is NaN.

    Notes
    -----
    Shown are the first layer, the one in the middle, the last block and the states after the final
    norm, of the first branch, or of every line of a study, the last checkpoint alone if those are more
    than four. Every map has its own axes: distances within a map mean something, and places across maps
    do not. Memory: the maps drawn.
    """
    data = material.measures["word_class_map"]
    lines = shown_lines(data)
    most = _ROWS if not is_study(data) else _STUDY_ROWS if len(lines) <= _FEW else 1
    chosen: list[tuple[str, str, xr.Dataset]] = []
    for line, part in lines:
        names = checkpoint_names(part, material.revisions)
        for row in spread_rows(part, most):
            one = part.isel(checkpoint=[row], layer=shown_layers(part)).compute()
            chosen.append((line, names[row], one))
    if not any(np.isfinite(one["value"].values).any() for *_, one in chosen):
        raise ValueError("word_class_map is NaN at every checkpoint; there is nothing to draw")
    classes = list(dict.fromkeys(name for *_, one in chosen for name in present_classes(one.value)))
    styles = class_styles(classes, theme)
    figure = _draw(chosen, styles, theme, study=is_study(data))
    return figure, _table([one for *_, one in chosen], classes, data)


def _draw(
    chosen: Sequence[tuple[str, str, xr.Dataset]],
    styles: dict[str, dict[str, Any]],
    theme: Theme,
    *,
    study: bool,
) -> Figure:
    """Lay the maps out, a row a checkpoint; of a study each with its model's name above."""
    columns = max(one.sizes["layer"] for *_, one in chosen)
    side = min((WIDTH - _LEFT - _RIGHT - _GAP * (columns - 1)) / columns, 2.2)
    titles = [0.24 + 0.22 * (study and line != before) for line, before in _with_last(chosen)]
    if not study:
        titles = [0.24, *[0.0] * (len(chosen) - 1)]
    legend = 0.3 + 0.17 * (len(styles) > 6)
    tall = sum(titles) + len(chosen) * (side + _GAP) + legend + 0.05
    figure = Figure(figsize=(WIDTH, tall))
    top = tall - 0.05
    for number, ((line, name, one), above) in enumerate(zip(chosen, titles, strict=True)):
        if above > 0.3:
            figure.text(
                _LEFT / WIDTH, (top - 0.16) / tall, shared.shortened(line, WIDTH - 0.6, size=9),
                fontsize=9, weight="bold",
            )  # fmt: skip
        top -= above + side
        names = layer_names(one)
        for column in range(one.sizes["layer"]):
            left = _LEFT + column * (side + _GAP)
            axes = figure.add_axes(
                (left / WIDTH, top / tall, side / WIDTH, side / tall),
                label=f"map {number} {column}",
            )
            _map(axes, one.isel(checkpoint=0, layer=column), styles, theme)
            if above:
                axes.set_title(layer_title(names[column]))
            if column == 0:
                axes.set_ylabel(shared.shortened(name, side, size=9))
        top -= _GAP
    figure.legend(
        handles=class_key(styles), loc="lower center", ncols=min(len(styles), 6),
        columnspacing=1.4, handletextpad=0.3,
    )  # fmt: skip
    return figure


def _with_last(chosen: Sequence[tuple[str, str, xr.Dataset]]) -> list[tuple[str, str]]:
    lines = [line for line, *_ in chosen]
    return list(zip(lines, ["", *lines[:-1]], strict=True))


def _map(axes: Axes, one: xr.Dataset, styles: dict[str, dict[str, Any]], theme: Theme) -> None:
    """Draw the points of one layer; square, and as far out as its farthest point."""
    place = one["value"].transpose("word_class", "member", "axis")
    size = 3.2 if place.sizes["member"] <= 40 else 2.4
    for name, style in styles.items():
        x, y = place.sel(word_class=name).values.T[:2]
        axes.plot(
            x, y, linestyle="none", markersize=size, mew=0, alpha=0.75, **style, label=f"_{name}"
        )
    far = float(np.nanmax(np.abs(place.values), initial=0.0)) * 1.06 or 1.0
    axes.set_xlim(-far, far)
    axes.set_ylim(-far, far)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(True)
    stress = float(one["stress"].max())
    if np.isfinite(stress):
        axes.text(
            0.97, 0.02, f"stress {stress:.2f}", transform=axes.transAxes, ha="right", va="bottom",
            fontsize=8, color=theme.ink,
            bbox={"facecolor": theme.page, "alpha": 0.7, "pad": 1, "edgecolor": "none"},
        )  # fmt: skip


def _table(parts: Sequence[xr.Dataset], classes: list[str], data: xr.Dataset) -> xr.Dataset:
    kept = [one[["value", "stress"]].sel(word_class=classes).drop_attrs() for one in parts]
    whole = xr.concat(kept, "checkpoint", join="outer", coords="minimal", compat="override")
    table = whole[["value"]].rename(value="place")
    # One number a map: the row repeats it for every point.
    table["stress"] = whole["stress"].max(["word_class", "member", "axis"])
    table["place"].attrs = {"units": str(data.attrs.get("unit", "activation"))}
    table["stress"].attrs = {"units": "1"}
    convention = str(data.attrs.get("convention", ""))
    table.attrs["method"] = _METHODS.get(convention, convention or "not stated")
    table.attrs["points"] = str(whole.sizes["member"])
    table.attrs["shown"] = "each line" if is_study(data) else "the first branch"
    return table


ROW = FigureRow(
    name="word_class_maps",
    title="Maps of word classes",
    function=draw_word_class_maps,
    needs=(("word_class_map", "classical"),),
    phases=False,
    source="in the style of arXiv 2302.07588, of which the abstract alone could be read",
    caption=(
        "Hidden states at the last of nine words, in the plane, by {method}; at most {points} points a"
        " class, evenly spaced through the set, the same in every map. Colour and mark: the class of the"
        " tenth word, which the model has not seen. Columns: layers; rows: checkpoints of {shown}."
        " Stress: Kruskal's stress-1 of the map; from about 0.2 the plane shows the distances badly."
        " Every map has its own axes and scale. Inputs: {inputs}."
    ),
    extra=True,
)
