"""Loss and attention entropy at rising learning rates, with and without σReparam."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from figures.axes import short_number
from figures.row import FigureRow
from figures.select import Material
from figures.style import WIDTH, Theme

_COLUMNS = 6  # more learning rates than this leave no room for a curve
_ROWS = {
    "loss": "train loss\n[nats]",
    "entropy": "mean entropy of\nall blocks [nats]",
    "lowest": "mean entropy of\nlowest block [nats]",
    "qk_norm": "largest\n‖W_QᵀW_K‖₂ / √d",
}
_DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))


def draw_collapse(
    material: Material, theme: Theme, *, learning_rates: Sequence[float] | None = None
) -> tuple[Figure, xr.Dataset]:
    """Draw loss, entropy and query-key norm over steps: a column a learning rate, a colour a variant.

    Parameters
    ----------
    material : the measures of `ROW.needs`.
    learning_rates : which columns; all, or six spread evenly if there are more.

    Returns
    -------
    The figure and a Dataset over (variant, learning_rate, seed, step) of exactly what it shows.

    Raises
    ------
    ValueError
        If a learning rate asked for was not trained.
    """
    table = _table(material, learning_rates)
    rates = table["learning_rate"].values
    figure = Figure(figsize=(WIDTH, 6.9))
    grid = figure.subplots(
        len(_ROWS), len(rates), sharex=True, sharey="row", squeeze=False,
        gridspec_kw={
            "left": 0.72 / WIDTH, "right": 1 - 0.12 / WIDTH, "top": 0.955, "bottom": 0.125,
            "wspace": 0.12, "hspace": 0.14,
        },
    )  # fmt: skip
    for row, (name, label) in zip(grid, _ROWS.items(), strict=True):
        for axes, rate in zip(row, rates, strict=True):
            _curves(axes, table[name].sel(learning_rate=rate), theme)
            if name == "loss":
                _loss_axis(axes)
            if name == "qk_norm":
                axes.set_yscale("log")
                axes.set_xlabel("step")
            if name in ("entropy", "lowest"):
                axes.axhline(table.attrs["uniform"], color=theme.muted, lw=0.8, ls=(0, (4, 2)))
                axes.set_ylim(0, 1.06 * table.attrs["uniform"])
            if name == "lowest":
                axes.axhline(table.attrs["threshold"], color=theme.ink, lw=0.9, ls=(0, (1, 1.5)))
        row[0].set_ylabel(label, fontsize=8)
    for axes, rate in zip(grid[0], rates, strict=True):
        axes.set_title(f"rate {rate:g}")
    log_steps(grid[-1], table["step"].values)
    figure.align_ylabels(grid[:, 0])
    _legend(figure, table, theme)
    return figure, table


def _table(material: Material, learning_rates: Sequence[float] | None) -> xr.Dataset:
    """Only what is drawn."""
    measures = material.measures
    entropy = measures["collapse_entropy"]["value"].mean("head", skipna=False)
    events = measures["collapse_events"].compute()
    table = xr.Dataset(
        {
            "loss": measures["collapse_loss"]["value"],
            "entropy": entropy.mean("block", skipna=False),
            "lowest": entropy.min("block", skipna=False),
            "qk_norm": measures["collapse_qk_norm"]["value"].max(("block", "head"), skipna=False),
            "about": events["about"],
        }
    )
    known = table["learning_rate"].values
    if learning_rates is None:
        count = min(len(known), _COLUMNS)
        chosen = known[np.linspace(0, len(known) - 1, count).round().astype(int)]
    else:
        absent = [f"{r:g}" for r in learning_rates if r not in known]
        if absent:
            there = ", ".join(f"{r:g}" for r in known)
            raise ValueError(
                f"learning rate {', '.join(absent)} is not there; give some of {there}"
            )
        chosen = np.array(list(learning_rates))
    table = table.sel(learning_rate=chosen).compute()
    for name in table.data_vars:
        unit = "nats" if name in ("loss", "entropy", "lowest") else "1"
        table[name].attrs = {"units": unit}
    return table.assign_attrs(
        uniform=float(events["uniform"]),
        threshold=float(events["threshold"]),
        share=f"{100 * float(events.attrs['collapsed_below']):g} %",
        below=f"{float(events['threshold']):.3g}",
        variants="; ".join(
            f"{name}: {about}"
            for name, about in zip(table["variant"].values, table["about"].values, strict=True)
        ),
        seen=_seen(events.sel(learning_rate=chosen)),
    )


def _seen(events: xr.Dataset) -> str:
    """How many seeds collapsed, by variant and learning rate."""
    rates = ", ".join(f"{rate:g}" for rate in events["learning_rate"].values)
    told = []
    for variant in events["variant"].values:
        cell = events.sel(variant=variant)
        counts = ", ".join(f"{int(n)}" for n in cell["collapsed"].sum("seed").values)
        stopped = int((~cell["finished"]).sum())
        broke = f" ({stopped} runs stopped at a loss that is no number)" if stopped else ""
        told.append(f"{variant} {counts}{broke}")
    return f"Collapsed seeds of {events.sizes['seed']} at {rates}: {'; '.join(told)}."


def _curves(axes: Axes, data: xr.DataArray, theme: Theme) -> None:
    steps = data["step"].values
    for index, variant in enumerate(data["variant"].values):
        lines = data.sel(variant=variant).transpose("step", "seed").values
        colour = theme.category(index)
        axes.plot(steps, lines, color=colour, lw=0.6, alpha=0.55)
        # Where a seed has stopped there is no median of all of them.
        axes.plot(
            steps, np.median(lines, axis=1), color=colour, lw=1.6, ls=_DASHES[index % len(_DASHES)]
        )


def _loss_axis(axes: Axes) -> None:
    """Logarithmic: a spike must not flatten what the other rates show."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8), numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(short_number))
    axes.yaxis.set_minor_locator(NullLocator())


