"""The spectrum band by band over training: α within ranges of ranks, RankMe without the top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures import axes as shared
from figures.lines import step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    at_layer,
    by_branch,
    has_numbers,
    merge_tables,
    require_series,
    with_course,
)
from figures.style import WIDTH, Theme

_HEIGHTS = [1.6, 1.6]  # inches of the panel of α and of that of RankMe
_MARKERS = "os^Dv"
_DIMS = {"band_alpha": "band", "rankme_without_top": "removed"}


def draw_bands(
    material: Material, theme: Theme, *, layer: str | int = "final"
) -> tuple[Figure, xr.Dataset]:
    """Draw α in each band of ranks, and RankMe without the top k directions, against tokens.

    Parameters
    ----------
    material : band_alpha (checkpoint, layer, band), rankme_without_top (checkpoint, layer, removed),
        optionally rankme (checkpoint, layer) to compare with.
    layer : the layer shown, by name or number.

    Returns
    -------
    The figure, one pair of panels a branch, and a Dataset with `band_alpha` (checkpoint, band),
    `rankme_without_top` (checkpoint, removed; 0 is RankMe itself) and their intervals. A band or k
    without a number is left out.

    Raises
    ------
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If there is no such layer, or no number at it.

    Notes
    -----
    Memory: the measures of one layer.
    """
    require_series(material.measures["band_alpha"])
    found, absent = _found(material, layer)
    shown = {name: _with_numbers(data, _DIMS[name]) for name, data in found.items()}
    if not all(shown[name].sizes[dim] for name, dim in _DIMS.items()):
        raise ValueError(f"layer {layer!r} has too few ranks for every band or k; nothing to draw")
    styles = {
        name: _styles(name, data[_DIMS[name]].values.tolist(), theme)
        for name, data in shown.items()
    }
    parts = [dict(by_branch(data)) for data in shown.values()]
    lines = [line for line in parts[0] if line in parts[1]]
    figure, stacks = _layout(shown, lines)
    tokens = np.concatenate([data["tokens"].values for data in shown.values()]).astype(float)
    for line, panels in zip(lines, stacks, strict=True):
        for panel, (name, data) in zip(panels, shown.items(), strict=True):
            part = dict(by_branch(data))[line]
            for label, style in styles[name].items():
                one = part.sel({_DIMS[name]: label})
                shared.draw_curve(panel, one, style, str(label))
        shared.token_axis(panels, tokens)
        _, first = step_axis_of(parts[0][line])
        steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
        shared.step_ticks(panels[0], steps, seen)
    _value_axes(stacks, shown)
    _legends(figure, styles)
    table = _table(shown)
    table.attrs["notes"] = _notes(found, shown, absent)
    return figure, table


def _found(material: Material, layer: str | int) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Both measures at a layer, RankMe itself as k = 0, and the lines that have no course."""
    found, absent = {}, dict[str, None]()
    for name in _DIMS:
        data, short = with_course(at_layer(material.measures[name], layer).compute())
        found[name] = data[[n for n in ("value", "lower", "upper") if n in data]]
        found[name].attrs = data.attrs
        absent |= dict.fromkeys(short)
    whole = material.measures.get("rankme")
    if whole is not None:
        rest = found["rankme_without_top"]
        data, _ = with_course(at_layer(whole, layer)[list(rest.data_vars)].compute())
        data = data.reindex(checkpoint=rest["checkpoint"])[list(rest.data_vars)]
        data = data.reset_coords(drop=True).expand_dims(removed=[0])
        both = xr.concat([data, rest], "removed", coords="minimal", compat="override")
        found["rankme_without_top"] = both.transpose("checkpoint", ...).assign_attrs(rest.attrs)
    return found, list(absent)


def _with_numbers(data: xr.Dataset, dim: str) -> xr.Dataset:
    """Keep the labels along a dimension at which there is any number."""
    kept = [has_numbers(data["value"].sel({dim: label})) for label in data[dim].values]
    return data.isel({dim: np.flatnonzero(kept)})


def _styles(name: str, labels: list[Any], theme: Theme) -> dict[Any, dict[str, Any]]:
    """Colour and mark of each band, or of each k: a ramp, and ink for RankMe itself."""
    styles: dict[Any, dict[str, Any]] = {}
    ramp = theme.line_colours()
    last = max(len(labels) - 1, 1)
    for number, label in enumerate(labels):
        colour = theme.category(number) if name == "band_alpha" else to_hex(ramp(number / last))
        colour = theme.ink if label == 0 else colour
        styles[label] = {"color": colour, "marker": _MARKERS[number % len(_MARKERS)]}
    return styles


