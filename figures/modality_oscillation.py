"""How often the leading answer changes sides between blocks: near balance, clear of it, irrelevant."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.axes import shortened
from figures.modality_panels import last_of, last_rows, shown_steps, united
from figures.row import FigureRow
from figures.select import Material
from figures.style import WIDTH, Theme

_WHERE = {"near": "near balance", "clear": "clear", "irrelevant": "irrelevant"}
_LEADING = {
    "vocabulary": "leading token of the vocabulary",
    "answers": "larger of the two answers' logits",
}


def draw_modality_oscillation(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw bars of switches a case, a group of bars a line, with the label-swap null.

    Parameters
    ----------
    material : oscillation (checkpoint, leading, depth) of cases near balance, clear and irrelevant.

    Returns
    -------
    The figure and a Dataset over (where, checkpoint, leading, depth) of the last checkpoints.

    Notes
    -----
    arXiv 2511.02243, Fig. 5. Memory: the measures.
    """
    keys = ("oscillation", "oscillation/clear", "oscillation/irrelevant")
    found = [material.measures[key].compute() for key in keys]
    figure = Figure(figsize=(WIDTH, 2.9))
    panels = figure.subplots(
        1, 2, sharey=True,
        gridspec_kw={
            "left": 0.55 / WIDTH, "right": 1 - 0.12 / WIDTH, "top": 0.9, "bottom": 0.22,
            "wspace": 0.08,
        },
    )  # fmt: skip
    for axes, leading in zip(panels, _LEADING, strict=True):
        for offset, data in enumerate(found):
            _bars(axes, last_of(data), leading, offset, theme)
        lines = list(last_of(found[0]))
        inches = (WIDTH - 0.9) / 2 / len(lines)
        axes.set_xticks(range(len(lines)), [shortened(line, inches) for line in lines])
        axes.set_title(_LEADING[leading])
        axes.grid(axis="x", visible=False)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("switches a case")
    handles: list[Patch | Line2D] = [
        Patch(color=theme.category(i), label=label) for i, label in enumerate(_WHERE.values())
    ]
    handles.append(Line2D([], [], color=theme.ink, lw=2, label="label-swap null"))
    figure.legend(handles=handles, loc="lower center", ncols=4, handlelength=1.3)
    names = list(_WHERE)
    table = xr.concat(
        [data.isel(checkpoint=last_rows(data)) for data in found],
        xr.DataArray(names, dims="where", name="where"), coords="minimal", compat="override",
        join="override",
    )  # fmt: skip
    kept = united(table[["value", "lower", "upper", "null", "cases"]])
    return figure, kept.assign_attrs(steps=shown_steps(found[0], material.revisions))


def _bars(
    axes: Axes, lines: dict[str, xr.Dataset], leading: str, offset: int, theme: Theme
) -> None:
    """Draw one region's bars; without a case there is a cross at the foot."""
    for place, one in enumerate(lines.values()):
        mine = one.sel(leading=leading, depth="all")
        x = place + 0.27 * (offset - 1)
        value, low, high, null = (float(mine[n]) for n in ("value", "lower", "upper", "null"))
        if np.isnan(value):
            axes.plot([x], [0.02], "x", color=theme.muted, markersize=5, clip_on=False)
            continue
        axes.bar(x, value, 0.24, color=theme.category(offset))
        axes.plot([x, x], [max(low, 0), high], color=theme.ink, lw=1.1)
        axes.plot([x - 0.12, x + 0.12], [null, null], color=theme.ink, lw=2, solid_capstyle="butt")


ROW = FigureRow(
    name="modality_oscillation",
    title="Switches between the modalities' answers",
    function=draw_modality_oscillation,
    needs=(("oscillation", "near"), ("oscillation", "clear"), ("oscillation", "irrelevant")),
    phases=False,
    source="arXiv 2511.02243, figure 5",
    caption=(
        "Mean number of times a case's leading answer changes between the image's and the text's from"
        " block to block (logit lens after the final norm, layers that lead with neither skipped),"
        " {steps}: within 0.5 of the balance point, further from it, and where one modality speaks of"
        " another thing. Thick lines: the same between two candidates that nothing supports. A cross:"
        " no such case, as without a balance point. Bars: interval {interval}. Inputs:"
        " {inputs}."
    ),
    extra=True,
)