def log_steps(row: Sequence[Axes], steps: np.ndarray) -> None:
    """Step 0 and steps even in log on one axis, labelled sparsely."""
    last = int(steps[-1])
    ticks = [0, *(t for t in (1, 10, 100, 1000, 10000) if t <= last)]
    for axes in row:
        axes.set_xscale("symlog", linthresh=1, linscale=0.35)
        axes.set_xticks(ticks)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(short_number))
        axes.set_xlim(-0.15, last * 1.25)


def _legend(figure: Figure, table: xr.Dataset, theme: Theme) -> None:
    handles = [
        Line2D([], [], color=theme.category(i), ls=_DASHES[i % len(_DASHES)], lw=1.6, label=name)
        for i, name in enumerate(table["variant"].values)
    ]
    dashes = ((0, (4, 2)), (0, (1, 1.5)))
    names = ("uniform causal attention", "below: collapsed")
    handles += [
        Line2D([], [], color=colour, ls=ls, lw=0.9, label=name)
        for colour, ls, name in zip((theme.muted, theme.ink), dashes, names, strict=True)
    ]
    figure.legend(handles=handles, loc="lower center", ncols=3, columnspacing=2, handlelength=3)


ROW = FigureRow(
    name="collapse",
    title="Attention entropy at rising learning rates",
    function=draw_collapse,
    needs=(
        ("collapse_loss", "train"),
        ("collapse_entropy", "zhai2023"),
        ("collapse_qk_norm", "bare"),
        ("collapse_events", "share_of_uniform"),
    ),
    phases=False,
    source="arXiv 2303.06296, figure 1",
    caption="Training with and without σReparam ({variants}), a column a learning rate. From above:"
    " training loss of the batch; attention entropy of held-out text, mean of all rows, heads and blocks;"
    " the same of the block where it is lowest; the largest spectral norm of a head's W_QᵀW_K. Thin"
    " lines seeds, thick line their median. Dashed: uniform attention under a causal mask, ln(T!)/T;"
    " dotted: {share} of it, {below} nats, below which a block that ends there counts as collapsed."
    " {seen} {inputs}.",
    kind="collapse",
)
