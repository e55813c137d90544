"""How text and image contend layer by layer, for texts of growing difficulty."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.axes import shortened
from figures.modality_panels import FEWEST, last_of, last_rows, last_table, shown_steps
from figures.row import FigureRow
from figures.select import Material, layer_names
from figures.style import WIDTH, Theme

_LEFT, _RIGHT, _TOP, _FOOT, _HIGH, _APART = 0.75, 0.12, 0.45, 0.95, 1.35, 0.42  # inches
_MOST = 3  # visual tiers
_SHORT = {"embedding": "emb", "final": "out"}


def draw_modality_contest(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw the logit difference over layers, a curve a text tier, a column a visual tier, a row a line.

    Parameters
    ----------
    material : logit_difference by tiers (checkpoint, layer, text_tier, visual_tier).

    Returns
    -------
    The figure and a Dataset `logit_difference`, its bounds and `cases` of the last checkpoints at the
    visual tiers drawn: the easiest, the middle one and the hardest that have cases.

    Raises
    ------
    ValueError
        If no kind of case has 5 cases.

    Notes
    -----
    arXiv 2511.02243, Fig. 6b, which follows one case; here means over all. Memory: the measure.
    """
    data = material.measures["logit_difference"].compute()
    lines = last_of(data)
    enough = (data["cases"].isel(checkpoint=last_rows(data)) >= FEWEST).any("checkpoint")
    texts = data["text_tier"].values[enough.any(("layer", "visual_tier")).values]
    images = data["visual_tier"].values[enough.any(("layer", "text_tier")).values]
    if not texts.size:
        raise ValueError(
            f"no tier of logit_difference has {FEWEST} cases; there is nothing to draw"
        )
    images = images[np.unique(np.linspace(0, images.size - 1, _MOST).round().astype(int))]
    tall = _TOP + len(lines) * _HIGH + (len(lines) - 1) * _APART + _FOOT
    figure = Figure(figsize=(WIDTH, tall))
    grid = figure.subplots(
        len(lines), images.size, squeeze=False, sharex=True, sharey=True,
        gridspec_kw={
            "left": _LEFT / WIDTH, "right": 1 - _RIGHT / WIDTH, "top": 1 - _TOP / tall,
            "bottom": _FOOT / tall, "wspace": 0.08, "hspace": _APART / _HIGH,
        },
    )  # fmt: skip
    shades = theme.line_colours()(np.linspace(0, 1, texts.size))
    for row, (line, one) in zip(grid, lines.items(), strict=True):
        for axes, tier in zip(row, images, strict=True):
            _panel(axes, one.sel(visual_tier=tier, text_tier=texts), shades, theme)
            axes.set_title(f"visual tier {tier}", size=9, loc="right")
        if len(lines) > 1:
            row[0].set_title(shortened(line, 1.1, size=9), loc="left")
    names = [_SHORT.get(name, name) for name in layer_names(data)]
    kept = np.arange(0, len(names), max(1, -(-len(names) // 8)))
    grid[0, 0].set_xticks(kept.tolist(), [names[i] for i in kept])
    grid[-1, images.size // 2].set_xlabel("layer")
    grid[len(lines) // 2, 0].set_ylabel("logit difference\n← image   text →")
    handles = [
        Line2D([], [], color=shade, marker="o", label=f"text tier {tier}")
        for tier, shade in zip(texts, shades, strict=True)
    ]
    figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 4), handlelength=1.2)
    kinds = {"value": "logit_difference", "lower": "lower", "upper": "upper", "cases": "cases"}
    table = last_table({"only": (data.sel(visual_tier=images, text_tier=texts), kinds)})
    return figure, table.assign_attrs(steps=shown_steps(data, material.revisions))


def _panel(axes: Axes, one: xr.Dataset, shades: np.ndarray, theme: Theme) -> None:
    """Draw a curve a text tier, with its interval; tiers of few cases are left out."""
    axes.axhline(0, color=theme.muted, lw=0.8, ls=(0, (4, 2)), zorder=1)
    x = np.arange(one.sizes["layer"])
    for shade, (_, curve) in zip(shades, one.groupby("text_tier"), strict=True):
        kept = curve.squeeze("text_tier").where(lambda c: c["cases"] >= FEWEST)
        axes.fill_between(x, kept["lower"], kept["upper"], color=shade, alpha=0.18, lw=0)
        axes.plot(x, kept["value"], "o-", color=shade, markersize=3)


ROW = FigureRow(
    name="modality_contest",
    title="Text against image, layer by layer",
    function=draw_modality_contest,
    needs=(("logit_difference", "by_tiers"),),
    phases=False,
    source="arXiv 2511.02243, figure 6",
    caption=(
        "Logit of the text's answer less that of the image's at each layer (logit lens after the final"
        " norm), mean over conflicts solved in both modalities, {steps}, by tier of text and picture;"
        " interval {interval}; kinds of fewer than 5 cases are left out. Inputs: {inputs}."
    ),
    extra=True,
)
