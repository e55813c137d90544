"""Attention entropy against the query's position, one line a block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures import axes as shared
from figures.blocks import asked_checkpoints, depth_bar, depth_colours, spread_checkpoints
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names
from figures.style import WIDTH, Theme

_PANELS = 4
_HEIGHT, _GAP = 1.75, 0.98  # inches of a row of panels, and between rows
_TITLES = {
    "plain": "as trained",
    "scaled": "logits scaled",
    "base": "other RoPE base",
    "both": "both",
}


def draw_context(
    material: Material, theme: Theme, *, steps: Sequence[int] | None = None
) -> tuple[Figure, xr.Dataset]:
    """Draw the mean entropy of attention rows against the keys they see.

    Parameters
    ----------
    material : entropy_by_position (checkpoint, block, position_bin) and, where it was captured,
        scaled_entropy_by_position (checkpoint, condition, block, position_bin).
    steps : the steps shown; by default step 0, and three of the last two decades.

    Returns
    -------
    The figure and a Dataset: `entropy` (chosen, block, position_bin) with bounds, `log_visible`
    (chosen, position_bin), and of the last checkpoint of each branch `scaled_entropy` (last, condition,
    block, position_bin).

    Raises
    ------
    ValueError
        If a step asked for was not measured.

    Notes
    -----
    After arXiv 2401.07004, figure 1. Memory: both measures.
    """
    data = material.measures["entropy_by_position"].compute()
    changed = material.measures.get("scaled_entropy_by_position")
    changed = None if changed is None else changed.compute()
    rows: list[tuple[str, list[tuple[str, xr.Dataset]]]] = []
    shown, last = [], []
    several = len(list(by_branch(data))) > 1
    for branch, part in by_branch(data):
        picked = part.isel(checkpoint=_chosen(part, steps, branch))
        shown.append(picked)
        names = checkpoint_names(picked, material.revisions)
        panels = [(n, picked.isel(checkpoint=i)) for i, n in enumerate(names)]
        rows.append((branch if several else "", panels))
        own = None if changed is None else dict(by_branch(changed)).get(branch)
        if own is not None:
            final = own.isel(checkpoint=[-1])
            last.append(final)
            name = checkpoint_names(final, material.revisions)[0]
            single = final.isel(checkpoint=0)
            parts = [
                (_TITLES.get(str(c), str(c)), single.sel(condition=c))
                for c in single["condition"].values
                if np.isfinite(single["value"].sel(condition=c)).any()
            ]
            rows.append((f"{branch}, {name}" if several else f"{name}, read in other ways", parts))
    figure = _page(rows, theme)
    table = _table(shown, last)
    table.attrs["changed"] = (
        " Last row: the last checkpoint read with its logits multiplied by max(log_c n, 1) beyond the"
        " context c of training, and with another RoPE base."
        if last
        else ""
    )
    return figure, table


def _chosen(part: xr.Dataset, steps: Sequence[int] | None, branch: str) -> np.ndarray:
    if steps is None:
        return spread_checkpoints(part, _PANELS, within=100)
    return asked_checkpoints(part, steps, branch)


def _page(rows: list[tuple[str, list[tuple[str, xr.Dataset]]]], theme: Theme) -> Figure:
    above, below = (0.6 if rows[0][0] else 0.32), 0.5
    tall = above + below + _HEIGHT * len(rows) + _GAP * (len(rows) - 1)
    figure = Figure(figsize=(WIDTH, tall))
    across = max(2, max(len(panels) for _, panels in rows))
    grid = GridSpec(
        len(rows), across, figure, left=0.6 / WIDTH, right=1 - 0.85 / WIDTH,
        bottom=below / tall, top=1 - above / tall, hspace=_GAP / _HEIGHT, wspace=0.1,
    )  # fmt: skip
    for row, (name, panels) in enumerate(rows):
        first: Axes | None = None
        for column, (title, part) in enumerate(panels):
            # A lone panel has the whole row.
            spec = grid[row, :] if len(panels) == 1 else grid[row, column]
            axes = figure.add_subplot(spec, sharey=first)
            _curves(axes, part, theme, words=first is None)
            axes.set_title(title)
            axes.tick_params(labelleft=first is None)
            if first is None:
                axes.set_ylabel("entropy [nats]")
            axes.set_xlabel("keys the query sees" if column == 0 or across < 3 else "keys")
            first = first or axes
        assert first is not None
        place = first.get_position()
        if name:
            figure.text(
                place.x0, place.y1 + 0.25 / tall, shared.shortened(name, WIDTH - 1.45, size=9.5),
                fontsize=9.5, weight="bold",
            )  # fmt: skip
        depth_bar(figure, first, [str(b) for b in panels[0][1]["block"].values], theme)
    return figure


def _curves(axes: Axes, part: xr.Dataset, theme: Theme, *, words: bool) -> None:
    lengths = _lengths(part).values
    known = np.isfinite(lengths)
    x = np.exp(lengths[known])
    colours = depth_colours(part.sizes["block"], theme)
    for block, colour in zip(part["block"].values, colours, strict=True):
        line = part.sel(block=block).isel(position_bin=np.flatnonzero(known))
        axes.plot(x, line["value"], color=colour, lw=1.3, label=f"block {block}")
        axes.fill_between(x, line["lower"], line["upper"], color=colour, alpha=0.25, linewidth=0)
    axes.plot(x, lengths[known], color=theme.muted, lw=1.0, ls=(0, (4, 2.5)), label="uniform")
    if words:
        axes.text(
            0.04, 0.95, "dashed: ln n", transform=axes.transAxes, va="top", color=theme.muted,
            fontsize=8, bbox={"facecolor": theme.page, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(shared.short_number))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(1, x.max() * 1.05)
    axes.set_ylim(0, None)


def _lengths(part: xr.Dataset) -> xr.DataArray:
    """Mean ln n of each bin: the same for every block."""
    lengths = part["log_visible"]
    return lengths.max("block") if "block" in lengths.dims else lengths


def _table(shown: Sequence[xr.Dataset], last: Sequence[xr.Dataset]) -> xr.Dataset:
    whole = xr.concat(
        [part.rename(checkpoint="chosen") for part in shown], "chosen", join="outer",
        coords="minimal", compat="override", combine_attrs="drop",
    )  # fmt: skip
    table = whole[["value", "lower", "upper"]].rename(
        value="entropy", lower="entropy_lower", upper="entropy_upper"
    )
    table["log_visible"] = _lengths(whole)
    if last:
        both = xr.concat(
            [part.rename(checkpoint="last") for part in last], "last", join="outer",
            coords="minimal", compat="override", combine_attrs="drop",
        )  # fmt: skip
        both = both.drop_vars(["step", "tokens", "branch", "line", "model"], errors="ignore")
        table["scaled_entropy"] = both["value"]
    for name in table.data_vars:
        table[name].attrs = {"units": "nats"}
    return table


ROW = FigureRow(
    name="context",
    title="Attention entropy against the length of the context",
    function=draw_context,
    needs=(("entropy_by_position", "zhang2024_paper"),),
    phases=False,
    source="arXiv 2401.07004, figure 1",
    caption=(
        "Mean entropy of attention rows against the number n of keys they see (log axis), one line a"
        " block, mean over its heads, at a few steps. From 64 keys on, positions are averaged in bins"
        " of an eighth of an octave. Dashed: uniform attention, ln n.{changed} Bands: {level} intervals"
        " ({interval}). Inputs: {inputs}."
    ),
    optional=(("scaled_entropy_by_position", "zhang2024_paper"),),
)
