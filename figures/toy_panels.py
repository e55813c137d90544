"""The toy's paths, RankMe and singular values: one row of panels a task and start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.select import Material, MissingMeasure
from figures.style import WIDTH, Theme

NEEDS = (
    ("toy_rankme", "lambda_uncentered"),
    ("toy_singular_value", "uncentered"),
    ("toy_paths", "parameters"),
    ("toy_events", "lambda_uncentered"),
)
"""What every figure of the toy draws."""

CAPTION = (
    " One row a task and start. Left: paths of the readout W and of the features f in their first"
    " two components, seed {seed}, one colour a class; crosses are step 0, dots the last step. Right:"
    " RankMe of the features ({form}) and their two singular values, thin lines all seeds, thick line"
    " seed {seed}: dotted in the first fall, dashed in the largest drop after it, solid in between and"
    " after; the vertical line is where the two last classes part. Changes of more than {margin}"
    " count. {seen} {inputs}."
)
"""The part of the caption that the figures of the toy share."""

_ROW = 2.05  # inches
_DASHES: tuple[Any, ...] = ((0, (1, 1.2)), "-", (0, (4, 1.6)))
_NAMES = ("first fall", "rise", "drop after a rise")


def draw_tasks(
    material: Material, theme: Theme, *, tasks: Sequence[str], seed: int
) -> tuple[Figure, xr.Dataset]:
    """Draw the tasks from every start.

    Parameters
    ----------
    material : the measures of `NEEDS`.
    tasks : which of the store's tasks, from top to bottom.
    seed : the seed whose paths are drawn.

    Returns
    -------
    The figure and a Dataset over (task, start, …) of exactly what it shows.

    Raises
    ------
    ValueError
        If there is no such seed.
    MissingMeasure
        If the store was made without one of the tasks.
    """
    table = _table(material, tasks, seed)
    rows = [(task, start) for task in tasks for start in table["start"].values.tolist()]
    tall = _ROW * len(rows) + 0.75
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        len(rows), 3, figure, left=0.42 / WIDTH, right=1 - 0.2 / WIDTH, bottom=0.82 / tall,
        top=1 - 0.4 / tall, hspace=0.42, wspace=0.28, width_ratios=(1, 1, 1.35),
    )  # fmt: skip
    for number, (task, start) in enumerate(rows):
        cell = table.sel(task=task, start=start)
        counts = ", ".join(f"{int(count)}" for count in cell["counts"].values)
        weights, features = (figure.add_subplot(grid[number, column]) for column in (0, 1))
        weights.set_title(f"{_about(cell)}, counts {counts}: {_named(start)} start", pad=14)
        for axes, name in ((weights, "weights"), (features, "features")):
            _paths(axes, cell, name, theme)
            _heading(axes, "readout W" if name == "weights" else "features f", theme)
        top = _curves(figure, grid[number, 2], cell, theme, last=number == len(rows) - 1)
        dropped = material.measures["toy_events"]["dropped"].sel(task=task, start=start)
        said = f"drop after a rise: {int(dropped.sum())} of {dropped.size} seeds"
        _heading(top, said, theme)
    _legend(figure, table, theme)
    return figure, _described(table, material, seed)


def _table(material: Material, tasks: Sequence[str], seed: int) -> xr.Dataset:
    """Only what is drawn, at the steps at which the paths were kept."""
    measures = material.measures
    paths = measures["toy_paths"]
    known = {str(task) for task in paths["task"].values}
    if absent := [task for task in tasks if task not in known]:
        raise MissingMeasure(f"the store holds no task {', '.join(absent)}: run `phasescope toy`")
    seeds = paths["seed"].values.tolist()
    if seed not in seeds:
        raise ValueError(f"seed is {seed}; give one of {seeds[0]} to {seeds[-1]}")
    steps = paths["step"].values
    chosen = paths.sel(task=list(tasks), seed=seed, component=[1, 2]).drop_vars("seed")
    chosen = chosen.dropna("sample", how="all", subset=["features"])
    events = measures["toy_events"].sel(task=list(tasks))
    table = xr.Dataset(
        {
            "rankme": measures["toy_rankme"]["value"].sel(task=list(tasks), step=steps),
            "sigma": measures["toy_singular_value"]["value"].sel(task=list(tasks), step=steps),
            "features": chosen["features"],
            "weights": chosen["weights"],
            "counts": events["counts"],
            "about": events["about"],
        }
    )
    mine = events.sel(seed=seed).drop_vars("seed")
    names = ("fell", "dropped", "dip_step", "drop_step", "drop_end", "fork_step")
    table = table.assign({name: mine[name] for name in names}).compute()
    return table.assign_attrs(seed=seed)


def _pieces(cell: xr.Dataset) -> list[tuple[Any, slice]]:
    """The dashes of dip, rise and decline, and the kept steps each of them covers."""
    steps = cell["step"].values

    def nearest(name: str) -> int:
        return int(np.abs(steps - float(cell[name])).argmin())

    end = steps.size - 1
    dip = nearest("dip_step") if bool(cell["fell"]) else 0
    top = nearest("drop_step") if bool(cell["dropped"]) else end
    foot = nearest("drop_end") if bool(cell["dropped"]) else end
    parts = ((0, 0, dip), (1, dip, top), (2, top, foot), (1, foot, end))
    return [(_DASHES[kind], slice(a, b + 1)) for kind, a, b in parts if b > a]


def _paths(axes: Axes, cell: xr.Dataset, name: str, theme: Theme) -> None:
    """Draw each sample's or each class's path through the plane."""
    other = "sample" if name == "features" else "class"
    paths = cell[name].transpose(other, "step", "component").values
    counts = cell["counts"].values.astype(int)
    classes = np.arange(counts.size)
    if other == "sample":
        classes = np.repeat(classes, counts)
    axes.axhline(0, color=theme.faint, linewidth=0.8, zorder=0)
    axes.axvline(0, color=theme.faint, linewidth=0.8, zorder=0)
    for path, label in zip(paths, classes, strict=False):
        colour = theme.category(int(label))
        for dashes, part in _pieces(cell):
            axes.plot(*path[part].T, color=colour, linestyle=dashes, linewidth=1.3)
        axes.plot(*path[0], "x", color=theme.muted, markersize=4, zorder=4)
        axes.plot(*path[-1], "o", color=colour, markersize=4.5, zorder=3)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.1)
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))


def _curves(figure: Figure, spec: Any, cell: xr.Dataset, theme: Theme, *, last: bool) -> Axes:
    """RankMe above, the two singular values below, against step; returns the upper axes."""
    grid = GridSpecFromSubplotSpec(2, 1, spec, hspace=0.16, height_ratios=(1.25, 1))
    top = figure.add_subplot(grid[0])
    bottom = figure.add_subplot(grid[1], sharex=top)
    steps = cell["step"].values
    top.plot(steps, cell["rankme"].transpose("step", "seed"), color=theme.muted, alpha=0.3, lw=0.6)
    mine = cell.attrs["seed"]
    rankme = cell["rankme"].sel(seed=mine).values
    for dashes, part in _pieces(cell):
        top.plot(steps[part], rankme[part], color=theme.ink, linestyle=dashes, linewidth=1.7)
    for rank, colour in ((1, theme.category(0)), (2, theme.category(1))):
        sigma = cell["sigma"].sel(rank=rank)
        bottom.plot(steps, sigma.transpose("step", "seed"), color=colour, alpha=0.3, lw=0.6)
        bottom.plot(steps, sigma.sel(seed=mine), color=colour, linewidth=1.7)
        bottom.text(
            0.78 + 0.1 * rank, 0.06, f"σ{'₁₂'[rank - 1]}", color=colour, fontsize=9,
            transform=bottom.transAxes, ha="right",
        )  # fmt: skip
    fork = float(cell["fork_step"])
    if np.isfinite(fork):
        for axes in (top, bottom):
            axes.axvline(fork, color=theme.muted, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    top.set_xlim(0, float(steps[-1]))
    top.set_ylabel("RankMe", fontsize=8)
    bottom.set_ylim(0, None)
    bottom.set_ylabel("σ", fontsize=8)
    top.margins(y=0.1)
    for axes in (top, bottom):
        axes.yaxis.set_major_locator(MaxNLocator(3))
    top.tick_params(labelbottom=False)
    if last:
        bottom.set_xlabel("step")
    return top


def _heading(axes: Axes, said: str, theme: Theme) -> None:
    axes.text(0.0, 1.0, said, transform=axes.transAxes, color=theme.muted, fontsize=8, va="bottom")


def _about(cell: xr.Dataset) -> str:
    said = str(cell["about"].item())
    return said[0].upper() + said[1:]


def _named(start: Any) -> str:
    return "Gaussian" if str(start) == "gaussian" else str(start)


def _legend(figure: Figure, table: xr.Dataset, theme: Theme) -> None:
    classes = [
        Line2D([], [], color=theme.category(i), marker="o", label=f"class {i + 1}")
        for i in range(table.sizes["class"])
    ]
    parts = [
        Line2D([], [], color=theme.ink, linestyle=dashes, label=name)
        for dashes, name in zip(_DASHES, _NAMES, strict=True)
    ]
    figure.legend(
        handles=[*classes, *parts], loc="lower center", ncols=7, columnspacing=1.2, handlelength=2.2
    )


def _described(table: xr.Dataset, material: Material, seed: int) -> xr.Dataset:
    """Units, and what the caption says of the seeds, from the data."""
    events = material.measures["toy_events"]
    seen = []
    for task in table["task"].values:
        for start in table["start"].values:
            cell = events.sel(task=task, start=start)
            names = ("fell", "rose", "declined", "dropped")
            n = {name: int(cell[name].sum()) for name in names}
            drop = float(cell["drop"].median())
            seen.append(
                f"{_about(cell)}, {_named(start)} start: of {cell.sizes['seed']} seeds RankMe falls"
                f" first in {n['fell']}, rises in {n['rose']}, lies below its peak later in"
                f" {n['declined']}, and drops after a rise, for good or not, in {n['dropped']} (median"
                f" {_size(drop)})."
            )
    units = {"sigma": "feature", "features": "feature", "weights": "1 / feature"}
    steps = ("dip_step", "drop_step", "drop_end", "fork_step")
    for name in table.data_vars:
        table[name].attrs = {"units": "step" if name in steps else units.get(str(name), "1")}
    form = material.measures["toy_rankme"].attrs.get("convention", "not stated")
    return table.assign_attrs(
        seen=" ".join(seen),
        seed=seed,
        form=str(form).replace("_", ", ").replace("lambda", "eigenvalues"),
        margin=f"{float(events.attrs.get('margin', np.nan)):g}",
    )


def _size(value: float) -> str:
    return "0" if value < 5e-7 else f"{value:.2g}"
