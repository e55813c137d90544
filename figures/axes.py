"""Shared axes: the broken log-token axis, interval bands and phase shading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from figures.style import Theme

Array = npt.NDArray[np.float64]

_ZERO_SHARE = 0.045  # width of the axes of step 0, as a share of the log axis
_STRIP, _NAMED_STRIP = 0.94, 0.62  # height of a strip of phases, as a share of its row
CHARACTER = 0.066  # inches; mean width of a character of 8-point DejaVu Sans


@dataclass(frozen=True)
class Panel:
    """One row of a figure: the log axis of tokens and, left of the break, the axes of step 0."""

    log: Axes
    zero: Axes | None = None

    @property
    def left(self) -> Axes:
        """Return the axes at the left edge, which carry the y axis."""
        return self.log if self.zero is None else self.zero

    @property
    def all(self) -> tuple[Axes, ...]:
        """Return both axes, or the one there is."""
        return (self.log,) if self.zero is None else (self.zero, self.log)


def short_number(value: float, _position: int | None = None) -> str:
    """Write a count the way this field does: 2048 is 2.05K, 3e11 is 300B."""
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


def stacked_panels(
    figure: Figure, spec: SubplotSpec, heights: Sequence[float], *, zero: bool, gap: float = 0.12
) -> list[Panel]:
    """Rows that share one broken axis of tokens.

    Parameters
    ----------
    heights : relative heights of the rows, top first.
    zero : whether there is a step 0 to be drawn left of the break.
    gap : vertical space between rows, as a share of their mean height.
    """
    ratios = [_ZERO_SHARE, 1.0] if zero else [1.0]
    grid = GridSpecFromSubplotSpec(
        len(heights), len(ratios), spec, height_ratios=heights, width_ratios=ratios,
        hspace=gap, wspace=0.03,
    )  # fmt: skip
    panels: list[Panel] = []
    for row in range(len(heights)):
        first = panels[0] if panels else None
        log = figure.add_subplot(grid[row, -1], sharex=first.log if first else None)
        left = None
        if zero:
            left = figure.add_subplot(
                grid[row, 0], sharey=log, sharex=first.zero if first else None
            )
        panels.append(Panel(log, left))
    for panel in panels:
        _break(panel)
        panel.log.tick_params(labelbottom=panel is panels[-1])
        if panel.zero is not None:
            panel.zero.tick_params(labelbottom=panel is panels[-1])
    return panels


def _break(panel: Panel) -> None:
    """Set the scales and draw the two strokes that say the axis is interrupted."""
    panel.log.set_xscale("log")
    panel.log.xaxis.set_minor_formatter(NullFormatter())
    if panel.zero is None:
        return
    panel.zero.set_xlim(-1, 1)
    panel.zero.xaxis.set_major_locator(FixedLocator([0]))
    panel.zero.xaxis.set_major_formatter(FuncFormatter(lambda _value, _position: "0"))
    panel.log.spines["left"].set_visible(False)
    panel.log.tick_params(axis="y", which="both", left=False, labelleft=False)
    stroke: dict[str, Any] = {
        "marker": [(-0.5, -1), (0.5, 1)], "markersize": 6, "linestyle": "none",
        "color": panel.log.spines["bottom"].get_edgecolor(), "mew": 0.9, "clip_on": False,
    }  # fmt: skip
    panel.zero.plot([1], [0], transform=panel.zero.transAxes, label="_stroke", **stroke)
    panel.log.plot([0], [0], transform=panel.log.transAxes, label="_stroke", **stroke)


def token_axis(panels: Sequence[Panel], tokens: Array, *, label: str = "tokens seen") -> None:
    """Limits, ticks and label of the shared axis; `tokens` of step 0 are left out."""
    low, high = token_limits(tokens)
    bottom = panels[-1].log
    bottom.set_xlim(low, high)
    subs = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
    bottom.xaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    bottom.xaxis.set_major_formatter(FuncFormatter(short_number))
    bottom.set_xlabel(label)


def token_limits(tokens: Array) -> tuple[float, float]:
    """Limits of the log axis with a small margin.

    Raises
    ------
    ValueError
        If no checkpoint has seen a token.
    """
    seen = tokens[tokens > 0]
    if seen.size == 0:
        raise ValueError("tokens are 0 at every checkpoint; a log axis needs a later checkpoint")
    margin = max((float(seen.max()) / float(seen.min())) ** 0.02, 1.02)
    return float(seen.min()) / margin, float(seen.max()) * margin


def step_ticks(panel: Panel, steps: Array, tokens: Array, *, label: str = "step") -> None:
    """Steps as secondary tick labels along the top, placed by interpolation in log tokens."""
    seen = (tokens > 0) & (steps > 0)
    order = np.argsort(tokens[seen], kind="stable")
    log_steps, log_tokens = np.log(steps[seen][order]), np.log(tokens[seen][order])
    exponents = range(int(np.floor(np.log10(steps[seen].min()))), 1 + int(np.log10(steps.max())))
    subs = (1, 2, 5) if len(exponents) < 3 else (1,)
    wanted = np.array([sub * 10.0**e for e in exponents for sub in subs])
    inside = (wanted >= steps[seen].min()) & (wanted <= steps.max())
    shown = wanted[inside] if inside.any() else np.unique(steps[seen][[0, -1]])
    places = np.exp(np.interp(np.log(shown), log_steps, log_tokens))
    top = panel.log.secondary_xaxis("top")
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xticks(places, [short_number(step) for step in shown])
    top.set_xlabel(label)
    if panel.zero is not None:
        panel.zero.secondary_xaxis("top").set_xticks([0], ["0"])


def draw_curve(panel: Panel, data: xr.Dataset, style: Mapping[str, Any], label: str) -> None:
    """One branch of one measure with its interval; step 0 stands alone left of the break.

    Parameters
    ----------
    data : `value` and, where there is an interval, `lower` and `upper`, with `tokens`, all
        (checkpoint). NaN leaves a gap.
    style : colour, line style and marker, as `plot` takes them.
    """
    tokens = data["tokens"].values.astype(float)
    value = data["value"].values.astype(float)
    seen = tokens > 0
    colour = str(style["color"])
    panel.log.plot(tokens[seen], value[seen], **{**style, "label": label})
    banded = {"lower", "upper"} <= set(data.data_vars)
    if banded:
        lower, upper = (data[name].values.astype(float) for name in ("lower", "upper"))
        panel.log.fill_between(
            tokens[seen], lower[seen], upper[seen], color=colour, alpha=0.3, linewidth=0
        )
    if panel.zero is None or seen.all():
        return
    start = value[~seen]
    alone = {**style, "linestyle": "none", "markersize": 4, "label": label}
    panel.zero.plot(np.zeros(start.size), start, **alone)
    if banded:
        panel.zero.vlines(
            np.zeros(start.size), lower[~seen], upper[~seen], color=colour, linewidth=1.2
        )


def shade_phases(axes: Axes, phases: xr.Dataset, theme: Theme) -> None:
    """Fill the background from each segment's start to its end (tokens)."""
    low = axes.get_xlim()[0]
    for start, end, label in _segments(phases):
        axes.axvspan(
            max(start, low), end, color=theme.phase(label), alpha=theme.phase_alpha,
            linewidth=0, zorder=0, label=f"_{label}",
        )  # fmt: skip


