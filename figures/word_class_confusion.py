"""Clusters found without labels against word classes, early in training and late."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from figures import axes as shared
from figures.row import FigureRow
from figures.select import Material, at_layer, by_branch, checkpoint_names
from figures.style import WIDTH, Theme
from figures.word_class_parts import present_classes

_LEFT, _RIGHT, _GAP = 0.72, 0.85, 0.14  # inches
_WIDEST = 2.5
_LEAST_TOP = 0.5  # of the colours: shares of chance shall not look bright
_WRITTEN = 10  # classes up to which shares are written into the cells


def draw_word_class_confusion(
    material: Material, theme: Theme, *, layer: str | int = "final"
) -> tuple[Figure, xr.Dataset]:
    """Draw the share of each class in each cluster, at the first checkpoint and the last of each line.

    Parameters
    ----------
    material : word_class_confusion (checkpoint, layer, word_class, cluster), clusters matched to the
        classes of the same name.
    layer : the layer shown, by name or number.

    Returns
    -------
    The figure and a Dataset: `share` (checkpoint, word_class, cluster), each class's shares summing to
    1, and `agreement` (checkpoint), the mean share in the clusters matched.

    Raises
    ------
    ValueError
        If there is no such layer, or every value is NaN.

    Notes
    -----
    A row a line of training. Memory: the measure at one layer.
    """
    data = at_layer(material.measures["word_class_confusion"], layer).compute()
    classes = present_classes(data["value"].max("cluster"))
    if not classes:
        raise ValueError(
            "word_class_confusion is NaN at every checkpoint; there is nothing to draw"
        )
    rows = []
    for line, part in by_branch(data):
        names = checkpoint_names(part, material.revisions)
        ends = list(dict.fromkeys([0, part.sizes["checkpoint"] - 1]))
        rows.append((line, [names[i] for i in ends], _shares(part.isel(checkpoint=ends), classes)))
    figure = _draw(rows, theme)
    return figure, _table([share for *_, share in rows], classes)


def _shares(part: xr.Dataset, classes: Sequence[str]) -> xr.DataArray:
    """Each class's samples by cluster, as shares; only clusters there are, matched ones first."""
    value = part["value"].sel(word_class=list(classes))
    value = value.transpose("checkpoint", "word_class", "cluster")
    names = value["cluster"].values
    there = np.isfinite(value.values).reshape(-1, names.size).any(axis=0)
    value = value.isel(cluster=np.flatnonzero(there))
    total = value.sum("cluster")
    return value / total.where(total > 0)


def _draw(rows: Sequence[tuple[str, list[str], xr.DataArray]], theme: Theme) -> Figure:
    columns = max(len(names) for _, names, _ in rows)
    side = min((WIDTH - _LEFT - _RIGHT - _GAP * (columns - 1)) / columns, _WIDEST)
    named = len(rows) > 1
    above = 0.24 + 0.22 * named
    tall = len(rows) * (side + above) + 0.75
    figure = Figure(figsize=(WIDTH, tall))
    top = tall - 0.05
    norm = Normalize(0, max(_LEAST_TOP, *(float(share.max()) for *_, share in rows)))
    for number, (line, names, share) in enumerate(rows):
        if named:
            figure.text(
                _LEFT / WIDTH, (top - 0.16) / tall, shared.shortened(line, WIDTH - 1.0, size=9),
                fontsize=9, weight="bold",
            )  # fmt: skip
        top -= above + side
        for column, name in enumerate(names):
            left = _LEFT + column * (side + _GAP)
            axes = figure.add_axes(
                (left / WIDTH, top / tall, side / WIDTH, side / tall),
                label=f"confusion {number} {column}",
            )
            _cells(axes, share.isel(checkpoint=column), norm, theme)
            axes.set_title(name)
            axes.tick_params(labelleft=column == 0, labelbottom=number == len(rows) - 1)
            if column == 0:
                axes.set_ylabel("class")
    last = _LEFT + columns * (side + _GAP) - _GAP
    bar = figure.add_axes(
        ((last + 0.13) / WIDTH, top / tall, 0.13 / WIDTH, side / tall), label="bar"
    )
    made = figure.colorbar(ScalarMappable(norm, theme.heat_colours()), cax=bar)
    made.set_label("share of the class")
    made.outline.set_visible(False)
    figure.text(
        (_LEFT + last) / 2 / WIDTH, 0.05 / tall, "cluster, matched to a class", ha="center",
        fontsize=9,
    )  # fmt: skip
    return figure


def _cells(axes: Axes, share: xr.DataArray, norm: Normalize, theme: Theme) -> None:
    values = share.values
    high, wide = values.shape
    colours = theme.heat_colours()
    axes.pcolormesh(
        np.arange(wide + 1) - 0.5, np.arange(high + 1) - 0.5, values, norm=norm, cmap=colours,
        rasterized=True,
    )  # fmt: skip
    if high <= _WRITTEN:
        for (row, column), value in np.ndenumerate(values):
            if value >= 0.05:
                dark = sum(colours(norm(value))[:3]) < 1.4
                axes.text(
                    column, row, f"{100 * value:.0f}", ha="center", va="center_baseline",
                    fontsize=8, color="#ffffff" if dark else "#000000",
                )  # fmt: skip
    axes.set_xticks(range(wide), [str(name) for name in share["cluster"].values], rotation=90)
    axes.set_yticks(range(high), [str(name) for name in share["word_class"].values])
    axes.set_ylim(high - 0.5, -0.5)
    axes.grid(False)
    axes.tick_params(length=0)


def _table(parts: Sequence[xr.DataArray], classes: Sequence[str]) -> xr.Dataset:
    share = xr.concat(
        parts, "checkpoint", join="outer", coords="minimal", compat="override"
    ).drop_vars(["layer", "layer_name", "depth"], errors="ignore")
    table = share.to_dataset(name="share").drop_attrs()
    matched = [
        share.sel(word_class=n, cluster=n, drop=True) for n in classes if n in share["cluster"]
    ]
    table["agreement"] = sum(matched) / len(matched) if matched else share.mean() * np.nan
    table["share"].attrs = {"units": "share of the class"}
    table["agreement"].attrs = {"units": "1"}
    told = [
        f"{name} {float(value):.2f}"
        for name, value in zip(
            [str(label) for label in table["checkpoint"].values],
            np.atleast_1d(table["agreement"].values),
            strict=True,
        )
    ]
    table.attrs["told"] = ", ".join(told)
    return table


ROW = FigureRow(
    name="word_class_confusion",
    title="Clusters and word classes",
    function=draw_word_class_confusion,
    needs=(("word_class_confusion", "kmeans"),),
    phases=False,
    source="in the style of arXiv 2302.07588; unsupervised recovery as in arXiv 2605.24585",
    caption=(
        "k-means, which sees no labels, with as many clusters as classes, on layer {layer} at the first"
        " checkpoint and the last. Cells: the share of a class's samples (in percent from 5) in each"
        " cluster; a cluster has the name of the class it is matched to, so that the sum on the diagonal"
        " is largest, which is above chance by itself. Mean on the diagonal: {told}. Inputs: {inputs}."
    ),
    extra=True,
)
