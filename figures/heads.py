"""Attention entropy of every head: maps at chosen steps, and curves over training."""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.ticker import MaxNLocator

from figures import axes as shared
from figures.select import Material, by_branch
from figures.style import WIDTH, Theme

_MAPS = 6
_MANY_LINES = 200  # above this the heads' curves are one image inside the vector file


def draw_heads(
    material: Material, theme: Theme, *, steps: Sequence[int] | None = None
) -> tuple[Figure, xr.Dataset]:
    """Draw block × head maps of attention entropy at a few steps, and every head's curve.

    Parameters
    ----------
    material : head_entropy (checkpoint, block, head).
    steps : the steps of the maps; six spread evenly in log step by default.

    Returns
    -------
    The figure and a Dataset: `map` (chosen, block, head), `head_entropy` (checkpoint, block, head) and
    `block_mean` (checkpoint, block), the mean over heads (NaN if one head is NaN).

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
    data = data.assign(block_mean=data["value"].mean("head", skipna=False))
    ceiling = _ceiling(material.measures["head_entropy"].attrs)
    parts = list(by_branch(data))
    chosen = [_chosen(part, steps, branch) for branch, part in parts]
    finite = data["value"].values[np.isfinite(data["value"].values)]
    if finite.size == 0:
        raise ValueError("head_entropy is NaN at every checkpoint; there is nothing to draw")
    norm = Normalize(0, max(float(finite.max()), ceiling or 0.0))
    map_height = float(np.clip(0.16 * data.sizes["block"], 0.75, 2.6))
    tall = len(parts) * (map_height + 3.25) + 0.05
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        2 * len(parts), 1, figure, height_ratios=[map_height, 2.0] * len(parts),
        left=0.6 / WIDTH, right=1 - 0.85 / WIDTH, bottom=0.5 / tall, top=1 - 0.3 / tall,
        hspace=0.7,
    )  # fmt: skip
    unit = str(material.measures["head_entropy"].attrs.get("unit", ""))
    name = f"attention entropy [{unit}]" if unit not in ("", "1") else "attention entropy"
    for index, (branch, part) in enumerate(parts):
        title = f"{branch}: " if len(parts) > 1 else ""
        _maps(figure, grid[2 * index], part.isel(checkpoint=chosen[index]), norm, theme, title)
        _curves(figure, grid[2 * index + 1], part, ceiling, name, theme)
    shown = [part.isel(checkpoint=c) for (_, part), c in zip(parts, chosen, strict=True)]
    return figure, _table(data, shown, unit)


def _ceiling(attrs: dict[str, object]) -> float | None:
    """Return ln(T!)/T, the mean of ln(visible) over the rows of a causal mask, if T is known."""
    length = attrs.get("length")
    if not isinstance(length, (int, float, np.integer)) or attrs.get("unit") != "nats":
        return None
    return lgamma(float(length) + 1) / float(length)


def _chosen(part: xr.Dataset, steps: Sequence[int] | None, branch: str) -> np.ndarray:
    """Positions on the checkpoint axis of the maps."""
    have = part["step"].values.astype(int)
    if steps is not None:
        absent = [step for step in steps if step not in have]
        if absent:
            near = have[np.argmin(np.abs(have - absent[0]))]
            raise ValueError(
                f"steps holds {absent[0]}, not measured in branch {branch}; the nearest is {near}"
            )
        return np.array([int(np.flatnonzero(have == step)[0]) for step in steps])
    if have.size <= _MAPS:
        return np.arange(have.size)
    begin = int(have[0] == 0)
    marks = np.geomspace(have[begin], have[-1], _MAPS - begin)
    near = [int(np.argmin(np.abs(np.log(have[begin:] / mark)))) + begin for mark in marks]
    return np.unique([0] * begin + near)


def _maps(
    figure: Figure, spec: SubplotSpec, part: xr.Dataset, norm: Normalize, theme: Theme, title: str
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
        number = int(part["step"].values[index])
        step = str(number) if number < 100_000 else shared.short_number(number)
        axes.set_title(f"{title if index == 0 else ''}step {step}")
        axes.grid(False)
        axes.set_xlabel("head")
        _few_ticks(axes, heads, blocks, labelled=index == 0)
    place = axes.get_position()
    side = figure.add_axes(
        (1 - 0.72 / WIDTH, place.y0, 0.13 / WIDTH, place.height), label="bar entropy"
    )
    bar = figure.colorbar(ScalarMappable(norm, theme.heat_colours()), cax=side)
    bar.set_label("entropy")
    bar.locator = MaxNLocator(4)
    bar.outline.set_visible(False)


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
    if ceiling is not None:
        for axes in panel.all:
            axes.axhline(ceiling, color=theme.muted, linestyle=(0, (4, 2.5)), linewidth=1.0)
        panel.log.text(
            0.995, ceiling, f"uniform attention: ln(T!)/T = {ceiling:.2f}", ha="right", va="bottom",
            transform=panel.log.get_yaxis_transform(), color=theme.muted, fontsize=8,
        )  # fmt: skip
    panel.left.set_ylabel(name)
    low, high = panel.log.get_ylim()
    panel.log.set_ylim(min(0.0, low), high + 0.08 * (high - low))
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


def _table(data: xr.Dataset, maps: list[xr.Dataset], unit: str) -> xr.Dataset:
    chosen = xr.concat([part["value"] for part in maps], "checkpoint")
    table = data.rename(value="head_entropy")
    labels = chosen["checkpoint"].values
    table["map"] = table["head_entropy"].sel(checkpoint=labels).rename(checkpoint="chosen")
    for name in table.data_vars:
        table[name].attrs = {"units": unit}
    return table
