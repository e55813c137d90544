"""The chart of emergence: a row a class, in it each line's step with its interval, and their range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from figures import axes as shared
from figures.style import Theme

_SUB, _BETWEEN = 0.13, 0.12  # inches: of a line in a class's row, and around a row


def chart_height(steps: xr.Dataset) -> float:
    """Inches of the whole chart."""
    return steps.sizes["word_class"] * _row_height(steps)


def _row_height(steps: xr.Dataset) -> float:
    return (steps.sizes["training_line"] + len(groups_of(steps))) * _SUB + _BETWEEN


def groups_of(steps: xr.Dataset) -> dict[str, list[str]]:
    """Lines of each model, if it has several: what a spread is of."""
    found: dict[str, list[str]] = {}
    for line, model in zip(
        steps["training_line"].values.astype(str),
        steps["line_model"].values.astype(str),
        strict=True,
    ):
        found.setdefault(model, []).append(line)
    return {model: own for model, own in found.items() if len(own) > 1}


def draw_chart(
    panel: shared.Panel,
    steps: xr.Dataset,
    lines: Mapping[str, xr.Dataset],
    looks: Mapping[str, Mapping[str, Any]],
    styles: Mapping[str, Mapping[str, Any]],
    order: list[str],
    theme: Theme,
) -> None:
    """A row a class, in it a line a mark with its interval, and below them their spread."""
    groups = groups_of(steps)
    high = _row_height(steps)
    last = panel.log.get_xlim()[1]
    for number, name in enumerate(order):
        top = number * high + _BETWEEN / 2
        for row, (line, part) in enumerate(lines.items()):
            one = steps.sel(training_line=line, word_class=name)
            height = top + (row + 0.5) * _SUB
            if one["separated"] == 1:
                style = {"color": styles[name]["color"], "marker": looks[line]["marker"]}
                _mark(panel, one, part["tokens"].values.astype(float), height, style, last)
            else:
                said = "no rise seen" if one["separated"] == 0 else "not measured"
                panel.log.text(
                    0.99, height, said, fontsize=8, color=theme.muted, ha="right",
                    va="center_baseline", transform=panel.log.get_yaxis_transform(),
                )  # fmt: skip
        for row, own in enumerate(groups.values()):
            height = top + (len(lines) + row + 0.5) * _SUB
            _spread(panel, steps.sel(training_line=own, word_class=name), lines, height, theme)
        rise = steps["rise"].sel(word_class=name).values
        told = f"{np.nanmedian(rise):+.2f}" if np.isfinite(rise).any() else ""
        panel.log.text(
            1.02, (number + 0.5) * high, told, transform=panel.log.get_yaxis_transform(),
            fontsize=8, va="center_baseline",
        )  # fmt: skip
        if number:
            for axes in panel.all:
                axes.axhline(number * high, color=theme.faint, lw=0.6)
    panel.log.text(
        1.02, 1.0, "rise", transform=panel.log.transAxes, fontsize=8, va="bottom", color=theme.muted
    )
    panel.left.set_yticks([(i + 0.5) * high for i in range(len(order))], order)
    panel.log.set_ylim(len(order) * high, 0)
    for axes in panel.all:
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)


def _mark(
    panel: shared.Panel,
    one: xr.Dataset,
    tokens: np.ndarray,
    height: float,
    style: Mapping[str, Any],
    last: float,
) -> None:
    """Mark the first checkpoint, and draw its interval; it may begin at step 0 or have no end."""
    first, low, high = (float(one[f"{end}_row"]) for end in ("first", "lower", "upper"))
    ends = [tokens[int(row)] if row < tokens.size else last for row in (low, high)]
    _line(panel, ends[0], ends[1], height, color=style["color"], lw=1.3)
    if high >= tokens.size:
        panel.log.plot(
            [last], [height], ">", color=style["color"], markersize=3.5, clip_on=False,
            label="_open",
        )  # fmt: skip
    where = tokens[int(first)]
    axes = panel.log if where > 0 or panel.zero is None else panel.zero
    axes.plot(
        [where], [height], linestyle="none", markersize=4.5, label="_first", clip_on=False,
        zorder=3, **style,
    )  # fmt: skip


def _line(panel: shared.Panel, low: float, high: float, height: float, **style: Any) -> None:
    """Draw an interval of tokens across the break, where it begins at step 0."""
    if low <= 0 and panel.zero is not None:
        panel.zero.plot([0, min(high, 1)], [height] * 2, label="_interval", **style)
    if high > 0:
        start = max(low, panel.log.get_xlim()[0])
        panel.log.plot([start, high], [height] * 2, label="_interval", **style)


def _spread(
    panel: shared.Panel,
    own: xr.Dataset,
    lines: Mapping[str, xr.Dataset],
    height: float,
    theme: Theme,
) -> None:
    """Draw the range of the lines' marks as a bar, and their median as a stroke."""
    rows = own["first_row"].values
    names = own["training_line"].values.astype(str)
    found = [
        float(lines[name]["tokens"].values[int(row)])
        for name, row in zip(names, rows, strict=True)
        if np.isfinite(row)
    ]
    if len(found) < 2:
        return
    _line(
        panel, min(found), max(found), height, color=theme.muted, lw=3.2, alpha=0.75,
        solid_capstyle="butt",
    )  # fmt: skip
    panel.log.plot(
        [float(np.median(found))],
        [height],
        "|",
        color=theme.ink,
        markersize=7,
        mew=1.6,
        label="_median",
    )
