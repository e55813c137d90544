"""How alike the layers of a checkpoint are, and each checkpoint and the one before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from figures.select import (
    Material,
    at_layer,
    by_branch,
    has_numbers,
    is_study,
    layer_names,
    require_series,
)
from figures.style import WIDTH, Theme

_MAPS = 4  # checkpoints shown as maps by default
_HEIGHT = 1.5  # inches of each panel over training
_LEFT, _RIGHT = 0.72, 0.85  # inches
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))


@dataclass(frozen=True)
class _Part:
    """One line: its maps at the checkpoints chosen, its drift, and the final layer's angles."""

    name: str
    mapped: xr.Dataset
    drift: xr.Dataset
    angles: xr.Dataset


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
    branch : which branch, of a study which line; by default the first with two checkpoints, of a
        study all that have them.

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
    Memory: the three measures of the branches drawn.
    """
    require_series(material.measures["layer_cka"])
    study = is_study(material.measures["layer_cka"])
    lines = _lines(material.measures["layer_cka"], branch, every=study)
    parts = [_part(material, name, steps) for name in lines]
    figure, blocks = _layout([part.mapped.sizes["checkpoint"] for part in parts], named=study)
    for part, (cells, panels) in zip(parts, blocks, strict=True):
        _draw_line(figure, cells, panels, part, theme)
        if study:
            _title(figure, cells[0], part.name)
    table = _table(material.measures["linear_cka"], parts)
    table.attrs["branch"] = ", ".join(lines)
    return figure, table


def _lines(data: xr.Dataset, wanted: str | None, *, every: bool) -> list[str]:
    """The branch asked for; by default the first that goes through training, of a study all."""
    parts = dict(by_branch(data))
    if wanted is not None:
        if wanted not in parts:
            raise ValueError(f"branch is {wanted!r}; give one of {', '.join(parts)}")
        return [wanted]
    through = [
        name
        for name, part in parts.items()
        if part.sizes["checkpoint"] > 1 and (part["tokens"].values > 0).any()
    ]
    return through if every else through[:1]


def _part(material: Material, name: str, steps: Sequence[int] | None) -> _Part:
    layers, drift, angles = (
        dict(by_branch(material.measures[measure]))[name]
        for measure in ("layer_cka", "linear_cka", "principal_angles")
    )
    mapped = layers.isel(checkpoint=_chosen(layers, steps)).compute()
    return _Part(name, mapped, drift.compute(), at_layer(angles, "final").compute())


def _draw_line(
    figure: Figure, cells: list[Axes], panels: list[shared.Panel], part: _Part, theme: Theme
) -> None:
    names = layer_names(part.drift)
    _maps(figure, cells, part.mapped, names, theme)
    colours = _drift(panels[0], part.drift, theme)
    _overlap(panels[1], part.angles, theme)
    tokens = part.drift["tokens"].values.astype(float)
    shared.token_axis(panels, tokens)
    shared.step_ticks(panels[0], part.drift["step"].values.astype(float), tokens)
    _legends(panels, names, colours, part.angles, theme)


def _title(figure: Figure, axes: Axes, name: str) -> None:
    place = axes.get_position()
    figure.text(
        place.x0, place.y1 + 0.28 / figure.get_figheight(),
        shared.shortened(name, WIDTH - _LEFT - 0.2, size=9), fontsize=9,
    )  # fmt: skip


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


def _layout(
    counts: list[int], *, named: bool
) -> tuple[Figure, list[tuple[list[Axes], list[shared.Panel]]]]:
    """One block a line, of so many maps above two panels over training."""
    inner = WIDTH - _LEFT - _RIGHT
    below, between, above, space = 0.5, 0.85, 0.55 if named else 0.35, 0.2
    sides = [min(1.25, (inner - 0.16 * (count - 1)) / count) for count in counts]
    heights = [above + side + between + 2 * _HEIGHT + space + below for side in sides]
    tall = sum(heights)
    figure = Figure(figsize=(WIDTH, tall))
    blocks = []
    for number, (count, side) in enumerate(zip(counts, sides, strict=True)):
        top = tall - sum(heights[:number])
        gap = (inner - count * side) / max(count - 1, 1)
        y = (top - above - side) / tall
        cells = [
            figure.add_axes(((_LEFT + i * (side + gap)) / WIDTH, y, side / WIDTH, side / tall))
            for i in range(count)
        ]
        bottom = top - heights[number] + below
        grid = GridSpec(
            1, 1, figure, left=_LEFT / WIDTH, right=1 - _RIGHT / WIDTH,
            bottom=bottom / tall, top=(bottom + 2 * _HEIGHT + space) / tall,
        )  # fmt: skip
        blocks.append((cells, shared.stacked_panels(figure, grid[0], [_HEIGHT] * 2, zero=False)))
    return figure, blocks


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


def _table(whole: xr.Dataset, parts: list[_Part]) -> xr.Dataset:
    """What is drawn, line below line; a map is NaN at a checkpoint that has none."""
    tables = []
    for part in parts:
        order = part.drift["checkpoint"].values
        # `other` is the checkpoint compared with: the maps have none.
        table = part.drift[["value"]].rename(value="drift_cka")
        table = table.drop_vars(["other", "layer_name"], errors="ignore")
        maps = part.mapped["value"].reindex(checkpoint=order)
        dims = ("checkpoint", "layer", "other_layer")
        table["layer_cka"] = (dims, maps.transpose(*dims).values)
        table = table.assign_coords(other_layer=part.mapped["other_layer"].values)
        directions = part.angles["directions"].values
        for name, source in (("overlap", "value"), ("random", "random")):
            if source in part.angles:
                values = part.angles[source].transpose("checkpoint", "directions").values
                table[name] = (("checkpoint", "directions"), values)
        tables.append(table.assign_coords(directions=directions))
    table = xr.concat(tables, "checkpoint", join="outer", coords="minimal", compat="override")
    names = dict(zip(whole["layer"].values.tolist(), layer_names(whole), strict=True))
    named = [names[int(number)] for number in table["layer"].values]
    table = table.assign_coords(layer_name=("layer", np.array(named)))
    for variable in table.data_vars.values():
        variable.attrs = {"units": "1"}
    return table.drop_attrs(deep=False)


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
        "{branch}. Above: debiased linear CKA of every two layers at the checkpoints named. Middle:"
        " debiased CKA of each layer with itself at the checkpoint before. Below: mean squared cosine"
        " of the principal angles between the leading eigenspaces of the final layer at each checkpoint"
        " and at the one before (1: the same subspace); dotted: two random subspaces, k / d. Neighbours"
        " that stand farther apart in training may differ more. Inputs: {inputs}."
    ),
)