def draw_boundaries(axes: Axes, phases: xr.Dataset, colour: str) -> None:
    """Draw a vertical line at each boundary: dashed for a break, dotted for a smooth bend."""
    for place, kind in zip(phases["boundary"].values, phases["kind"].values, strict=True):
        dashes = (0, (4, 2.5)) if str(kind) == "break" else (0, (1, 2))
        axes.axvline(float(place), color=colour, linewidth=1.0, linestyle=dashes, zorder=1.5)


def phase_ribbon(
    panel: Panel,
    phases: Mapping[str, xr.Dataset],
    colours: Mapping[str, str],
    theme: Theme,
    *,
    above: bool = False,
) -> list[str]:
    """Name the segments of each branch in a strip, with each boundary's interval below.

    Parameters
    ----------
    above : whether a branch's name stands above its strip: room for long ones.

    Returns
    -------
    The phases whose name did not fit in its segment, for a legend.
    """
    unnamed: dict[str, None] = {}
    tall = _NAMED_STRIP if above else _STRIP
    low, high = panel.log.get_xlim()
    inches = panel.log.get_position().width * panel.log.figure.get_figure(root=True).get_figwidth()
    for row, (branch, data) in zip(reversed(range(len(phases))), phases.items(), strict=True):
        for start, end, label in _segments(data):
            start = max(start, low)
            panel.log.fill_between(
                [start, end], row, row + tall, color=theme.phase(label), linewidth=0,
                alpha=2 * theme.phase_alpha, label=f"_{branch}/{label}",
            )  # fmt: skip
            room = inches * np.log(end / start) / np.log(high / low)
            name = _fitting_name(label, float(room))
            if not name:
                unnamed[label] = None
            panel.log.text(
                float(np.sqrt(start * end)), row + 0.58 * (tall / _STRIP), name, ha="center",
                va="center_baseline", fontsize=8, linespacing=0.95,
            )  # fmt: skip
        _boundary_intervals(panel.log, data, row + 0.14 * (tall / _STRIP), colours[branch])
        if above:
            _row_name(panel.log, branch, row + (1 + tall) / 2 - 0.03, inches, colours[branch])
    panel.log.set_ylim(0, len(phases))
    for axes in panel.all:
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(left=False, bottom=False, labelleft=False, which="both")
        for stroke in axes.lines:
            stroke.set_visible(stroke.get_label() != "_stroke")
    if len(phases) > 1 and not above:
        names = list(phases)[::-1]
        panel.left.set_yticks([row + 0.5 for row in range(len(names))], names)
        panel.left.tick_params(labelleft=True)
    return list(unnamed)


