"""Induction over training: maps of the score, its curves, the loss of each copy, and ablation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from figures import axes as shared
from figures.head_maps import (
    LEFT,
    RIGHT,
    chosen_rows,
    draw_maps,
    map_height,
    step_titles,
)
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names, is_study
from figures.style import WIDTH, Theme

_CURVES = (1.7, 1.25, 1.25)  # inches: scores, loss of copies, ablation
_MANY_LINES = 200  # above this the heads' curves are one image inside the vector file
_LEAST_TOP = 0.3  # of the maps' colours: no head that does nothing shall look bright
_STRIP = 0.5  # inches of the ablation of a single checkpoint
_ABLATION = "induction_ablation"


def draw_induction(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw block × head maps of the induction score at a few steps, and curves over training below.

    Parameters
    ----------
    material : induction_score (checkpoint, block, head); where there are any, repeated_loss
        (checkpoint, copy) and induction_ablation (checkpoint, copy).

    Returns
    -------
    The figure and a Dataset: `induction_score` (checkpoint, block, head), and what is drawn of the
    others. A branch with fewer than two checkpoints after step 0 has its map and, if it was captured, the
    ablation's range.

    Raises
    ------
    ValueError
        If every score is NaN.

    Notes
    -----
    After Nanda's induction mosaic (maps of final models) and arXiv 2209.11895 (curves). Memory: the
    measures.
    """
    shown = {name: data.compute() for name, data in material.measures.items()}
    scores = shown["induction_score"]
    if not np.isfinite(scores["value"].values).any():
        raise ValueError("induction_score is NaN at every checkpoint; there is nothing to draw")
    others = {name: dict(by_branch(data)) for name, data in shown.items()}
    parts = list(by_branch(scores))
    curved = [int((part["tokens"].values > 0).sum()) > 1 for _, part in parts]
    heights = [
        _heights(part, has_curves, {name: branch in own for name, own in others.items()})
        for (branch, part), has_curves in zip(parts, curved, strict=True)
    ]
    named = len(parts) > 1
    tall = sum(sum(h) for h in heights) + 0.3 * named * len(parts) + 0.1
    figure = Figure(figsize=(WIDTH, tall))
    top = tall - 0.05
    for (branch, part), has_curves, own in zip(parts, curved, heights, strict=True):
        if named:
            top -= 0.3
            figure.text(
                LEFT / WIDTH, (top + 0.06) / tall, shared.shortened(branch, WIDTH - 1.45, size=9.5),
                fontsize=9.5, weight="bold",
            )  # fmt: skip
        mine = {name: data[branch] for name, data in others.items() if branch in data}
        _branch(figure, top, part, mine, own, material, theme, curves=has_curves)
        top -= sum(own)
    return figure, _table(shown, any(curved))


def _heights(part: xr.Dataset, curves: bool, has: Mapping[str, bool]) -> tuple[float, ...]:
    """Inches of a branch's parts: title, maps, space below them, panels, foot."""
    maps = chosen_rows(part).size if curves else 1
    high = map_height(part, maps)
    strip = _STRIP + 0.75 if has.get(_ABLATION) else 0.05
    if not curves:
        return (0.3, high, 0.5, strip)
    rows = [_CURVES[0]]
    rows += [_CURVES[1]] * bool(has.get("repeated_loss")) + [_CURVES[2]] * bool(has.get(_ABLATION))
    return (0.3, high, 0.95, sum(rows) + 0.16 * (len(rows) - 1), 0.55)


def _branch(
    figure: Figure,
    top: float,
    part: xr.Dataset,
    mine: Mapping[str, xr.Dataset],
    heights: tuple[float, ...],
    material: Material,
    theme: Theme,
    *,
    curves: bool,
) -> None:
    """Draw one branch from `top` (inches) downwards."""
    names = checkpoint_names(part, material.revisions)
    chosen = chosen_rows(part) if curves else np.array([part.sizes["checkpoint"] - 1])
    values = part["value"].transpose("checkpoint", "block", "head").isel(checkpoint=chosen)
    titles = step_titles([names[row] for row in chosen])
    bottom = top - heights[0] - heights[1]
    norm = Normalize(0, max(_LEAST_TOP, float(np.nanmax(part["value"].values))))
    draw_maps(figure, bottom, heights[1], values, titles, norm, theme, "induction score")
    below = bottom - heights[2]
    if not curves:
        if _ABLATION in mine:
            _strip(figure, below - 0.2, mine[_ABLATION].isel(checkpoint=chosen[-1:]), theme)
        return
    _panels(figure, below, heights[3], part, mine, theme)


