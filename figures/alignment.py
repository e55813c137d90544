"""How alike the layers of a checkpoint are, and each checkpoint and the one before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D

from figures import axes as shared
from figures.row import FigureRow
from figures.select import Material, at_layer, by_branch, has_numbers, layer_names, require_series
from figures.style import WIDTH, Theme

_MAPS = 4  # checkpoints shown as maps by default
_HEIGHT = 1.5  # inches of each panel over training
_LEFT, _RIGHT = 0.72, 0.85  # inches
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))


def draw_alignment(
    material: Material,
    theme: Theme,
    *,
    steps: Sequence[int] | None = None,
    branch: str | None = None,
) -> tuple[Figure, xr.Dataset]:
    """Draw CKA of every two layers at a few checkpoints, and the drift from checkpoint to checkpoint.

    Parameters
    ----------
    material : layer_cka (checkpoint, layer, other_layer), linear_cka with the checkpoint before
        (checkpoint, layer) and principal_angles likewise (checkpoint, layer, directions).
    steps : checkpoints shown as maps, at most 4; spread over the logarithm of tokens by default.
    branch : which branch, of a study which line; the first with two checkpoints by default.

    Returns
    -------
    The figure and a Dataset with `layer_cka` at the checkpoints mapped, `drift_cka` (checkpoint,
    layer) and, of the final layer, `overlap` and `random` (checkpoint, directions).

    Raises
    ------
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If there is no such branch or step, or more than 4 steps are asked for.

    Notes
    -----
    Memory: the three measures of one branch.
    """
    require_series(material.measures["layer_cka"])
    maps = _line(material.measures["layer_cka"], branch)
    name = next(iter(maps))
    mapped = maps[name]
    drift = _line(material.measures["linear_cka"], name)[name].compute()
    angles = at_layer(_line(material.measures["principal_angles"], name)[name], "final").compute()
    chosen = mapped.isel(checkpoint=_chosen(mapped, steps)).compute()
    names = layer_names(drift)
    figure, cells, panels = _layout(chosen.sizes["checkpoint"])
    _maps(figure, cells, chosen, names, theme)
    colours = _drift(panels[0], drift, theme)
    _overlap(panels[1], angles, theme)
    tokens = drift["tokens"].values.astype(float)
    shared.token_axis(panels, tokens)
    shared.step_ticks(panels[0], drift["step"].values.astype(float), tokens)
    _legends(panels, names, colours, angles, theme)
    table = _table(chosen, drift, angles)
    table.attrs["branch"] = name
    return figure, table


def _line(data: xr.Dataset, wanted: str | None) -> dict[str, xr.Dataset]:
    """The branch asked for, by its name; the first with two checkpoints by default."""
    parts = dict(by_branch(data))
    if wanted is None:
        for name, part in parts.items():
            if part.sizes["checkpoint"] > 1 and (part["tokens"].values > 0).any():
                return {name: part}
    if wanted not in parts:
        raise ValueError(f"branch is {wanted!r}; give one of {', '.join(parts)}")
    return {wanted: parts[wanted]}


def _chosen(data: xr.Dataset, steps: Sequence[int] | None) -> list[int]:
    """Rows of the checkpoints mapped."""
    known = data["step"].values.astype(int).tolist()
    if steps is not None:
        missing = [step for step in steps if step not in known]
        if missing or not 1 <= len(steps) <= _MAPS:
            there = ", ".join(map(str, known))
            raise ValueError(f"steps is {list(steps)}; give 1 to {_MAPS} of {there}")
        return [known.index(step) for step in steps]
    # Step 0 first, where there is one; the rest evenly in log tokens, the last included.
    logs = np.log(np.maximum(data["tokens"].values.astype(float), 1.0))
    start = logs[logs > 0].min() if (logs > 0).any() else 0.0
    wanted = np.linspace(start, logs.max(), _MAPS)
    rows = {int(np.abs(logs - place).argmin()) for place in wanted[1:]}
    return sorted({0, *rows})


def _layout(count: int) -> tuple[Figure, list[Axes], list[shared.Panel]]:
    inner = WIDTH - _LEFT - _RIGHT
    side = min(1.25, (inner - 0.16 * (count - 1)) / count)
    below, between, above = 0.5, 0.85, 0.35
    tall = above + side + between + 2 * _HEIGHT + 0.2 + below
    figure = Figure(figsize=(WIDTH, tall))
    gap = (inner - count * side) / max(count - 1, 1) if count > 1 else 0.0
    cells = [
        figure.add_axes(
            (
                (_LEFT + i * (side + gap)) / WIDTH,
                1 - (above + side) / tall,
                side / WIDTH,
                side / tall,
            )
        )
        for i in range(count)
    ]
    grid = GridSpec(
        1, 1, figure, left=_LEFT / WIDTH, right=1 - _RIGHT / WIDTH,
        bottom=below / tall, top=(below + 2 * _HEIGHT + 0.2) / tall,
    )  # fmt: skip
    return figure, cells, shared.stacked_panels(figure, grid[0], [_HEIGHT] * 2, zero=False)


def _maps(
    figure: Figure, cells: list[Axes], chosen: xr.Dataset, names: list[str], theme: Theme
) -> None:
    values = chosen["value"].transpose("checkpoint", "layer", "other_layer").values
    # Debiased CKA may fall a little below 0.
    norm = Normalize(min(0.0, float(np.nanmin(values, initial=0.0))), 1.0)
    edges = np.arange(len(names) + 1) - 0.5
    stride = max(1, -(-len(names) // 7))
    ticks = list(range(0, len(names) - 1, stride))
    ticks = [t for t in ticks if t <= len(names) - 1 - stride or stride == 1]
    for axes, matrix, step in zip(cells, values, chosen["step"].values, strict=True):
        axes.pcolormesh(edges, edges, matrix, norm=norm, cmap=theme.heat_colours(), rasterized=True)
        axes.grid(False)
        axes.set_title(f"step {int(step)}")
        axes.set_xticks(ticks, [_short(names[t]) for t in ticks])
        axes.set_yticks([])
    cells[0].set_yticks(
        [*ticks, len(names) - 1], [_short(names[t]) for t in ticks] + [_short(names[-1])]
    )
    cells[0].set_ylabel("layer")
    place = cells[-1].get_position()
    side = figure.add_axes(
        (place.x1 + 0.12 / WIDTH, place.y0, 0.13 / WIDTH, place.height), label="bar cka"
    )
    bar = figure.colorbar(ScalarMappable(norm, theme.heat_colours()), cax=side)
    bar.set_label("CKA")
    bar.outline.set_visible(False)


def _short(name: str) -> str:
    return {"embedding": "emb."}.get(name, name)


def _drift(panel: shared.Panel, drift: xr.Dataset, theme: Theme) -> Colormap:
    ramp = theme.line_colours()
    values = drift["value"].transpose("layer", "checkpoint").values
    tokens = drift["tokens"].values.astype(float)
    seen = tokens > 0
    for number, row in enumerate(values):
        colour = ramp(number / max(len(values) - 1, 1))
        panel.log.plot(
            tokens[seen], row[seen], color=colour, marker="o", markersize=2.2, linewidth=1.2
        )
    panel.log.set_ylabel("CKA with\nthe one before")
    return ramp


def _overlap(panel: shared.Panel, angles: xr.Dataset, theme: Theme) -> None:
    tokens = angles["tokens"].values.astype(float)
    seen = tokens > 0
    for i, k in enumerate(angles["directions"].values):
        part = angles.sel(directions=k)
        style: dict[str, Any] = {"color": theme.category(i)}
        panel.log.plot(
            tokens[seen], part["value"].values[seen], linestyle=_LINES[i % 3], marker="o",
            markersize=2.2, linewidth=1.3, **style,
        )  # fmt: skip
        if "random" in part and has_numbers(part["random"]):
            panel.log.axhline(
                float(np.nanmean(part["random"].values)), linewidth=0.9,
                linestyle=(0, (1, 2.5)), **style,
            )  # fmt: skip
    panel.log.set_ylim(-0.03, 1.03)
    panel.log.set_ylabel("overlap with\nthe one before")


def _legends(
    panels: list[shared.Panel], names: list[str], ramp: Colormap, angles: xr.Dataset, theme: Theme
) -> None:
    shown = sorted({0, (len(names) - 1) // 2, len(names) - 2, len(names) - 1} - {-1})
    layers = [
        Line2D([], [], color=ramp(i / max(len(names) - 1, 1)), marker="o", markersize=2.2,
               label=_short(names[i]))
        for i in shown
    ]  # fmt: skip
    spaces = [
        Line2D([], [], color=theme.category(i), linestyle=_LINES[i % 3], label=f"top {k}")
        for i, k in enumerate(angles["directions"].values)
    ]
    spaces.append(
        Line2D([], [], color=theme.muted, linestyle=(0, (1, 2.5)), lw=0.9, label="random")
    )
    for panel, handles, title in ((panels[0], layers, "layer"), (panels[1], spaces, "final layer")):
        panel.log.legend(
            handles=handles, title=title, title_fontsize=8, loc="center left",
            bbox_to_anchor=(1.0, 0.5), handlelength=1.4, borderpad=0.1, alignment="left",
        )  # fmt: skip


def _table(chosen: xr.Dataset, drift: xr.Dataset, angles: xr.Dataset) -> xr.Dataset:
    parts = [
        chosen[["value"]].rename(value="layer_cka"),
        drift[["value"]].rename(value="drift_cka"),
        angles[[n for n in ("value", "random") if n in angles]]
        .rename(value="overlap")
        .drop_vars(["layer", "layer_name", "depth"], errors="ignore"),
    ]
    # `other` is the checkpoint compared with: the maps have none.
    found = [part.drop_vars("other", errors="ignore") for part in parts]
    table = xr.merge(found, join="outer", compat="override", combine_attrs="drop")
    order = [str(c) for c in drift["checkpoint"].values]
    table = table.sel(checkpoint=order)
    for name in ("step", "tokens", "branch"):
        table[name] = ("checkpoint", drift[name].values)
    for variable in table.data_vars.values():
        variable.attrs = {"units": "1"}
    return table.set_coords(["step", "tokens", "branch"])


ROW = FigureRow(
    name="alignment",
    title="Likeness of layers, and drift through training",
    function=draw_alignment,
    needs=(
        ("layer_cka", "debiased"),
        ("linear_cka", "debiased_previous"),
        ("principal_angles", "previous"),
    ),
    phases=False,
    source="arXiv 1905.00414; Björck & Golub 1973",
    caption=(
        "Branch {branch}. Above: debiased linear CKA of every two layers at four checkpoints. Middle:"
        " debiased CKA of each layer with itself at the checkpoint before. Below: mean squared cosine"
        " of the principal angles between the leading eigenspaces of the final layer at each checkpoint"
        " and at the one before (1: the same subspace); dotted: two random subspaces, k / d. Neighbours"
        " that stand farther apart in training may differ more. Inputs: {inputs}."
    ),
)