def _row_name(axes: Axes, name: str, height: float, inches: float, colour: str) -> None:
    """Write a name above a strip, behind a square of its line's colour."""
    across = axes.get_yaxis_transform()
    axes.plot([0.04 / inches], [height], "s", color=colour, transform=across, markersize=6)
    axes.text(
        0.14 / inches, height, shortened(name, inches - 0.2), transform=across, fontsize=8,
        va="center_baseline",
    )  # fmt: skip


def shortened(name: str, inches: float, *, size: float = 8) -> str:
    """Return the name, its middle left out where it is wider than `inches` at this size in points."""
    room = max(int(inches / (CHARACTER * size / 8)), 5)
    if len(name) <= room:
        return name
    end = (room - 1) // 2
    return f"{name[: room - 1 - end].rstrip()}…{name[-end:].lstrip()}"


def _boundary_intervals(axes: Axes, phases: xr.Dataset, height: float, colour: str) -> None:
    names = ("boundary", "boundary_lower", "boundary_upper", "kind")
    for place, lower, upper, kind in zip(*(phases[n].values for n in names), strict=True):
        fill = colour if str(kind) == "break" else axes.figure.get_facecolor()
        axes.plot(
            [lower, upper], [height] * 2, "|-", color=colour, linewidth=1.2, label="_interval"
        )
        axes.plot([place], [height], "D", color=colour, markerfacecolor=fill, label=f"_{kind}")


def _segments(phases: xr.Dataset) -> list[tuple[float, float, str]]:
    names = ("start", "end", "label")
    rows = zip(*(phases[name].values for name in names), strict=True)
    return [(float(start), float(end), str(label)) for start, end, label in rows]


def _fitting_name(label: str, inches: float) -> str:
    """Return the name in one line, in two, or nothing, as there is room."""
    if len(label) * CHARACTER < inches:
        return label
    broken = label.replace("-", "-\n", 1)
    longest = max(len(line) for line in broken.split("\n"))
    return broken if longest * CHARACTER < inches else ""
