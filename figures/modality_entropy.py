"""How sure a model is of its answer from each modality alone, by difficulty and over training."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from figures.head_maps import chosen_rows
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names
from figures.style import WIDTH, Theme

_TOP, _PANEL, _BETWEEN, _FOOT = 0.42, 1.35, 0.3, 0.5  # inches
_LEFT, _RIGHT = 0.62, 1.05
_NAMES = {"image": "image alone, by visual tier", "text": "text alone, by text tier"}


def draw_modality_entropy(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw the entropy of the answer by tier: a row a line, a column a modality, a curve a checkpoint.

    Parameters
    ----------
    material : answer_entropy (checkpoint, modality, tier).

    Returns
    -------
    The figure and a Dataset: `entropy` with `lower` and `upper` of the checkpoints drawn.

    Raises
    ------
    ValueError
        If there is no number.

    Notes
    -----
    arXiv 2511.02243, Fig. 2, over training. Memory: the measure.
    """
    data = material.measures["answer_entropy"].compute()
    parts = [(line, part.isel(checkpoint=chosen_rows(part))) for line, part in by_branch(data)]
    if not np.isfinite(data["value"].values).any():
        raise ValueError("answer_entropy is NaN at every checkpoint; there is nothing to draw")
    count = len(parts)
    tall = _TOP + count * _PANEL + (count - 1) * _BETWEEN + _FOOT
    figure = Figure(figsize=(WIDTH, tall))
    grid = figure.subplots(
        count, 2, squeeze=False, sharey="row", sharex="col",
        gridspec_kw={
            "left": _LEFT / WIDTH, "right": 1 - _RIGHT / WIDTH, "top": 1 - _TOP / tall,
            "bottom": _FOOT / tall, "wspace": 0.08, "hspace": _BETWEEN / _PANEL,
        },
    )  # fmt: skip
    for row, (line, part) in zip(grid, parts, strict=True):
        names = checkpoint_names(part, material.revisions)
        for axes, modality in zip(row, _NAMES, strict=True):
            _tiers(axes, part.sel(modality=modality), names, theme)
        row[0].set_ylabel("entropy [nats]")
        row[0].set_ylim(bottom=-0.02)
        if count > 1:
            row[0].set_title(line)
        row[1].legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.04), handlelength=1.0, handletextpad=0.4,
            borderaxespad=0.2, labelspacing=0.25,
        )  # fmt: skip
    for axes, modality in zip(grid[-1], _NAMES, strict=True):
        axes.set_xlabel(_NAMES[modality])
    table = xr.concat([part for _, part in parts], "checkpoint", join="outer")
    kept = table[["value", "lower", "upper"]].rename(value="entropy")
    kept = kept.dropna("tier", how="all").drop_attrs(deep=False)
    for name in kept.data_vars:
        kept[name].attrs = {"units": "nats"}
    return figure, kept


def _tiers(axes: Axes, data: xr.Dataset, names: list[str], theme: Theme) -> None:
    """Draw one modality of one line: a curve a checkpoint."""
    there = np.flatnonzero(np.isfinite(data["value"].values).any(0))
    palette = theme.line_colours()
    for index, name in enumerate(names):
        one = data.isel(checkpoint=index, tier=there)
        colour = palette(index / max(len(names) - 1, 1))
        places = np.arange(there.size)
        axes.plot(places, one["value"], "o-", color=colour, label=name)
        axes.fill_between(places, one["lower"], one["upper"], color=colour, alpha=0.25, lw=0)
    axes.xaxis.set_major_locator(FixedLocator(list(range(there.size))))
    axes.set_xticks(range(there.size), [str(int(t)) for t in data["tier"].values[there]])


ROW = FigureRow(
    name="modality_entropy",
    title="Uncertainty of each modality alone",
    function=draw_modality_entropy,
    needs=(("answer_entropy", "full"),),
    phases=False,
    source="arXiv 2511.02243, figure 2",
    caption=(
        "Mean entropy of the answer over the vocabulary from the image alone (left) and the text alone"
        " (right), by the difficulty tier of that modality, at some checkpoints. Shaded: interval"
        " {interval}. Inputs: {inputs}."
    ),
    extra=True,
)
