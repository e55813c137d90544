"""Entropy of every head against the norm of its logits, between what that norm allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from figures import axes as shared
from figures.blocks import asked_checkpoints
from figures.heads import uniform_entropy
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names
from figures.style import WIDTH, Theme

_PANELS = 4
_TALL, _GAP = 1.9, 0.75  # inches of a panel, and between rows
_MANY = 200  # heads from which they are one image inside the vector file
_NEEDS = {
    "entropy": ("head_entropy", "zhai2023"),
    "row_norm": ("row_norm", "centered"),
    "lower": ("entropy_lower_bound", "row"),
    "upper": ("entropy_upper_bound", "row"),
}


def draw_bound_diagram(
    material: Material, theme: Theme, *, steps: Sequence[int] | None = None
) -> tuple[Figure, xr.Dataset]:
    """Draw one dot a head at a few steps, on a line from its lowest to its highest possible entropy.

    Parameters
    ----------
    material : head_entropy, row_norm, entropy_lower_bound and entropy_upper_bound
        (checkpoint, block, head).
    steps : the steps shown; four spread evenly in log step by default.

    Returns
    -------
    The figure, a row of panels a branch, and a Dataset with `entropy`, `row_norm`, `lower` and `upper`
    (chosen, block, head).

    Raises
    ------
    ValueError
        If a step asked for is not in a branch, or nothing is a number.

    Notes
    -----
    All four numbers are means over the same rows. A row's entropy lies between its own bounds, so the
    mean lies between their means; a curve of the bound at the mean norm would be another thing, since
    rows see different numbers of keys and the bound is not linear in the norm. Memory: the measures.
    """
    data = xr.Dataset(
        {
            name: material.measures[measure]["value"].transpose("checkpoint", "block", "head")
            for name, (measure, _) in _NEEDS.items()
        }
    ).compute()
    if not all(np.isfinite(data[name].values).any() for name in _NEEDS):
        raise ValueError("heads are NaN at every checkpoint; there is nothing to draw")
    attrs = material.measures["head_entropy"].attrs
    parts = list(by_branch(data))
    chosen = [_chosen(part, steps, line) for line, part in parts]
    picked = [part.isel(checkpoint=c) for (_, part), c in zip(parts, chosen, strict=True)]
    figure, rows = _layout([len(c) for c in chosen], named=len(parts) > 1)
    limits = _limits(picked)
    for (line, whole), part, axes in zip(parts, picked, rows, strict=True):
        ceiling = uniform_entropy(attrs, part)
        names = checkpoint_names(part, material.revisions)
        for index, panel in enumerate(axes):
            _panel(panel, part.isel(checkpoint=index), ceiling, theme)
            panel.set_title(names[index])
            _scales(panel, limits, first=index == 0)
        _block_bar(figure, axes[-1], whole["block"].values, theme)
        place = axes[0].get_position()
        figure.text(
            (place.x0 + axes[-1].get_position().x1) / 2, place.y0 - 0.4 / figure.get_figheight(),
            "mean norm of a row's logits about their mean", ha="center", fontsize=9,
        )  # fmt: skip
        if len(parts) > 1:
            figure.text(
                place.x0, place.y1 + 0.27 / figure.get_figheight(),
                shared.shortened(line, WIDTH - 1.45, size=9.5), fontsize=9.5, weight="bold",
            )  # fmt: skip
    labels = np.concatenate([part["checkpoint"].values for part in picked])
    table = data.sel(checkpoint=labels).rename(checkpoint="chosen")
    for name in table.data_vars:
        table[name].attrs = {"units": "logits" if name == "row_norm" else "nats"}
    known = any(uniform_entropy(attrs, part) is not None for part in picked)
    table.attrs["uniform"] = (
        " The dashed line is uniform attention under a causal mask, ln(T!)/T." if known else ""
    )
    return figure, table


def _chosen(part: xr.Dataset, steps: Sequence[int] | None, line: str) -> np.ndarray:
    """Positions on the checkpoint axis of the panels."""
    if steps is not None:
        return asked_checkpoints(part, steps, line)
    have = part["step"].values.astype(int)
    if have.size <= _PANELS:
        return np.arange(have.size)
    marks = np.linspace(np.log1p(have[0]), np.log1p(have[-1]), _PANELS)
    return np.unique([int(np.argmin(np.abs(np.log1p(have) - mark))) for mark in marks])


def _layout(counts: Sequence[int], *, named: bool) -> tuple[Figure, list[list[Axes]]]:
    above, below = 0.62 if named else 0.35, 0.5
    gap = _GAP + 0.3 * named
    tall = len(counts) * _TALL + (len(counts) - 1) * gap + above + below
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        len(counts), max(counts), figure, left=0.55 / WIDTH, right=1 - 0.8 / WIDTH,
        bottom=below / tall, top=1 - above / tall, hspace=gap / _TALL, wspace=0.12,
    )  # fmt: skip
    return figure, [
        [figure.add_subplot(grid[row, column]) for column in range(count)]
        for row, count in enumerate(counts)
    ]


def _limits(parts: Sequence[xr.Dataset]) -> tuple[float, float, float]:
    """Return the least and greatest norm of all panels, and the greatest bound."""
    norms = np.concatenate([part["row_norm"].values.ravel() for part in parts])
    norms = norms[np.isfinite(norms)]
    top = max(float(np.nanmax(part[["upper", "entropy"]].to_array().values)) for part in parts)
    return float(norms.min()), float(norms.max()), top


def _panel(axes: Axes, part: xr.Dataset, ceiling: float | None, theme: Theme) -> None:
    blocks, heads = part["block"].values, part["head"].values
    palette = theme.line_colours()
    many = blocks.size * heads.size > _MANY
    if ceiling is not None:
        axes.axhline(
            ceiling, color=theme.muted, linestyle=(0, (4, 2.5)), linewidth=1.0, label="_uniform"
        )
    for index, block in enumerate(blocks):
        colour = to_hex(palette(index / max(blocks.size - 1, 1)))
        one = part.isel(block=index)
        norm = one["row_norm"].values
        axes.vlines(
            norm, one["lower"].values, one["upper"].values, color=colour, alpha=0.25 if many else 0.45,
            linewidth=1.4 if not many else 0.8, label=f"_bounds {block}", rasterized=many,
        )  # fmt: skip
        axes.plot(
            norm, one["entropy"].values, "o", color=colour, markersize=4 if not many else 2.5,
            markeredgecolor=theme.page, markeredgewidth=0.4, label=f"_heads {block}", rasterized=many,
        )  # fmt: skip


def _scales(axes: Axes, limits: tuple[float, float, float], *, first: bool) -> None:
    low, high, top = limits
    if low > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.25, high * 1.25)
        subs = (1.0,) if high / low > 40 else (1.0, 2.0, 5.0)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
        axes.xaxis.set_major_formatter(FuncFormatter(shared.short_number))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(-0.05 * high, max(1.05 * high, 1e-6))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylim(0, 1.06 * top)
    axes.tick_params(labelleft=first)
    if first:
        axes.set_ylabel("attention entropy [nats]")


def _block_bar(figure: Figure, axes: Axes, blocks: np.ndarray, theme: Theme) -> None:
    place = axes.get_position()
    side = figure.add_axes(
        (1 - 0.67 / WIDTH, place.y0, 0.13 / WIDTH, place.height), label="bar block"
    )
    norm = BoundaryNorm(np.arange(blocks.size + 1) - 0.5, 256)
    bar = figure.colorbar(ScalarMappable(norm, theme.line_colours()), cax=side)
    kept = np.arange(0, blocks.size, max(1, -(-blocks.size // 12)))
    bar.set_ticks(kept.tolist(), labels=[str(blocks[i]) for i in kept])
    bar.set_label("block")
    bar.outline.set_visible(False)
    side.tick_params(length=0)
    side.minorticks_off()


ROW = FigureRow(
    name="bound_diagram",
    title="Entropy between its bounds",
    function=draw_bound_diagram,
    needs=tuple(_NEEDS.values()),
    phases=False,
    source="arXiv 2303.06296, Theorem 3.1, row by row, and its mirror",
    caption=(
        "One dot a head: mean entropy of its rows against the mean norm of their logits about their mean."
        " Its line reaches from the mean of its rows' lowest possible entropies at their norms to that of"
        " the highest.{uniform} Inputs: {inputs}."
    ),
    extra=True,
)
