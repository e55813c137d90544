"""Which modality is followed in all, and how relative uncertainty is spread."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from figures.axes import shortened
from figures.lines import line_looks
from figures.modality_panels import delta_axis, foot_legend, last_of, last_table, shown_steps
from figures.row import FigureRow
from figures.select import Material
from figures.style import WIDTH, Theme

_LEFT, _RIGHT, _TOP, _FOOT = 0.95, 0.15, 0.35, 0.95  # inches


def draw_modality_following(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw bars of text- and vision-following, and the distribution of ΔH, a line each.

    Parameters
    ----------
    material : text_following (checkpoint) and relative_uncertainty as histogram (checkpoint, delta_bin)
        and mean (checkpoint).

    Returns
    -------
    The figure and a Dataset of the last checkpoints: `text_following` with its bounds and `other`, and
    `share` (delta_bin).

    Notes
    -----
    arXiv 2511.02243, Fig. 3. Memory: the measures.
    """
    rates = material.measures["text_following"].compute()
    shares = material.measures["relative_uncertainty"].compute()
    means = material.measures["relative_uncertainty/mean"].compute()
    looks = line_looks([rates], theme)
    tall = _TOP + max(0.42 * len(looks), 1.5) + _FOOT
    figure = Figure(figsize=(WIDTH, tall))
    left, right = figure.subplots(
        1, 2,
        gridspec_kw={
            "left": _LEFT / WIDTH, "right": 1 - _RIGHT / WIDTH, "top": 1 - _TOP / tall,
            "bottom": _FOOT / tall, "wspace": 0.46, "width_ratios": (1.0, 1.1),
        },
    )  # fmt: skip
    _bars(left, last_of(rates), theme)
    for line, one in last_of(shares).items():
        centres, value = one["delta_bin"].values, one["value"].values
        width = centres[1] - centres[0]
        edges = np.append(centres - width / 2, centres[-1] + width / 2)
        right.stairs(value, edges, color=looks[line].colour, lw=1.4, label=line)
    for bound in (-1.8, 1.8):
        right.axvline(bound, color=theme.muted, lw=0.8, ls=(0, (1, 1.5)))
    delta_axis(right)
    right.set_ylabel("share of cases")
    right.set_ylim(bottom=0)
    right.set_title("relative uncertainty")
    if len(looks) > 1:
        foot_legend(figure, looks)
    table = last_table(
        {
            "rates": (
                rates,
                {"value": "text_following", "lower": "lower", "upper": "upper", "other": "other"},
            ),
            "shares": (shares, {"value": "share"}),
            "means": (means, {"near_zero": "near_zero", "beyond": "beyond"}),
        }
    )
    doubtful = "; ".join(
        f"{line}: {100 * float(one['near_zero']):.0f} % and {100 * float(one['beyond']):.0f} %"
        for line, one in last_of(means).items()
    )
    return figure, table.assign_attrs(
        steps=shown_steps(rates, material.revisions), doubtful=doubtful
    )


def _bars(axes: Axes, lines: dict[str, xr.Dataset], theme: Theme) -> None:
    """Draw one bar a line: text from the left, vision the rest, the interval at their border."""
    text, vision = theme.category(0), theme.category(1)
    for place, one in enumerate(lines.values()):
        rate = float(one["value"])
        axes.barh(place, rate, color=text, height=0.6)
        axes.barh(place, 1 - rate, left=rate, color=vision, height=0.6)
        low, high = (np.clip(float(one[n]), 0, 1) for n in ("lower", "upper"))
        axes.plot([low, high], [place, place], color=theme.ink, lw=1.6)
        axes.plot([low, high], [place, place], "|", color=theme.ink, markersize=7, mew=1.4)
        axes.text(
            1.02, place, f"{100 * float(one['other']):.0f} %", va="center", fontsize=8,
            color=theme.muted, transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.text(
        1.02, 1.02, "neither", fontsize=8, color=theme.muted, transform=axes.transAxes, va="bottom"
    )
    axes.set_yticks(range(len(lines)), [shortened(line, _LEFT - 0.1) for line in lines])
    axes.set_ylim(len(lines) - 0.45, -0.55)
    axes.set_xlim(0, 1)
    axes.grid(False)
    axes.set_xlabel("share of cases that follow one of them")
    axes.legend(
        handles=[Patch(color=text, label="text"), Patch(color=vision, label="image")], ncols=2,
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.1, handlelength=1.2,
    )  # fmt: skip


ROW = FigureRow(
    name="modality_following",
    title="Which modality is followed",
    function=draw_modality_following,
    needs=(
        ("text_following", "solved_both"),
        ("relative_uncertainty", "histogram"),
        ("relative_uncertainty", "mean"),
    ),
    phases=False,
    source="arXiv 2511.02243, figure 3",
    caption=(
        "Conflicts that each modality alone solves, {steps}. Left: text- and image-following rates, and"
        " the share of answers that follow neither, which are left out; bars: interval"
        " {interval}. Right: distribution of the relative uncertainty ΔH; beyond the dotted lines"
        " (1.8) it is all but saturated. Share of cases with H_t + H_v below 0.01 nats, and with"
        " |ΔH| > 1.8: {doubtful}. Inputs: {inputs}."
    ),
    extra=True,
)
