"""Attention entropy over steps with fewer nonlinearities, with and without regularisation."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.collapse import log_steps
from figures.row import FigureRow
from figures.select import Material
from figures.style import WIDTH, Theme


def draw_entropy_regularised(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw each block's entropy over steps: a column an architecture, a row a regulariser.

    Parameters
    ----------
    material : the measures of `ROW.needs`.

    Returns
    -------
    The figure and a Dataset: `entropy` (architecture, regulariser, seed, step, block), mean of heads, and
    `loss` (architecture, regulariser, seed), held-out, at the last step.
    """
    measures = material.measures
    node = measures["regularisation_entropy"]
    loss = measures["regularisation_loss"]["value"].isel(step=-1, drop=True)
    table = xr.Dataset(
        {
            "entropy": node["value"].mean("head", skipna=False),
            "loss": loss,
            "about": node["about"],
            "told": node["told"],
        }
    ).compute()
    names, rules = table["architecture"].values, table["regulariser"].values
    figure = Figure(figsize=(WIDTH, 1.45 * len(rules) + 1.0))
    tall = figure.get_figheight()
    grid = figure.subplots(
        len(rules), len(names), sharex=True, sharey=True, squeeze=False,
        gridspec_kw={
            "left": 0.75 / WIDTH, "right": 1 - 0.1 / WIDTH, "top": 1 - 0.42 / tall,
            "bottom": 0.78 / tall, "wspace": 0.1, "hspace": 0.16,
        },
    )  # fmt: skip
    colours = theme.line_colours()(np.linspace(0, 1, table.sizes["block"]))
    uniform = float(node.attrs["uniform"])
    for row, rule in zip(grid, rules, strict=True):
        for axes, name in zip(row, names, strict=True):
            cell = table.sel(architecture=name, regulariser=rule)
            _panel(axes, cell, colours, uniform, theme)
        row[0].set_ylabel(f"{rule}\nentropy [nats]", fontsize=8)
    for axes, about in zip(grid[0], table["about"].values, strict=True):
        axes.set_title(str(about).replace(", ", ",\n"), fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("step")
    log_steps(grid[-1], table["step"].values)
    figure.align_ylabels(grid[:, 0])
    handles = [
        Line2D([], [], color=colour, label=f"block {block}")
        for colour, block in zip(colours, table["block"].values, strict=True)
    ]
    handles.append(
        Line2D([], [], color=theme.muted, ls=(0, (4, 2)), lw=0.9, label="uniform causal attention")
    )
    figure.legend(handles=handles, loc="lower center", ncols=6, columnspacing=1.4)
    for name in table.data_vars:
        table[name].attrs = {"units": "1" if name in ("about", "told") else "nats"}
    rows = "; ".join(
        f"{rule}: {told}" for rule, told in zip(rules, table["told"].values, strict=True)
    )
    return figure, table.assign_attrs(rows=rows)


def _panel(axes: Axes, cell: xr.Dataset, colours: np.ndarray, uniform: float, theme: Theme) -> None:
    steps = cell["step"].values
    for colour, block in zip(colours, cell["block"].values, strict=True):
        lines = cell["entropy"].sel(block=block).transpose("step", "seed").values
        axes.plot(steps, lines, color=colour, lw=0.5, alpha=0.5)
        axes.plot(steps, np.median(lines, axis=1), color=colour, lw=1.5)
    axes.axhline(uniform, color=theme.muted, lw=0.8, ls=(0, (4, 2)))
    axes.set_ylim(0, uniform * 1.08)
    loss = float(np.median(cell["loss"].values))
    said = f"loss {loss:.2f}" if np.isfinite(loss) else "loss NaN"
    box = {"facecolor": theme.page, "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    axes.text(0.05, 0.06, said, transform=axes.transAxes, fontsize=8, color=theme.ink, bbox=box)


ROW = FigureRow(
    name="entropy_regularised",
    title="Attention entropy with fewer nonlinearities, regularised and not",
    function=draw_entropy_regularised,
    needs=(("regularisation_entropy", "zhai2023"), ("regularisation_loss", "held_out")),
    phases=False,
    source="arXiv 2501.03489, figures 5 and 8",
    caption="Attention entropy of each block on held-out text, mean of rows and heads, over training."
    " Columns: what is left of the nonlinearities. Rows: {rows}. Thin lines seeds, thick line their"
    " median; dashed: uniform attention under a causal mask. In the panels: held-out loss at the"
    " end, nats, median of the seeds. {inputs}.",
    kind="regularisation",
)
