"""Attention entropy of every head: maps at chosen steps, and curves over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lgamma
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.ticker import MaxNLocator

from figures import axes as shared
from figures.blocks import asked_checkpoints, spread_checkpoints
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names, head_mean, is_study, line_names
from figures.style import WIDTH, Theme

_MAPS = 6
_MANY_LINES = 200  # above this the heads' curves are one image inside the vector file
_CELL = 0.3  # inches; the widest cell of a map that stands alone
_ACROSS = WIDTH - 1.45  # inches between the margins
_SERIES = (
    "Above: all heads at a few steps. Below: each head (thin) and each block's mean (thick). The"
    " dashed line, where the input length T is known, is uniform attention under a causal mask,"
    " ln(T!)/T."
)
_ALONE = (
    "One map a checkpoint: curves need two or more checkpoints after step 0. Colours begin at 0 and"
    " reach at least uniform attention under a causal mask, ln(T!)/T, where the input length T is"
    " known."
)


def draw_heads(
    material: Material, theme: Theme, *, steps: Sequence[int] | None = None
) -> tuple[Figure, xr.Dataset]:
    """Draw block × head maps of attention entropy at a few steps, and every head's curve.

    A branch with fewer than two checkpoints after step 0 has its maps only.

    Parameters
    ----------
    material : head_entropy (checkpoint, block, head).
    steps : the steps of the maps; six spread evenly in log step by default.

    Returns
    -------
    The figure and a Dataset: `map` (chosen, block, head) and, of the branches with curves,
    `head_entropy` (checkpoint, block, head) and `block_mean` (checkpoint, block), the mean over heads
    (NaN if one head is NaN).

    Raises
    ------
    ValueError
        If a step asked for is not in a branch.

    Notes
    -----
    Entropy after arXiv 2303.06296 (curves, figure 1) and arXiv 2501.03489 (maps, figure 3). Where
    the node has the attribute `length` = T and the unit is nats, the dashed line is ln(T!)/T: the
    mean entropy of uniform attention under a causal mask. Memory: the measure.
    """
    data = material.measures["head_entropy"][["value"]].compute()
    data = data.assign(value=data["value"].transpose("checkpoint", "block", "head"))
    data = data.assign(block_mean=head_mean(data["value"]))
    attrs = material.measures["head_entropy"].attrs
    study = is_study(data)
    parts = list(by_branch(data))
    ceilings = [uniform_entropy(attrs, part) for _, part in parts]
    chosen = [_chosen(part, steps, branch) for branch, part in parts]
    curved = [int((part["tokens"].values > 0).sum()) > 1 for _, part in parts]
    finite = data["value"].values[np.isfinite(data["value"].values)]
    if finite.size == 0:
        raise ValueError("head_entropy is NaN at every checkpoint; there is nothing to draw")
    # One scale for all, unless models read inputs of different length: then each has its own.
    own = len(set(ceilings)) > 1
    highest = [float(part["value"].max() if own else finite.max()) for _, part in parts]
    tops = zip(highest, ceilings, strict=True)
    norms = [Normalize(0, max(high, ceiling or 0.0)) for high, ceiling in tops]
    unit = str(attrs.get("unit", ""))
    figure, specs = (_study_layout if study else _layout)(parts, chosen, curved)
    for index, (branch, part) in enumerate(parts):
        names = checkpoint_names(part, material.revisions)
        titles = [_title(names[c]) for c in chosen[index]]
        maps, curves = specs[index]
        if study:
            place = maps.get_position(figure)
            figure.text(
                place.x0, place.y1 + 0.3 / figure.get_figheight(),
                shared.shortened(branch, WIDTH - 1.45, size=9.5), fontsize=9.5, weight="bold",
            )  # fmt: skip
        elif len(parts) > 1:
            titles[0] = f"{branch}: {titles[0]}"
        shown = part.isel(checkpoint=chosen[index])
        if len(titles) == 1:
            bar = _map_alone(figure, maps, shown, norms[index], theme, titles[0])
            bar.set_label(f"entropy [{unit}]" if unit not in ("", "1") else "entropy")
        else:
            _maps(figure, maps, shown, norms[index], theme, titles)
        if curves is not None:
            _curves(figure, curves, part, ceilings[index], entropy_label(unit), theme)
    picked = [part.isel(checkpoint=c) for (_, part), c in zip(parts, chosen, strict=True)]
    kept = [branch for (branch, _), c in zip(parts, curved, strict=True) if c]
    table = _table(data, picked, kept, unit)
    told = _SERIES if kept else _ALONE
    told += " A model of one checkpoint has its map only." * (
        study and not all(curved) and any(kept)
    )
    table.attrs["panels"] = told + " Each model's colours reach its own uniform attention." * own
    return figure, table


def uniform_entropy(attrs: Mapping[Any, Any], part: xr.Dataset | None = None) -> float | None:
    """Return ln(T!)/T, the mean of ln(visible) over the rows of a causal mask, if T is known.

    Parameters
    ----------
    attrs : of the measure; `length` is T.
    part : one line of a study, whose models differ in T: its coordinate `length`, 0 if not known.
    """
    length = attrs.get("length")
    if part is not None and "length" in part.coords:
        length = int(part["length"].values.max()) or None
    if not isinstance(length, (int, float, np.integer)) or attrs.get("unit") != "nats":
        return None
    return lgamma(float(length) + 1) / float(length)


def mark_uniform(axes: Sequence[Axes], ceiling: float | None, theme: Theme) -> None:
    """Draw the entropy of uniform attention across all axes and name it in the last."""
    if ceiling is None:
        return
    for each in axes:
        each.axhline(ceiling, color=theme.muted, linestyle=(0, (4, 2.5)), linewidth=1.0)
    axes[-1].text(
        0.995, ceiling, f"uniform attention: ln(T!)/T = {ceiling:.2f}", ha="right", va="bottom",
        transform=axes[-1].get_yaxis_transform(), color=theme.muted, fontsize=8,
    )  # fmt: skip


def entropy_label(unit: str) -> str:
    """Return the label of an axis of head entropy."""
    return f"attention entropy [{unit}]" if unit not in ("", "1") else "attention entropy"


def _title(name: str) -> str:
    word, _, number = name.partition(" ")
    long = word == "step" and number.isdigit() and int(number) >= 100_000
    return f"step {shared.short_number(int(number))}" if long else name


def _layout(
    parts: Sequence[tuple[str, xr.Dataset]], chosen: Sequence[np.ndarray], curved: Sequence[bool]
) -> tuple[Figure, list[tuple[SubplotSpec, SubplotSpec | None]]]:
    """Return the figure and each branch's place for maps and, where it has any, for curves."""
    sizes = parts[0][1].sizes
    together = float(np.clip(0.16 * sizes["block"], 0.75, 2.6))
    alone = float(np.clip(_cell(sizes) * sizes["head"], 0.4, 4.5))
    heights: list[float] = []
    for places, curves in zip(chosen, curved, strict=True):
        heights += [alone if len(places) == 1 else together, *([2.0] if curves else [])]
    # Between rows: tick labels and axis labels, and the next row's title or steps.
    gaps = 0.7 if any(curved) else 0.7 / float(np.mean(heights))
    inner = sum(heights) + gaps * float(np.mean(heights)) * (len(heights) - 1)
    tall = len(parts) * (together + 3.25) + 0.05 if all(curved) else inner + 0.8
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        len(heights), 1, figure, height_ratios=heights, left=0.6 / WIDTH,
        right=1 - 0.85 / WIDTH, bottom=0.5 / tall, top=1 - 0.3 / tall, hspace=gaps,
    )  # fmt: skip
    rows = iter(grid[row] for row in range(len(heights)))
    return figure, [(next(rows), next(rows) if curves else None) for curves in curved]