def _panels(
    figure: Figure,
    top: float,
    height: float,
    part: xr.Dataset,
    mine: Mapping[str, xr.Dataset],
    theme: Theme,
) -> None:
    """Scores of all heads, loss of each copy, and ablation, on one axis of tokens."""
    tall = figure.get_figheight()
    tokens = part["tokens"].values.astype(float)
    rows = [_CURVES[0], *(_CURVES[1] for name in ("repeated_loss", _ABLATION) if name in mine)]
    grid = GridSpec(
        1, 1, figure, left=LEFT / WIDTH, right=1 - RIGHT / WIDTH, bottom=(top - height) / tall,
        top=top / tall,
    )  # fmt: skip
    panels = shared.stacked_panels(figure, grid[0], rows, zero=bool((tokens == 0).any()))
    _scores(figure, panels[0], part, theme)
    free = iter(panels[1:])
    if "repeated_loss" in mine:
        _losses(next(free), mine["repeated_loss"], theme)
    if _ABLATION in mine:
        _ablation(next(free), mine[_ABLATION], theme)
    shared.token_axis(panels, tokens)
    shared.step_ticks(panels[0], part["step"].values.astype(float), tokens)


def _scores(figure: Figure, panel: shared.Panel, part: xr.Dataset, theme: Theme) -> None:
    """Draw every head's curve in its block's colour, and the colours beside it."""
    blocks = part["block"].values
    palette = theme.line_colours()
    many = blocks.size * part.sizes["head"] > _MANY_LINES
    tokens = part["tokens"].values.astype(float)
    seen = tokens > 0
    values = part["value"].transpose("checkpoint", "block", "head").values
    for index, block in enumerate(blocks):
        colour = palette(index / max(blocks.size - 1, 1))
        panel.log.plot(
            tokens[seen], values[seen, index], color=colour, lw=0.9, alpha=0.8, rasterized=many,
            label=f"_heads {block}",
        )  # fmt: skip
        if panel.zero is not None and not seen.all():
            start = np.zeros((~seen).sum())
            panel.zero.plot(start, values[~seen, index], "_", markersize=5, color=colour)
    panel.left.set_ylabel("induction\nscore")
    high = max(1.05 * float(np.nanmax(values)), 0.05)
    panel.log.set_ylim(0, high)
    place = panel.log.get_position()
    side = figure.add_axes(
        (1 - (RIGHT - 0.13) / WIDTH, place.y0, 0.13 / WIDTH, place.height),
        label=f"bar block {place.y0:.4f}",
    )
    bar = figure.colorbar(
        ScalarMappable(BoundaryNorm(np.arange(blocks.size + 1) - 0.5, 256), palette), cax=side
    )
    kept = np.arange(0, blocks.size, max(1, -(-blocks.size // 8)))
    bar.set_ticks(kept.tolist(), labels=[str(blocks[i]) for i in kept])
    bar.set_label("block")
    bar.outline.set_visible(False)
    side.tick_params(length=0)
    side.minorticks_off()


def _losses(panel: shared.Panel, data: xr.Dataset, theme: Theme) -> None:
    """Draw the loss of each copy with its band."""
    for index, copy in enumerate(data["copy"].values):
        style = {"color": theme.category(index), "linestyle": "-", "marker": "o"}
        shared.draw_curve(panel, data.sel(copy=copy), style, f"copy {copy}")
    panel.left.set_ylabel("loss of a\ncopy [nats]")
    _legend(panel)


def _ablation(panel: shared.Panel, data: xr.Dataset, theme: Theme) -> None:
    """Draw what the second copy loses without the strongest heads, and without random ones."""
    last = data.sel(copy=2)
    drawn = _random(last)["value"]
    random = xr.Dataset(
        {"value": drawn.mean("group"), "lower": drawn.min("group"), "upper": drawn.max("group")}
    )
    both = (("strongest", last.sel(group="strongest")), ("random", random))
    for index, (label, one) in enumerate(both):
        style = {"color": theme.category(index), "linestyle": "-", "marker": "o"}
        shared.draw_curve(panel, one, style, label)
    panel.left.set_ylabel("loss without\nheads [nats]")
    _legend(panel)


def _random(data: xr.Dataset) -> xr.Dataset:
    """The random groups of heads."""
    names = data["group"].values.astype(str)
    return data.isel(group=np.flatnonzero(np.char.startswith(names, "random")))


def _legend(panel: shared.Panel) -> None:
    handles = [line for line in panel.log.lines if not str(line.get_label()).startswith("_")]
    panel.log.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.02), handlelength=1.0,
        borderaxespad=0.2, handletextpad=0.4,
    )  # fmt: skip


def _strip(figure: Figure, top: float, data: xr.Dataset, theme: Theme) -> None:
    """Draw the ablation of one checkpoint: two rows of a mark and a line."""
    tall = figure.get_figheight()
    left = 0.35 + LEFT
    axes = figure.add_axes(
        (left / WIDTH, (top - _STRIP) / tall, (WIDTH - left - RIGHT) / WIDTH, _STRIP / tall),
        label=f"strip {top:.3f}",
    )
    last = data.sel(copy=2).isel(checkpoint=0)
    best = last.sel(group="strongest")
    axes.plot([best["lower"], best["upper"]], [0, 0], "-", color=theme.category(0), lw=2)
    axes.plot([float(best["value"])], [0], "o", color=theme.category(0), markersize=5)
    drawn = _random(last)["value"].values
    axes.plot(drawn, np.full(drawn.size, -1), "o", color=theme.category(1), markersize=5, alpha=0.5)
    axes.set_yticks([0, -1], ["strongest", "random"])
    axes.set_ylim(-1.6, 0.6)
    axes.axvline(0, color=theme.muted, lw=0.7)
    axes.set_xlabel("increase of the second copy's loss without these heads [nats]")


def _table(shown: Mapping[str, xr.Dataset], curved: bool) -> xr.Dataset:
    scores = shown["induction_score"]
    table = scores[["value"]].rename(value="induction_score")
    told = "One map a checkpoint." if not curved else "Above: all heads at a few steps."
    if curved:
        told += " Below: every head over training, in the colour of its block"
    if "repeated_loss" in shown:
        loss = shown["repeated_loss"]
        for name, new in (("value", "loss"), ("lower", "loss_lower"), ("upper", "loss_upper")):
            table[new] = loss[name]
        told += "; the loss of each copy" * curved
    if _ABLATION in shown:
        data = shown[_ABLATION].sel(copy=2, drop=True)
        for name in ("value", "lower", "upper"):
            table[f"ablation_{name}"] = data[name]
        told += "; " if curved else " Below: "
        told += (
            "the increase of the second copy's loss without the strongest induction heads (95 %"
            " interval over samples) and without as many random others ("
        )
        told += ("mean and range of" if curved else "each of") + " the draws)"
    told += "." if not told.endswith(".") else ""
    for name in map(str, table.data_vars):
        table[name].attrs = {"units": "1" if name == "induction_score" else "nats"}
    if is_study(scores):
        told += " Each line of the study has its own maps."
    table.attrs["panels"] = told
    return table


ROW = FigureRow(
    name="induction",
    title="Induction heads",
    function=draw_induction,
    needs=(("induction_score", "valid_rows"),),
    optional=(("repeated_loss", "by_copy"), ("induction_ablation", "zero")),
    phases=False,
    source="the induction mosaic of N. Nanda, and arXiv 2209.11895",
    caption=(
        "Induction score: attention from a token that has come before to the token that followed it"
        " then, mean over such rows only and over samples. {panels} Inputs: {inputs}."
    ),
    extra=True,
)
