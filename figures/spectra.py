"""Eigenspectra of the final hidden states, coloured by training step where there are several."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from figures import axes as shared
from figures.row import FigureRow
from figures.select import Material, at_layer, by_branch, checkpoint_names, is_study
from figures.style import WIDTH, Theme

_ALL_RANKS = 128  # every rank up to here is drawn …
_PER_DECADE = 60  # … and this many a decade beyond: wide models stay readable and small
# Shares below this are rounding of float32 features, not spectrum; they are out of view.
_FLOOR = 1e-9


def draw_spectra(
    material: Material,
    theme: Theme,
    *,
    layer: str | int = "final",
    ranks: tuple[int, int] = (12, 100),
) -> tuple[Figure, xr.Dataset]:
    """Draw each checkpoint's eigenvalues, divided by their sum, against rank.

    Parameters
    ----------
    material : eigenspectrum (checkpoint, layer, rank), descending in rank.
    layer : the layer shown, by name or number.
    ranks : first and last rank of the α-ReQ fit, marked behind the curves.

    Returns
    -------
    The figure and a Dataset with `share` (checkpoint, rank): eigenvalue / sum of eigenvalues.

    Raises
    ------
    ValueError
        If there is no such layer.

    Notes
    -----
    α-ReQ is the decay of these curves in the marked range (arXiv 2509.23024, section 2). A
    spectrum with a NaN stays NaN. Memory: the spectra of one layer.
    """
    shares = _shares(at_layer(material.measures["eigenspectrum"], layer))
    parts = list(by_branch(shares))
    steps = np.unique(shares["step"].values[shares["step"].values > 0])
    norm: Normalize = LogNorm(steps.min(), steps.max()) if steps.size > 1 else Normalize(0, 1)
    study = is_study(shares)
    columns = min(len(parts), 2)
    rows = -(-len(parts) // columns)
    above = 0.35 if len(parts) > 1 else 0.12
    tall = 3.1 * rows + 0.5 + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        rows, columns, figure, left=0.72 / WIDTH, wspace=0.08,
        right=1 - (1.0 if steps.size > 1 else 0.12) / WIDTH,
        bottom=0.5 / tall, top=1 - above / tall, hspace=0.25,
    )  # fmt: skip
    wide = (WIDTH - (1.72 if steps.size > 1 else 0.84)) / columns - 0.15  # inches a panel
    first: Axes | None = None
    for index, (branch, part) in enumerate(parts):
        axes = figure.add_subplot(
            grid[index // columns, index % columns], sharex=first, sharey=first
        )
        names = checkpoint_names(part, material.revisions)
        _fit_range(axes, part, ranks, theme)
        _spectra(axes, part, norm if steps.size > 1 else None, theme, names)
        axes.tick_params(labelleft=index % columns == 0)
        if index % columns == 0:
            axes.set_ylabel("eigenvalue / sum of eigenvalues")
        if len(parts) > 1:
            axes.set_title(shared.shortened(branch, wide, size=9) if study else branch)
        # Below each column's last panel; of a store, as ever, below the first.
        if study and index + columns >= len(parts):
            axes.set_xlabel("rank")
        first = first or axes
    if first is not None:
        _value_axes(first, shares["share"].values)
        if study and len(parts) > columns:
            first.set_xlabel("")
    if steps.size > 1:
        _step_bar(figure, norm, theme, (0.5 / tall, 1 - (0.5 + above) / tall))
    return figure, shares


def _shares(spectrum: xr.Dataset) -> xr.Dataset:
    """Divide by the sum over all ranks, then keep the ranks that are drawn."""
    values = spectrum["value"].compute()
    # A smaller model of a study ends before the last rank: that is no missing number.
    there = values["rank"] <= values["width"] if is_study(spectrum) else True
    shares = values / values.where(there, 0.0).sum("rank", skipna=False)
    numbers = shares["rank"].values
    places = 10 ** np.arange(0, np.log10(max(numbers.max(), 1)) + 1e-9, 1 / _PER_DECADE)
    near = np.unique(np.searchsorted(numbers, places).clip(0, numbers.size - 1))
    kept = np.union1d(np.flatnonzero(numbers <= _ALL_RANKS), np.append(near, numbers.size - 1))
    thinned = shares.isel(rank=kept).transpose("checkpoint", "rank")
    thinned = thinned.drop_vars(["layer", "layer_name", "depth"], errors="ignore")
    table = thinned.to_dataset(name="share")
    table["share"].attrs = {"units": "1"}
    return table


def _fit_range(axes: Axes, part: xr.Dataset, ranks: tuple[int, int], theme: Theme) -> None:
    """Mark the ranks α is fitted on, and say so where every spectrum ends before the last."""
    there = part["rank"].values[(part["share"].values > _FLOOR).any(axis=0)].max(initial=0)
    told = f"α fitted on\nranks {ranks[0]}–{ranks[1]}"
    if there < ranks[1]:
        told = f"α is fitted on\nranks {ranks[0]}–{ranks[1]};\nthere are {there}"
    axes.axvspan(*ranks, color=theme.faint, alpha=0.6, linewidth=0, zorder=0, label="_fit range")
    axes.text(
        float(np.sqrt(ranks[0] * ranks[1])), 0.985, told,
        transform=axes.get_xaxis_transform(), ha="center", va="top", color=theme.muted, fontsize=8,
    )  # fmt: skip


def _spectra(
    axes: Axes, part: xr.Dataset, norm: Normalize | None, theme: Theme, names: list[str]
) -> None:
    """Draw the lines of one branch; those the colour bar does not tell apart are in a legend."""
    colours = theme.line_colours()
    keys: list[Line2D] = []
    for number, step in enumerate(part["step"].values):
        values = part["share"].values[number]
        # Step 0 is the dashed baseline of what came later; alone it is a line like any other.
        start = int(step) == 0 and len(names) > 1
        dashes: Any = (0, (3, 1.5)) if start else "-"
        named = start or norm is None or int(step) == 0
        later = theme.category(0) if norm is None or named else colours(norm(float(step)))
        (line,) = axes.plot(
            part["rank"].values, np.where(values > _FLOOR, values, np.nan),
            color=theme.muted if start else later, label=names[number],
            linewidth=1.6 if named else 1.0, linestyle=dashes,
            zorder=3 if start else 2,
        )  # fmt: skip
        if named:
            keys.append(line)
    if keys:
        axes.legend(handles=keys, loc="lower left")


def _value_axes(axes: Axes, shares: np.ndarray) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rank")
    visible = shares[np.isfinite(shares) & (shares > _FLOOR)]
    if visible.size:
        axes.set_ylim(float(visible.min()) / 1.6, 1.6 * float(visible.max()))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(shared.short_number))


def _step_bar(figure: Figure, norm: Normalize, theme: Theme, place: tuple[float, float]) -> None:
    bottom, height = place
    side = figure.add_axes((1 - 0.85 / WIDTH, bottom, 0.13 / WIDTH, height), label="bar step")
    bar = figure.colorbar(ScalarMappable(norm, theme.line_colours()), cax=side)
    bar.set_label("step")
    bar.outline.set_visible(False)
    side.yaxis.set_major_formatter(FuncFormatter(shared.short_number))


ROW = FigureRow(
    name="eigenspectra",
    title="Eigenspectra",
    function=draw_spectra,
    needs=(("eigenspectrum", "centered"),),
    phases=False,
    source="arXiv 2509.23024, section 2 (the spectra behind figure 2)",
    caption=(
        "Eigenvalues of the centred covariance of layer {layer}, divided by their sum,"
        " against rank, one line a checkpoint. The band marks the ranks on which α-ReQ is"
        " fitted. Shares below 1e-9 are out of view. Inputs: {inputs}."
    ),
)