def _study_layout(
    parts: Sequence[tuple[str, xr.Dataset]], chosen: Sequence[np.ndarray], curved: Sequence[bool]
) -> tuple[Figure, list[tuple[SubplotSpec, SubplotSpec | None]]]:
    """Return the figure and each line's places: under its name maps as high as its model is deep."""
    heights: list[float] = []
    for (_, part), places, curves in zip(parts, chosen, curved, strict=True):
        cells = _cell(part.sizes) * part.sizes["head"]
        alone, together = np.clip(cells, 0.4, 4.5), np.clip(0.16 * part.sizes["block"], 0.75, 2.6)
        # Space for the names above; for ticks, labels and steps between; for ticks and labels below.
        heights += [0.5, float(alone if len(places) == 1 else together)]
        heights += [0.95, 2.0, 0.55] if curves else [0.55]
    tall = sum(heights)
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        len(heights), 1, figure, height_ratios=heights, left=0.6 / WIDTH,
        right=1 - 0.85 / WIDTH, bottom=0, top=1, hspace=0,
    )  # fmt: skip
    specs: list[tuple[SubplotSpec, SubplotSpec | None]] = []
    row = 1
    for curves in curved:
        specs.append((grid[row], grid[row + 2] if curves else None))
        row += 5 if curves else 3
    return figure, specs


