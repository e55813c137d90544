"""Attention sinks: what the first key receives, head by head, and how many heads are sinks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.ticker import MaxNLocator

from figures import axes as shared
from figures.blocks import BAR_LEFT, BAR_WIDE, depth_bar, depth_colours, spread_checkpoints
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names
from figures.style import WIDTH, Theme

_MAPS = 6
_EPSILON = 0.3
_CELL = 0.3  # inches; the widest cell of a map that stands alone
_CURVED = (
    " Below: the same of every head over training (dashed: 0.3; dotted: uniform attention), and the sink"
    " rate of the model, the share of heads above 0.3, with its {level} interval."
)


def draw_sinks(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw block × head maps of the attention that the first key receives, and its course.

    Parameters
    ----------
    material : sink_mass (checkpoint, block, head, key), sink_rate (checkpoint, block, head) and
        model_sink_rate (checkpoint).

    Returns
    -------
    The figure and a Dataset: `importance`, `sink_rate` (checkpoint, block, head) and
    `model_sink_rate` with its bounds (checkpoint). A branch with fewer than two checkpoints after step
    0 has its maps only.

    Notes
    -----
    After arXiv 2410.10781, whose Sink_1 is the lowest panel. Memory: the measures.
    """
    mass = material.measures["sink_mass"].compute().sel(key=1)
    rate = material.measures["sink_rate"].compute()
    model = material.measures["model_sink_rate"].compute()
    data = xr.Dataset({"importance": mass["value"], "sink_rate": rate["value"]})
    data = data.assign(uniform=mass["uniform"])
    rates = dict(by_branch(model))
    parts = list(by_branch(data))
    curved = [int((part["tokens"].values > 0).sum()) > 1 for _, part in parts]
    figure, places = _page(parts, curved)
    for (branch, part), (maps, course) in zip(parts, places, strict=True):
        axes = _maps(figure, maps, part, theme, material)
        if len(parts) > 1:
            place = axes.get_position()
            figure.text(
                place.x0, place.y1 + 0.27 / figure.get_figheight(),
                shared.shortened(branch, WIDTH - 1.45, size=9.5), fontsize=9.5, weight="bold",
            )  # fmt: skip
        if course is not None:
            _course(figure, course, part, rates[branch], theme)
    table = data[["importance", "sink_rate"]]
    for name in ("value", "lower", "upper"):
        if name in model:
            table[f"model_sink_rate_{name}".removesuffix("_value")] = model[name]
    for variable in table.data_vars:
        table[variable].attrs = {"units": "1"}
    level = 100 * float(material.measures["sink_mass"].attrs.get("level", 0.95))
    table.attrs["curves"] = _CURVED.format(level=f"{level:g} %") if any(curved) else ""
    return figure, table


def _page(
    parts: Sequence[tuple[str, xr.Dataset]], curved: Sequence[bool]
) -> tuple[Figure, list[tuple[SubplotSpec, SubplotSpec | None]]]:
    """Return the figure and each branch's places for maps and, where it has any, for curves."""
    heights: list[float] = []
    named = 0.24 * (len(parts) > 1)
    for (_, part), course in zip(parts, curved, strict=True):
        alone = part.sizes["checkpoint"] == 1
        cells = part.sizes["head"] if alone else part.sizes["block"]
        size = float(np.clip((0.2 if alone else 0.16) * cells, 0.75, 2.8))
        # Space for titles above; then maps; for ticks, labels and steps between; then curves.
        heights += [0.32 + named, size, *([0.95, 2.6] if course else []), 0.55]
    tall = sum(heights)
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        len(heights), 1, figure, height_ratios=heights, left=0.6 / WIDTH, right=1 - 0.85 / WIDTH,
        bottom=0, top=1, hspace=0,
    )  # fmt: skip
    places: list[tuple[SubplotSpec, SubplotSpec | None]] = []
    row = 1
    for course in curved:
        places.append((grid[row], grid[row + 2] if course else None))
        row += 5 if course else 3
    return figure, places


