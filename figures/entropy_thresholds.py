"""Learned entropy thresholds of every head, and bands of entropy against the tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from figures.row import FigureRow
from figures.select import Material
from figures.style import WIDTH, Theme


def draw_entropy_thresholds(
    material: Material, theme: Theme, *, architecture: str = "none", seed: int = 0
) -> tuple[Figure, xr.Dataset]:
    """Draw θ and the entropy of each head as shares of E_max, and bands over margins.

    Parameters
    ----------
    material : the measures of `ROW.needs`.
    architecture, seed : whose maps are drawn; bands are means over seeds.

    Returns
    -------
    The figure and a Dataset: `threshold` and `entropy` (regulariser, block, head), and `bands`
    (margin, seed, band).

    Raises
    ------
    ValueError
        If there is no such architecture or seed.
    """
    table = _table(material, architecture, seed)
    figure = Figure(figsize=(WIDTH, 4.7))
    grid = GridSpec(
        2, 5, figure, left=0.62 / WIDTH, right=1 - 0.55 / WIDTH, top=0.9, bottom=0.2, hspace=0.62,
        wspace=0.45, width_ratios=(1, 1, 1, 1, 0.08), height_ratios=(1, 1.15),
    )  # fmt: skip
    image: Any = None
    column = 0
    for rule in table["regulariser"].values:
        for name, label in (("threshold", "θ"), ("entropy", "entropy / ln T")):
            axes = figure.add_subplot(grid[0, column])
            image = _map(axes, table[name].sel(regulariser=rule), theme)
            axes.set_title(f"{label}\n{rule}", fontsize=8)
            axes.set_xlabel("head")
            if column == 0:
                axes.set_ylabel("block")
            column += 1
    bar = figure.colorbar(image, cax=figure.add_subplot(grid[0, 4]))
    bar.ax.tick_params(labelsize=8)
    axes = figure.add_subplot(grid[1, 0:4])
    _bands(axes, table["bands"], theme)
    handles = [
        Patch(color=colour, label=f"{name} quarter")
        for colour, name in zip(_colours(table, theme), table["band"].values, strict=True)
    ]
    figure.legend(handles=handles, loc="lower center", ncols=4)
    return figure, table


def _table(material: Material, architecture: str, seed: int) -> xr.Dataset:
    measures = material.measures
    theta = measures["regularisation_threshold"]["value"].isel(step=-1, drop=True)
    entropy = measures["regularisation_entropy"]
    for name, asked in (("architecture", architecture), ("seed", seed)):
        known = theta[name].values.tolist()
        if asked not in known:
            raise ValueError(f"{name} is {asked}; give one of {', '.join(map(str, known))}")
    cell = {
        "architecture": architecture,
        "seed": seed,
        "regulariser": ["jha2025_paper", "jha2025_code"],
    }
    top = float(np.log(entropy.attrs["length"]))
    bands = measures["regularisation_bands"]
    shares = entropy["value"].isel(step=-1, drop=True) / top
    table = xr.Dataset(
        {
            "threshold": theta.sel(cell, drop=True),
            "entropy": shares.sel(cell, drop=True),
            "bands": bands["value"],
        }
    ).compute()
    for variable in table.data_vars.values():
        variable.attrs = {"units": "1"}
    convention = str(bands.attrs["convention"])
    named = {"observed_max": "the largest head entropy of each model", "causal_uniform": "ln(T!)/T"}
    return table.assign_attrs(
        architecture=architecture,
        seed=seed,
        reference=named.get(convention, convention),
        margin=f"{float(entropy.attrs['margin']):g}",
    )


def _map(axes: Axes, data: xr.DataArray, theme: Theme) -> Any:
    values = data.transpose("block", "head").values
    image = axes.pcolormesh(
        data["head"].values, data["block"].values, values, cmap=theme.heat_colours(), vmin=0, vmax=1
    )
    heads, blocks = data["head"].values.tolist(), data["block"].values.tolist()
    for (y, x), value in np.ndenumerate(values):
        if values.size <= 36 and np.isfinite(value):
            said = f"{value:.2f}".removeprefix("0")
            ink = "#000000" if value > 0.5 else "#ffffff"
            axes.text(heads[x], blocks[y], said, ha="center", va="center", fontsize=8, color=ink)
    axes.grid(False)
    axes.invert_yaxis()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    return image


def _colours(table: xr.Dataset, theme: Theme) -> Any:
    return theme.line_colours("cividis")(np.linspace(0.05, 1, table.sizes["band"]))


def _bands(axes: Axes, bands: xr.DataArray, theme: Theme) -> None:
    means = 100 * bands.mean("seed", skipna=False).transpose("margin", "band").values
    places = np.arange(len(means))
    floor = np.zeros(len(means))
    for colour, share in zip(_colours(bands.to_dataset(), theme), means.T, strict=True):
        axes.bar(places, share, bottom=floor, color=colour, width=0.75)
        floor = floor + share
    axes.set_xticks(places, [f"{margin:g}" for margin in bands["margin"].values])
    axes.set_xlabel("tolerance γ")
    axes.set_ylabel("heads [%]")
    axes.set_ylim(0, 100)
    axes.grid(False, axis="x")


ROW = FigureRow(
    name="entropy_thresholds",
    title="Learned entropy thresholds, and bands against the tolerance",
    function=draw_entropy_thresholds,
    needs=(
        ("regularisation_threshold", "share"),
        ("regularisation_entropy", "zhai2023"),
        ("regularisation_bands", "observed_max"),
    ),
    phases=False,
    source="arXiv 2501.03489, figures 6 and 7",
    caption="Above: the learned threshold θ of each head and the entropy it ends with, as shares of ln T"
    " under the penalty on head means and under that on every row, with tolerance {margin};"
    " architecture `{architecture}`, seed {seed}. Below: share of heads in each quarter of {reference},"
    " at the end of training without nonlinearities under the penalty on every row, against the tolerance"
    " γ, mean over seeds. {inputs}.",
    kind="regularisation",
)