def _cell(sizes: Mapping[Any, int]) -> float:
    """Side in inches of the square cells of a map with blocks across."""
    return min(_CELL, _ACROSS / sizes["block"], 4.5 / sizes["head"])


def _chosen(part: xr.Dataset, steps: Sequence[int] | None, branch: str) -> np.ndarray:
    """Positions on the checkpoint axis of the maps."""
    if steps is None:
        return spread_checkpoints(part, _MAPS)
    return asked_checkpoints(part, steps, branch)


def _maps(
    figure: Figure,
    spec: SubplotSpec,
    part: xr.Dataset,
    norm: Normalize,
    theme: Theme,
    titles: Sequence[str],
) -> None:
    count = part.sizes["checkpoint"]
    grid = GridSpecFromSubplotSpec(1, count, spec, wspace=0.12)
    blocks, heads = part["block"].values, part["head"].values
    for index in range(count):
        axes = figure.add_subplot(grid[0, index])
        axes.pcolormesh(
            np.arange(heads.size + 1) - 0.5, np.arange(blocks.size + 1) - 0.5,
            part["value"].values[index], norm=norm, cmap=theme.heat_colours(), rasterized=True,
        )  # fmt: skip
        axes.set_title(titles[index])
        axes.grid(False)
        axes.set_xlabel("head")
        _few_ticks(axes, heads, blocks, labelled=index == 0)
    place = axes.get_position()
    _entropy_bar(figure, (1 - 0.72 / WIDTH, place.y0, place.height), norm, theme)


