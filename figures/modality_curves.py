"""Text-following against relative uncertainty, with balance points, whole and by total entropy."""

from __future__ import annotations

from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.axes import shortened
from figures.lines import line_looks
from figures.modality_panels import (
    PREFERENCE,
    delta_axis,
    draw_logistic,
    draw_points,
    foot_legend,
    last_of,
    last_table,
    preference_axis,
    shown_steps,
    told,
)
from figures.row import FigureRow
from figures.select import Material
from figures.style import WIDTH, Theme

_ACROSS = 3
_LEFT, _RIGHT, _TOP, _FOOT = 0.55, 0.12, 0.3, 1.0  # inches
_MAIN, _SMALL, _BETWEEN, _ROWS_APART = 2.3, 1.45, 0.85, 0.45
_CURVE = ("value", "lower", "upper", "delta", "cases")
_POINT = ("value", "lower", "upper", "reason", "extrapolated", "slope")
_HALVES = {"low_entropy": "low H_t + H_v", "high_entropy": "high H_t + H_v"}

_DASHES: dict[str, Any] = {"low_entropy": "-", "high_entropy": (0, (3, 1.5))}


def draw_modality_curves(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw the curve of every line with its balance point, and below it by low and high entropy.

    Parameters
    ----------
    material : following_curve (checkpoint, curve_bin) and balance_point (checkpoint), whole and of cases
        with low and high total entropy.

    Returns
    -------
    The figure and a Dataset of the last checkpoints: rates, their bounds and ΔH by bin, and balance
    points, `_low_entropy` and `_high_entropy` added for the halves.

    Notes
    -----
    arXiv 2511.02243, Fig. 4. Memory: the measures.
    """
    found = {name: data.compute() for name, data in material.measures.items()}
    curves, points = last_of(found["following_curve"]), last_of(found["balance_point"])
    looks = line_looks([found["following_curve"]], theme)
    rows = -(-len(looks) // _ACROSS)
    low = rows * _SMALL + (rows - 1) * _ROWS_APART
    tall = _TOP + _MAIN + _BETWEEN + low + _FOOT
    figure = Figure(figsize=(WIDTH, tall))
    wide = WIDTH - _LEFT - _RIGHT
    top = figure.add_axes(
        (_LEFT / WIDTH, (tall - _TOP - _MAIN) / tall, wide / WIDTH, _MAIN / tall), label="all"
    )
    for line, look in looks.items():
        draw_points(top, curves[line], look.colour)
        draw_logistic(top, points[line], look.colour)
    delta_axis(top)
    preference_axis(top, theme)
    top.set_ylabel(PREFERENCE)
    across = min(_ACROSS, len(looks))
    each = (wide - 0.18 * (across - 1)) / across
    for number, line in enumerate(looks):
        row, column = divmod(number, _ACROSS)
        place = (
            (_LEFT + column * (each + 0.18)) / WIDTH,
            (_FOOT + low - (row + 1) * _SMALL - row * _ROWS_APART) / tall,
            each / WIDTH,
            _SMALL / tall,
        )
        axes = figure.add_axes(place, label=f"halves {line}")
        halves = {
            half: (last_of(found[f"following_curve/{half}"])[line],
                   last_of(found[f"balance_point/logistic_{half}"])[line])
            for half in _HALVES
        }  # fmt: skip
        _halves(axes, halves, looks[line].colour, theme)
        axes.set_title(shortened(line, each, size=9) if len(looks) > 1 else "by total entropy")
        axes.tick_params(labelleft=column == 0)
        delta_axis(axes, label=row == rows - 1 and column == across // 2)
        if column == 0:
            axes.set_ylabel("follows text")
    halves_key = [
        Line2D([], [], color=theme.ink, marker="o", markersize=3, ls=_DASHES[half], label=label,
               markerfacecolor=theme.ink if half == "low_entropy" else theme.page)
        for half, label in _HALVES.items()
    ]  # fmt: skip
    foot_legend(figure, looks if len(looks) > 1 else {}, halves_key)
    return figure, _table(found).assign_attrs(
        steps=shown_steps(found["following_curve"], material.revisions),
        points="; ".join(f"{line}: {told(point)}" for line, point in points.items()),
    )


def _halves(
    axes: Axes, halves: dict[str, tuple[xr.Dataset, xr.Dataset]], colour: str, theme: Theme
) -> None:
    """Draw the curves of cases with low total entropy, filled, and with high, open and dashed."""
    for half, (curve, point) in halves.items():
        face = colour if half == "low_entropy" else theme.page
        draw_points(axes, curve, colour, markersize=3, markerfacecolor=face, zorder=3)
        draw_logistic(axes, point, colour, ls=_DASHES[half], face=face)
    preference_axis(axes, theme)


def _table(found: dict[str, xr.Dataset]) -> xr.Dataset:
    parts: dict[str, tuple[xr.Dataset, dict[str, str]]] = {}
    for end, (curve, point) in {
        "": ("following_curve", "balance_point"),
        **{f"_{h}": (f"following_curve/{h}", f"balance_point/logistic_{h}") for h in _HALVES},
    }.items():
        parts[f"curve{end}"] = (found[curve], {n: f"follows_{n}{end}" for n in _CURVE})
        parts[f"point{end}"] = (found[point], {n: f"balance_{n}{end}" for n in _POINT})
    return last_table(parts)


ROW = FigureRow(
    name="modality_curves",
    title="Text-following and balance points",
    function=draw_modality_curves,
    needs=(
        ("following_curve", "binned"),
        ("balance_point", "logistic"),
        ("following_curve", "low_entropy"),
        ("following_curve", "high_entropy"),
        ("balance_point", "logistic_low_entropy"),
        ("balance_point", "logistic_high_entropy"),
    ),
    phases=False,
    source="arXiv 2511.02243, figure 4",
    caption=(
        "Share of conflicts solved in both modalities that follow the text, in equal-count bins of ΔH,"
        " {steps}; bins of fewer than 5 cases are left out. Lines: logistic fits; diamonds: balance"
        " points with {level} interval by resampled groups ({points}). Below: cases with total entropy"
        " up to its median (filled), and above it (open, dashed). All kinds of"
        " text are pooled here; the figure by tier shows them apart. Inputs: {inputs}."
    ),
    extra=True,
)