def _maps(
    figure: Figure, spec: SubplotSpec, part: xr.Dataset, theme: Theme, material: Material
) -> Axes:
    """Draw a map a checkpoint, a dot where most samples have a sink; one alone has blocks across."""
    chosen = part.isel(checkpoint=spread_checkpoints(part, _MAPS))
    names = checkpoint_names(chosen, material.revisions)
    grid = GridSpecFromSubplotSpec(1, len(names), spec, wspace=0.12)
    top = float(np.nanmax(chosen["importance"].values, initial=_EPSILON))
    norm, colours = Normalize(0, top), theme.heat_colours()
    order = ("head", "block") if len(names) == 1 else ("block", "head")
    first: Axes | None = None
    for index, name in enumerate(names):
        axes = figure.add_subplot(grid[0, index])
        one = chosen.isel(checkpoint=index).transpose(*order)
        axes.pcolormesh(one["importance"].values, norm=norm, cmap=colours, rasterized=True)
        up, across = np.nonzero(one["sink_rate"].values > 0.5)
        axes.plot(across + 0.5, up + 0.5, "o", ms=3, mfc="white", mec="black", mew=0.6)
        axes.set_title(_title(name))
        axes.grid(False)
        axes.set_xlabel(order[1])
        _ticks(axes, one, order, labelled=first is None)
        first = first or axes
    assert first is not None
    place, left = axes.get_position(), BAR_LEFT
    if len(names) == 1:  # cells of a small model would be far wider than high
        width = min(place.width, _CELL * part.sizes["block"] / WIDTH)
        axes.set_position((place.x0, place.y0, width, place.height))
        left = place.x0 + width + BAR_WIDE
    side = figure.add_axes((left, place.y0, BAR_WIDE, place.height), label="bar importance")
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=side)
    bar.set_label("first key")
    bar.locator = MaxNLocator(3)
    bar.outline.set_visible(False)
    return first


def _title(name: str) -> str:
    word, _, number = name.partition(" ")
    long = word == "step" and number.isdigit() and int(number) >= 100_000
    return f"step {shared.short_number(int(number))}" if long else name


def _ticks(axes: Axes, one: xr.Dataset, order: tuple[str, str], *, labelled: bool) -> None:
    wide = order == ("head", "block")
    for axis, dim, most in (
        (axes.xaxis, order[1], 15 if wide else 4),
        (axes.yaxis, order[0], 10 if wide else 8),
    ):
        names = one[dim].values
        kept = np.arange(0, names.size, max(1, -(-names.size // most)))
        shown = [str(names[i]) for i in kept]
        axis.set_ticks(kept + 0.5, shown if labelled or dim == order[1] else [""] * kept.size)
    if labelled:
        axes.set_ylabel(order[0])


def _course(
    figure: Figure, spec: SubplotSpec, part: xr.Dataset, model: xr.Dataset, theme: Theme
) -> None:
    tokens = part["tokens"].values.astype(float)
    seen = tokens > 0
    heads, rate = shared.stacked_panels(
        figure, spec, [1.5, 1.0], zero=not bool(seen.all()), gap=0.14
    )
    colours = depth_colours(part.sizes["block"], theme)
    values = part["importance"].transpose("checkpoint", "block", "head").values
    many = values[0].size > 200
    for index, colour in enumerate(colours):
        label = f"block {part['block'].values[index]}"
        own = values[:, index]
        heads.log.plot(tokens[seen], own[seen], color=colour, lw=0.9, label=label, rasterized=many)
        if heads.zero is not None:
            start = np.zeros(int((~seen).sum()))
            heads.zero.plot(start, own[~seen], "_", color=colour, ms=5, label=label)
    uniform = float(part["uniform"].max())
    for axes in heads.all:
        axes.axhline(_EPSILON, color=theme.muted, ls=(0, (4, 2.5)), lw=1.0)
        axes.axhline(uniform, color=theme.muted, ls=(0, (1.2, 1.2)), lw=1.2)
    heads.left.set_ylabel("first key")
    heads.log.set_ylim(0, max(0.36, 1.05 * float(np.nanmax(values))))
    shared.draw_curve(rate, model, {"color": theme.category(0), "marker": "o"}, "sink rate")
    rate.left.set_ylabel("sink rate")
    top = float(np.nanmax(model["upper" if "upper" in model else "value"].values))
    rate.log.set_ylim(-0.02, max(0.1, 1.1 * top) if np.isfinite(top) else 0.1)
    shared.token_axis([heads, rate], tokens)
    shared.step_ticks(heads, part["step"].values.astype(float), tokens)
    depth_bar(figure, heads.log, [str(b) for b in part["block"].values], theme)


ROW = FigureRow(
    name="sinks",
    title="Attention sinks",
    function=draw_sinks,
    needs=(
        ("sink_mass", "by_key"),
        ("sink_rate", "gu2025"),
        ("model_sink_rate", "gu2025"),
    ),
    phases=False,
    source="arXiv 2410.10781, sink rates; maps after arXiv 2309.17453",
    caption=(
        "Mean attention that the first key receives in windows of the first tokens, head by head at a few"
        " steps; a dot marks heads whose first key has more than 0.3 in most samples.{curves} Inputs:"
        " {inputs}."
    ),
    extra=True,
)