def _layout(
    shown: Mapping[str, xr.Dataset], lines: list[str]
) -> tuple[Figure, list[list[shared.Panel]]]:
    columns = min(len(lines), 2)
    rows = -(-len(lines) // columns)
    above, below, between = 0.72 if len(lines) > 1 else 0.5, 0.95, 1.15
    tall = rows * sum(_HEIGHTS) * 1.06 + (rows - 1) * between + above + below
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        rows, columns, figure, left=0.62 / WIDTH, right=1 - 0.12 / WIDTH,
        bottom=below / tall, top=1 - above / tall,
        hspace=between / (sum(_HEIGHTS) * 1.06), wspace=0.18,
    )  # fmt: skip
    zero = any(bool((data["tokens"].values == 0).any()) for data in shown.values())
    stacks = []
    for index, line in enumerate(lines):
        cell = grid[index // columns, index % columns]
        panels = shared.stacked_panels(figure, cell, _HEIGHTS, zero=zero)
        if index % columns == 0:
            panels[0].left.set_ylabel("α within a band")
            panels[1].left.set_ylabel("RankMe [directions]")
        if len(lines) > 1:
            place = panels[0].left.get_position()
            wide = (WIDTH - 0.9) / columns - 0.2
            name = shared.shortened(line, wide, size=9)
            figure.text(place.x0, place.y1 + 0.5 / tall, name, fontsize=9)
        stacks.append(panels)
    return figure, stacks


def _value_axes(stacks: list[list[shared.Panel]], shown: Mapping[str, xr.Dataset]) -> None:
    """One axis of α and one of RankMe for all lines."""
    for number, (name, data) in enumerate(shown.items()):
        values = [data[n].values for n in data.data_vars]
        finite = np.concatenate([v[np.isfinite(v)] for v in values])
        low, high = float(finite.min()), float(finite.max())
        for panels in stacks:
            for axes in panels[number].all:
                if name == "band_alpha":
                    margin = 0.05 * max(high - low, 0.1)
                    axes.set_ylim(low - margin, high + margin)
                    continue
                axes.set_yscale("log")
                axes.set_ylim(low / 1.12, high * 1.12)
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(FuncFormatter(shared.short_number))
                axes.yaxis.set_minor_formatter(NullFormatter())


def _legends(figure: Figure, styles: Mapping[str, Mapping[Any, dict[str, Any]]]) -> None:
    """The bands in one row at the foot, the numbers of directions left out in another below it."""
    for row, (name, keys) in enumerate(styles.items()):
        words = [_named(name, label) for label in keys]
        handles = [
            Line2D([], [], label=word, **style)
            for word, style in zip(words, keys.values(), strict=True)
        ]
        place = (0.5, (0.19 * (1 - row)) / figure.get_figheight())
        figure.legend(
            handles=handles, loc="lower center", bbox_to_anchor=place, ncols=len(handles),
            columnspacing=1.4, handlelength=2.2,
        )  # fmt: skip


def _named(name: str, label: Any) -> str:
    if name == "band_alpha":
        text = str(label)
        return (
            f"α, ranks {text[:-1]} and up"
            if text.endswith("+")
            else f"α, ranks {text.replace('-', '–')}"
        )
    return "RankMe" if label == 0 else f"without top {label}"


def _notes(
    found: Mapping[str, xr.Dataset], shown: Mapping[str, xr.Dataset], absent: list[str]
) -> str:
    """Say which bands, numbers and lines are missing, and why."""
    notes = ""
    for name, dim in _DIMS.items():
        kept = shown[name][dim].values.tolist()
        left = [str(label) for label in found[name][dim].values.tolist() if label not in kept]
        if left:
            what = "bands of ranks" if dim == "band" else "k ="
            notes += f"Not there, for want of ranks: {what} {', '.join(left)}. "
    if absent:
        notes += f"Without {', '.join(absent)}: one checkpoint has no course. "
    return notes


def _table(shown: Mapping[str, xr.Dataset]) -> xr.Dataset:
    parts = []
    for name, data in shown.items():
        names = {"value": name, "lower": f"{name}_lower", "upper": f"{name}_upper"}
        kept = data.rename({n: new for n, new in names.items() if n in data})
        kept = kept.drop_vars(["layer", "layer_name", "depth"], errors="ignore")
        for variable in kept.data_vars.values():
            variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(kept)
    return merge_tables(parts)


ROW = FigureRow(
    name="bands",
    title="The spectrum band by band",
    function=draw_bands,
    needs=(("band_alpha", "centered"), ("rankme_without_top", "li2025")),
    optional=(("rankme", "li2025"),),
    phases=False,
    source="arXiv 2509.23024, section 3; bands and removed heads after training-time-entropy-circuits",
    caption=(
        "Layer {layer}, against tokens seen (log axis; step 0 left of the break). Above: the decay"
        " exponent α of the centred covariance's eigenvalues within each band of ranks (weight"
        " 1/rank). Below: RankMe, and RankMe of what is left without the top k directions (log axis)."
        " {notes}Shaded: {level} intervals ({interval}; on ln RankMe). Inputs: {inputs}."
    ),
)
