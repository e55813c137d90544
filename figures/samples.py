"""RankMe and α against the number of samples and their length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from figures import axes as shared
from figures.lines import legend_rows, line_looks
from figures.row import FigureRow
from figures.select import Material, at_layer, by_branch, checkpoint_names, has_numbers
from figures.sets import by_length
from figures.style import WIDTH, Theme

_LABELS = {"rankme": "RankMe", "alpha_req": "α-ReQ"}
_HEIGHTS = {"rankme": 2.1, "alpha_req": 1.7}  # inches
_CURVES = 7  # checkpoints drawn of one branch
_BEYOND = 2.2  # where the extrapolated value stands, in numbers of samples


@dataclass(frozen=True)
class _Curve:
    """One checkpoint, as it is drawn and called."""

    checkpoint: str
    label: str
    style: Mapping[str, Any]


def draw_samples(
    material: Material, theme: Theme, *, layer: str | int = "final"
) -> tuple[Figure, xr.Dataset]:
    """Draw RankMe and α against the number of samples (left) and their length in tokens (right).

    Parameters
    ----------
    material : rankme_samples and alpha_req_samples (checkpoint, layer, fraction) and, of every set,
        rankme and alpha_req (checkpoint, layer); optionally rankme+half_sample.
    layer : the layer shown, by name or number.

    Returns
    -------
    The figure and a Dataset: `rankme_by_samples` and `alpha_req_by_samples` (checkpoint, fraction) with
    `samples`, and `rankme_by_length` and `alpha_req_by_length` (checkpoint, length) where there are sets
    of several lengths, each with its bounds; `rankme_extrapolated` and `trusted` (checkpoint) where
    measured.

    Raises
    ------
    ValueError
        If there is no such layer.

    Notes
    -----
    After arXiv 2509.23024, figure 8. One line a checkpoint, up to seven evenly in log tokens; of several
    branches or models, the last of each. α needs more samples than its last rank, so it may begin later,
    or not be drawn. Memory: the measures of one layer.
    """
    by_samples = {m: at_layer(material.measures[f"{m}_samples"], layer).compute() for m in _LABELS}
    lengths = by_length(material)
    by_tokens: dict[str, xr.Dataset] = {}
    if len(lengths) > 1:
        by_tokens = {m: _along_length(lengths, m, layer) for m in _LABELS}
    shown = [m for m in _LABELS if m == "rankme" or has_numbers(by_samples[m]["value"])]
    curves = _curves(by_samples["rankme"], material, theme)
    beyond = material.measures.get("rankme+half_sample")
    extrapolated = None if beyond is None else at_layer(beyond, layer).compute()
    figure, panels = _layout(shown, 2 if by_tokens else 1, [c.label for c in curves])
    for row, measure in enumerate(shown):
        _draw(panels[row][0], by_samples[measure], curves, "samples")
        if by_tokens:
            _draw(panels[row][1], by_tokens[measure], curves, "length")
        for axes in panels[row]:
            _value_axis(axes, measure)
        panels[row][0].set_ylabel(_LABELS[measure])
    if extrapolated is not None:
        _extrapolations(panels[0][0], by_samples["rankme"], extrapolated, curves, theme)
    counts = np.unique(by_samples["rankme"]["samples"].values)
    _count_axis([row[0] for row in panels], counts, "samples", beyond=extrapolated is not None)
    if by_tokens:
        found = by_tokens["rankme"]["length"].values
        _count_axis([row[1] for row in panels], found, "tokens a sample")
    handles = [Line2D([], [], **curve.style, label=curve.label) for curve in curves]
    columns, _ = legend_rows([curve.label for curve in curves])
    figure.legend(handles=handles, loc="lower center", ncols=columns, columnspacing=1.6)
    table = _table(shown, by_samples, by_tokens, extrapolated, curves)
    table.attrs["panels"] = " and ".join(_LABELS[m] for m in shown)
    table.attrs["notes"] = _notes(by_tokens, extrapolated)
    return figure, table


def _along_length(
    lengths: Mapping[int, Mapping[str, xr.Dataset]], measure: str, layer: str | int
) -> xr.Dataset:
    """One measure of sets that differ in length, with the length as a dimension."""
    parts = []
    for own in lengths.values():
        part = at_layer(own[measure], layer).compute()
        parts.append(part[[v for v in ("value", "lower", "upper") if v in part]].drop_attrs())
    label = xr.DataArray(np.array(list(lengths)), dims="length", name="length")
    return xr.concat(parts, label, join="outer", coords="minimal", compat="override")


def _curves(data: xr.Dataset, material: Material, theme: Theme) -> list[_Curve]:
    """Which checkpoints are drawn: of one branch evenly over training, of several the last of each."""
    lines = dict(by_branch(data))
    if len(lines) > 1:
        looks = line_looks([data], theme)
        return [
            _Curve(
                str(part["checkpoint"].values[-1]),
                shared.shortened(f"{line}, {checkpoint_names(part, material.revisions)[-1]}", 3.0),
                looks[line].style,
            )
            for line, part in lines.items()
        ]
    (part,) = lines.values()
    names = checkpoint_names(part, material.revisions)
    seen = np.flatnonzero(part["tokens"].values > 0)
    kept = np.flatnonzero(part["tokens"].values == 0).tolist()
    if seen.size:
        logs = np.log(part["tokens"].values[seen].astype(float))
        wanted = np.linspace(logs[0], logs[-1], _CURVES - len(kept))
        kept += sorted({int(seen[np.argmin(np.abs(logs - place))]) for place in wanted})
    colours, later = theme.line_colours(), [i for i in kept if part["tokens"].values[i] > 0]
    curves = []
    for index in kept:
        style: dict[str, Any] = {"color": theme.muted, "linestyle": (0, (3, 1.5)), "marker": "o"}
        if index in later or len(kept) == 1:
            place = later.index(index) / max(len(later) - 1, 1) if index in later else 0.0
            style = {"color": colours(place), "linestyle": "-", "marker": "o"}
        curves.append(_Curve(str(part["checkpoint"].values[index]), names[index], style))
    return curves


def _layout(
    shown: Sequence[str], columns: int, labels: Sequence[str]
) -> tuple[Figure, list[list[Axes]]]:
    heights = [_HEIGHTS[measure] for measure in shown]
    below, above = 0.6 + 0.19 * legend_rows(labels)[1], 0.12
    tall = sum(heights) + 0.15 * (len(heights) - 1) + below + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        len(shown), columns, figure, left=0.62 / WIDTH, right=1 - 0.12 / WIDTH, wspace=0.08,
        bottom=below / tall, top=1 - above / tall, height_ratios=heights, hspace=0.12,
    )  # fmt: skip
    panels: list[list[Axes]] = []
    for row in range(len(shown)):
        made: list[Axes] = []
        for column in range(columns):
            beside = made[0] if made else None
            over = panels[0][column] if panels else None
            axes = figure.add_subplot(grid[row, column], sharey=beside, sharex=over)
            axes.tick_params(labelleft=column == 0, labelbottom=row == len(shown) - 1)
            made.append(axes)
        panels.append(made)
    return figure, panels


def _draw(axes: Axes, data: xr.Dataset, curves: Sequence[_Curve], along: str) -> None:
    """One line a checkpoint, each number with its interval."""
    for curve in curves:
        if curve.checkpoint not in data["checkpoint"].values:
            continue
        own = data.sel(checkpoint=curve.checkpoint)
        place, value = own[along].values.astype(float), own["value"].values.astype(float)
        axes.plot(place, value, **{**curve.style, "markersize": 3.5, "label": curve.label})
        if {"lower", "upper"} <= set(own.data_vars):
            axes.vlines(place, own["lower"], own["upper"], color=curve.style["color"], lw=1.1)


def _extrapolations(
    axes: Axes,
    data: xr.Dataset,
    beyond: xr.Dataset,
    curves: Sequence[_Curve],
    theme: Theme,
) -> None:
    """The extrapolated value of each checkpoint right of the samples there are; hollow where doubted."""
    for curve in curves:
        own, known = beyond.sel(checkpoint=curve.checkpoint), data.sel(checkpoint=curve.checkpoint)
        last = float(known["samples"].values.max())
        value, colour = float(own["value"]), curve.style["color"]
        trusted = float(own["trusted"]) == 1.0
        whole = float(known["value"].values[np.argmax(known["samples"].values)])
        axes.plot([last, _BEYOND * last], [whole, value], color=colour, linestyle=":", lw=0.9)
        axes.vlines(
            [_BEYOND * last], float(own["lower"]), float(own["upper"]), color=colour, lw=1.1
        )
        axes.plot(
            [_BEYOND * last], [value], color=colour, marker="D", markersize=4,
            markerfacecolor=colour if trusted else theme.page, label=f"_beyond {curve.label}",
        )  # fmt: skip


def _value_axis(axes: Axes, measure: str) -> None:
    if measure == "rankme":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(shared.short_number))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _count_axis(
    panels: Sequence[Axes], counts: np.ndarray, label: str, *, beyond: bool = False
) -> None:
    """A log axis with ticks at the counts there are, and one for infinitely many."""
    places = [float(count) for count in counts]
    names = [f"{int(count):,}" for count in counts]
    if beyond:
        places.append(_BEYOND * places[-1])
        names.append("∞")
    for axes in panels:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: names[int(np.argmin(np.abs(np.array(places) - value)))])
        )
    panels[-1].set_xlabel(label)


def _notes(by_tokens: Mapping[str, xr.Dataset], extrapolated: xr.Dataset | None) -> str:
    told = ""
    if by_tokens:
        lengths = ", ".join(str(int(n)) for n in by_tokens["rankme"]["length"].values)
        told += f"Right: all samples of sets of the same text at {lengths} tokens. "
    if extrapolated is not None:
        told += (
            "Diamonds: RankMe extrapolated to infinitely many samples from halves; hollow where its"
            " diagnostic says not to trust it. "
        )
    return told


def _table(
    shown: Sequence[str],
    by_samples: Mapping[str, xr.Dataset],
    by_tokens: Mapping[str, xr.Dataset],
    extrapolated: xr.Dataset | None,
    curves: Sequence[_Curve],
) -> xr.Dataset:
    labels = [curve.checkpoint for curve in curves]
    parts = []
    for measure in shown:
        for how, source in (("samples", by_samples), ("length", by_tokens)):
            if measure in source:
                data = source[measure]
                there = data.isel(checkpoint=np.isin(data["checkpoint"].values, labels))
                parts.append(_renamed(there, f"{measure}_by_{how}", by_samples[measure]))
    counts = by_samples["rankme"][["samples"]].sel(checkpoint=labels).drop_attrs()
    counts["samples"].attrs = {"units": "samples"}
    parts.append(counts)
    if extrapolated is not None:
        own = extrapolated.sel(checkpoint=labels)
        parts.append(_renamed(own, "rankme_extrapolated", extrapolated))
        trusted = own[["trusted"]].drop_attrs()
        trusted["trusted"].attrs = {"units": "1 is yes"}
        parts.append(trusted)
    parts = [p.drop_vars(["layer", "layer_name", "depth"], errors="ignore") for p in parts]
    return xr.merge(parts, join="outer", compat="override").sel(checkpoint=labels)


def _renamed(data: xr.Dataset, name: str, described: xr.Dataset) -> xr.Dataset:
    kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
    table = data[kept].rename({v: name if v == "value" else f"{name}_{v}" for v in kept})
    for variable in table.data_vars.values():
        variable.attrs = {"units": str(described.attrs.get("unit", "1"))}
    return table.drop_attrs(deep=False)


ROW = FigureRow(
    name="samples",
    title="Number of samples and their length",
    function=draw_samples,
    needs=(
        ("rankme_samples", "li2025"),
        ("alpha_req_samples", "li2025"),
        ("rankme", "li2025"),
        ("alpha_req", "li2025"),
    ),
    phases=False,
    source="arXiv 2509.23024, figure 8",
    caption=(
        "{panels} of layer {layer}, one line a checkpoint, against the number of samples: nested parts"
        " of the same samples. {notes}Bars: {level} intervals ({interval}). Inputs: {inputs}."
    ),
    optional=(("rankme", "li2025+half_sample"),),
    every_set=("rankme", "alpha_req"),
)