def _map_alone(
    figure: Figure, spec: SubplotSpec, part: xr.Dataset, norm: Normalize, theme: Theme, title: str
) -> Colorbar:
    """Draw one map with blocks across: a deep model's cells stay square and large."""
    axes = figure.add_subplot(spec)
    blocks, heads = part["block"].values, part["head"].values
    axes.pcolormesh(
        np.arange(blocks.size + 1) - 0.5, np.arange(heads.size + 1) - 0.5,
        part["value"].values[0].T, norm=norm, cmap=theme.heat_colours(), rasterized=True,
    )  # fmt: skip
    place = axes.get_position()
    width = _cell(part.sizes) * blocks.size / WIDTH
    axes.set_position((place.x0, place.y0, width, place.height))
    axes.set_title(title)
    axes.grid(False)
    for each, names in ((axes.xaxis, blocks), (axes.yaxis, heads)):
        kept = np.arange(0, names.size, max(1, -(-names.size // 15)))
        each.set_ticks(kept.tolist(), labels=[str(names[i]) for i in kept])
    axes.set_xlabel("block")
    axes.set_ylabel("head")
    return _entropy_bar(
        figure, (place.x0 + width + 0.13 / WIDTH, place.y0, place.height), norm, theme
    )


def _entropy_bar(
    figure: Figure, place: tuple[float, float, float], norm: Normalize, theme: Theme
) -> Colorbar:
    left, bottom, height = place
    side = figure.add_axes((left, bottom, 0.13 / WIDTH, height), label="bar entropy")
    bar = figure.colorbar(ScalarMappable(norm, theme.heat_colours()), cax=side)
    bar.set_label("entropy")
    bar.locator = MaxNLocator(4)
    bar.outline.set_visible(False)
    return bar


def _few_ticks(axes: Axes, heads: np.ndarray, blocks: np.ndarray, *, labelled: bool) -> None:
    across = np.arange(0, heads.size, max(1, -(-heads.size // 4)))
    up = np.arange(0, blocks.size, max(1, -(-blocks.size // 8)))
    axes.set_xticks(across, [str(heads[i]) for i in across])
    axes.set_yticks(up, [str(blocks[i]) for i in up] if labelled else [""] * up.size)
    if labelled:
        axes.set_ylabel("block")


def _curves(
    figure: Figure,
    spec: SubplotSpec,
    part: xr.Dataset,
    ceiling: float | None,
    name: str,
    theme: Theme,
) -> None:
    """Draw thin lines of heads and a thick line of each block's mean; step 0 stands apart."""
    tokens = part["tokens"].values.astype(float)
    seen = tokens > 0
    panel = shared.stacked_panels(figure, spec, [1.0], zero=not bool(seen.all()))[0]
    blocks = part["block"].values
    palette = theme.line_colours()
    colours = [palette(i / max(blocks.size - 1, 1)) for i in range(blocks.size)]
    many = blocks.size * part.sizes["head"] > _MANY_LINES
    for index, block in enumerate(blocks):
        heads = part["value"].values[:, index]
        mean = part["block_mean"].values[:, index]
        thin: dict[str, Any] = {"color": colours[index], "alpha": 0.4, "rasterized": many}
        panel.log.plot(tokens[seen], heads[seen], lw=0.6, label=f"_heads {block}", **thin)
        panel.log.plot(
            tokens[seen], mean[seen], color=colours[index], lw=2.0, label=f"block {block}"
        )
        if panel.zero is not None:
            start = np.zeros((~seen).sum())
            panel.zero.plot(start, heads[~seen], "_", markersize=5, label="_heads", **thin)
            panel.zero.plot(start, mean[~seen], "o", color=colours[index], label=f"block {block}")
    mark_uniform(panel.all, ceiling, theme)
    panel.left.set_ylabel(name)
    low, high = panel.log.get_ylim()
    # Room for the words above the dashed line, also where all heads are close to it.
    least = 1.07 * (ceiling or 0.0) if is_study(part) else high
    panel.log.set_ylim(min(0.0, low), max(high + 0.08 * (high - low), least))
    shared.token_axis([panel], tokens)
    shared.step_ticks(panel, part["step"].values.astype(float), tokens)
    _block_bar(figure, panel, blocks, theme)


def _block_bar(figure: Figure, panel: shared.Panel, blocks: np.ndarray, theme: Theme) -> None:
    """Draw the colour of each block; a legend would be too long for a deep model."""
    place = panel.log.get_position()
    side = figure.add_axes(
        (1 - 0.72 / WIDTH, place.y0, 0.13 / WIDTH, place.height), label="bar block"
    )
    norm = BoundaryNorm(np.arange(blocks.size + 1) - 0.5, 256)
    palette = theme.line_colours()
    bar = figure.colorbar(ScalarMappable(norm, palette), cax=side)
    kept = np.arange(0, blocks.size, max(1, -(-blocks.size // 12)))
    bar.set_ticks(kept.tolist(), labels=[str(blocks[i]) for i in kept])
    bar.set_label("block")
    bar.outline.set_visible(False)
    side.tick_params(length=0)
    side.minorticks_off()


def _table(
    data: xr.Dataset, maps: list[xr.Dataset], curved: Sequence[str], unit: str
) -> xr.Dataset:
    labels = np.concatenate([part["checkpoint"].values for part in maps])
    chosen = data["value"].sel(checkpoint=labels).rename(checkpoint="chosen")
    kept = np.isin(line_names(data).astype(str), curved)
    table = data.isel(checkpoint=kept).rename(value="head_entropy") if kept.any() else xr.Dataset()
    table["map"] = chosen
    for name in table.data_vars:
        table[name].attrs = {"units": unit}
    return table


ROW = FigureRow(
    name="heads",
    title="Attention entropy of heads",
    function=draw_heads,
    needs=(("head_entropy", "zhai2023"),),
    phases=False,
    source="arXiv 2303.06296, figure 1; arXiv 2501.03489, figure 3",
    caption=("Mean entropy of the attention rows of each head. {panels} Inputs: {inputs}."),
)
