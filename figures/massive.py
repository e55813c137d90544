"""Massive activations: the largest magnitudes of every layer, and over training against the median."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures import axes as shared
from figures.blocks import depth_bar, depth_colours
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names, layer_names
from figures.style import WIDTH, Theme

_HEIGHT, _GAP = 2.1, 1.35  # inches of a row, and between rows
_CURVED = (
    " Right: the largest over the median, geometric mean of samples, a line a layer (dashed: 1000)."
)
_MARKS = "os^"


def draw_massive(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw the three largest |x| and the median of every layer, and their ratio over training.

    Parameters
    ----------
    material : largest_activation (checkpoint, layer, largest), median_activation and massive_ratio
        (checkpoint, layer).

    Returns
    -------
    The figure and a Dataset: `largest_activation` (last, layer, largest) and `median_activation` (last,
    layer) of the last checkpoint of each branch, `massive_ratio` (checkpoint, layer) of all.

    Notes
    -----
    After arXiv 2402.17762, figure 2, whose criterion is |x| > 100 and > 1000 × the median; over training
    after arXiv 2508.03616. A branch with fewer than two checkpoints after step 0 has its profile only.
    Memory: the measures.
    """
    names = ("largest_activation", "median_activation", "massive_ratio")
    found = {name: material.measures[name].compute() for name in names}
    lines = [branch for branch, _ in by_branch(found[names[0]])]
    above, below = (0.85 if len(lines) > 1 else 0.55), 0.85
    tall = above + below + _HEIGHT * len(lines) + _GAP * (len(lines) - 1)
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        len(lines), 2, figure, left=0.62 / WIDTH, right=1 - 0.85 / WIDTH, bottom=below / tall,
        top=1 - above / tall, hspace=_GAP / _HEIGHT, wspace=0.27, width_ratios=(1, 1.25),
    )  # fmt: skip
    parts = {name: dict(by_branch(data)) for name, data in found.items()}
    profiles, curved = [], False
    for row, line in enumerate(lines):
        course = parts["massive_ratio"][line]
        last = xr.Dataset(
            {name: parts[name][line]["value"].isel(checkpoint=[-1]) for name in names[:2]}
        )
        profiles.append(last)
        own = int((course["tokens"].values > 0).sum()) > 1
        curved |= own
        axes = figure.add_subplot(grid[row, 0] if own else grid[row, :])
        _profile(axes, last.isel(checkpoint=0), theme)
        title = checkpoint_names(last, material.revisions)[0]
        axes.set_title(title)
        if len(lines) > 1:
            figure.text(
                axes.get_position().x0, axes.get_position().y1 + 0.56 / tall,
                shared.shortened(line, WIDTH - 1.5, size=9.5), fontsize=9.5, weight="bold",
            )  # fmt: skip
        if own:
            _course(figure, grid[row, 1], course, theme)
    _legend(figure, theme, "100 (left), 1000 (right)" if curved else "100")
    table = _table(profiles, found["massive_ratio"])
    table.attrs["curves"] = _CURVED if curved else ""
    table.attrs["begin"] = "Left: the" if curved else "The"
    return figure, table


def _profile(axes: Axes, part: xr.Dataset, theme: Theme) -> None:
    names = layer_names(part)
    x = np.arange(len(names))
    for index, rank in enumerate(part["largest"].values):
        axes.plot(
            x, part["largest_activation"].sel(largest=rank), marker=_MARKS[index % 3],
            color=theme.category(index), label=f"largest {rank}",
        )  # fmt: skip
    median = part["median_activation"].values
    axes.plot(x, median, color=theme.ink, marker=".", label="median")
    axes.plot(x, 1000 * median, color=theme.muted, ls=(0, (1.2, 1.2)), lw=1.0, label="1000 medians")
    axes.axhline(100, color=theme.muted, ls=(0, (4, 2.5)), lw=1.0)
    axes.set_yscale("log")
    _plain_log(axes)
    kept = np.arange(0, x.size, max(1, -(-x.size // 8)))
    axes.set_xticks(kept, [_short(names[i]) for i in kept])
    axes.set_xlabel("layer")
    axes.set_ylabel("|x|")


def _short(name: str) -> str:
    return {"embedding": "emb."}.get(name, name)


def _course(figure: Figure, spec: SubplotSpec, part: xr.Dataset, theme: Theme) -> None:
    tokens = part["tokens"].values.astype(float)
    panel = shared.stacked_panels(figure, spec, [1.0], zero=bool((tokens == 0).any()))[0]
    names = layer_names(part)
    for index, colour in enumerate(depth_colours(len(names), theme)):
        kept = [name for name in ("value", "lower", "upper") if name in part]
        shared.draw_curve(
            panel, part[kept].isel(layer=index), {"color": colour, "lw": 1.2}, names[index]
        )
    for axes in panel.all:
        axes.axhline(1000, color=theme.muted, ls=(0, (4, 2.5)), lw=1.0)
        axes.set_yscale("log")
    _plain_log(panel.left)
    panel.left.set_ylabel("largest |x| / median")
    shared.token_axis([panel], tokens)
    shared.step_ticks(panel, part["step"].values.astype(float), tokens)
    depth_bar(figure, panel.log, [_short(name) for name in names], theme, label="layer")


def _plain_log(axes: Axes) -> None:
    axes.yaxis.set_major_locator(LogLocator(base=10))
    axes.yaxis.set_major_formatter(FuncFormatter(shared.short_number))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, theme: Theme, dashed: str) -> None:
    keys = [
        Line2D([], [], color=theme.category(i), marker=_MARKS[i], label=name)
        for i, name in enumerate(("largest", "second", "third"))
    ]
    keys += [
        Line2D([], [], color=theme.ink, marker=".", label="median"),
        Line2D([], [], color=theme.muted, ls=(0, (1.2, 1.2)), label="1000 × median"),
        Line2D([], [], color=theme.muted, ls=(0, (4, 2.5)), label=dashed),
    ]
    figure.legend(handles=keys, loc="lower center", ncols=6, columnspacing=1.1, handlelength=1.9)


def _table(profiles: list[xr.Dataset], ratio: xr.Dataset) -> xr.Dataset:
    last = xr.concat(
        [part.rename(checkpoint="last") for part in profiles], "last", join="outer",
        coords="minimal", compat="override", combine_attrs="drop",
    )  # fmt: skip
    last = last.drop_vars(["step", "tokens", "branch", "line", "model"], errors="ignore")
    kept = [c for c in last.coords if c in last.dims]
    table = ratio[["value"]].rename(value="massive_ratio").drop_attrs()
    for name in last.data_vars:
        table[name] = last[name].drop_vars([c for c in last.coords if c not in kept])
        table[name].attrs = {"units": "activation"}
    table["massive_ratio"].attrs = {"units": "1"}
    return table


ROW = FigureRow(
    name="massive",
    title="Massive activations",
    function=draw_massive,
    needs=(
        ("massive_ratio", "geometric"),
        ("largest_activation", "sun2024"),
        ("median_activation", "sun2024"),
    ),
    phases=False,
    source="arXiv 2402.17762, figure 2; over training, arXiv 2508.03616",
    caption=(
        "{begin} three largest |x| of a sample's hidden states at each layer, and the median |x|, means"
        " over samples, at the last checkpoint. An activation is called massive above 100 (dashed) and"
        " above 1000 medians (dotted).{curves} Bands: {level} intervals ({interval}). Inputs: {inputs}."
    ),
    extra=True,
)
