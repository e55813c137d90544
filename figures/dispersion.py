"""How the cloud spreads over its directions, in several numbers, over training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from figures import axes as shared
from figures.lines import legend_rows, line_legend, line_looks, step_axis_of
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

_TALL, _GAP = 1.25, 0.34  # inches of a panel, and of the title above it
_LEFT, _MIDDLE, _RIGHT = 0.5, 0.5, 0.12  # inches


@dataclass(frozen=True)
class _Panel:
    """What stands above a panel, and whether its axis is logarithmic."""

    title: str
    logarithmic: bool = False


# Down the left column, then down the right one.
_PANELS = {
    "participation_ratio": _Panel("participation ratio [directions]", True),
    "stable_rank": _Panel("stable rank [directions]", True),
    "condition_number": _Panel("condition number λ₁ / λᵣ", True),
    "anisotropy": _Panel("mean cosine of two points"),
    "spectral_entropy": _Panel("spectral entropy / its maximum"),
    "intrinsic_dimension": _Panel("intrinsic dimension (TwoNN)", True),
}


def draw_dispersion(
    material: Material, theme: Theme, *, layer: str | int = "final"
) -> tuple[Figure, xr.Dataset]:
    """Draw participation ratio, stable rank, mean cosine and what else there is against tokens.

    Parameters
    ----------
    material : participation_ratio, stable_rank and anisotropy (checkpoint, layer); optionally
        spectral_entropy, condition_number and intrinsic_dimension.
    layer : the layer shown, by name or number.

    Returns
    -------
    The figure and a Dataset with each measure and its interval, `NAME_lower` and `NAME_upper`.

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
    require_series(material.measures["participation_ratio"])
    shown, absent = _shown(material, layer)
    if not shown:
        raise ValueError(f"every measure is NaN at layer {layer!r}; there is nothing to draw")
    looks = line_looks(shown.values(), theme)
    columns = _columns(list(shown))
    figure, panels = _layout(shown, columns, len(looks))
    for name, data in shown.items():
        for line, part in by_branch(data):
            shared.draw_curve(panels[name], part, looks[line].style, line)
        _value_axis(panels[name], name, data)
    tokens = np.concatenate([data["tokens"].values for data in shown.values()]).astype(float)
    for column in columns:
        shared.token_axis([panels[name] for name in column], tokens)
        label, first = step_axis_of(shown[column[0]])
        steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
        shared.step_ticks(panels[column[0]], steps, seen, label=label)
    if len(looks) > 1:
        line_legend(figure, looks, {line: line for line in looks})
    table = _table(shown)
    notes = f"Without {', '.join(absent)}: one checkpoint has no course. " if absent else ""
    ends = shown.get("condition_number")
    if ends is not None and "last" in ends:
        found = np.unique(ends["last"].values[np.isfinite(ends["last"].values)]).astype(int)
        told = str(found[0]) if found.size == 1 else f"{found[0]} to {found[-1]}"
        notes = f"r is {told}, the last rank above 1e-12 λ₁. {notes}"
    table.attrs["notes"] = notes
    return figure, table


def _shown(material: Material, layer: str | int) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Measures that have numbers at a layer, without the lines that have no course."""
    shown, absent = {}, dict[str, None]()
    for name in _PANELS:
        if name not in material.measures:
            continue
        data, short = with_course(at_layer(material.measures[name], layer).compute())
        absent |= dict.fromkeys(short)
        if has_numbers(data["value"]):
            shown[name] = data
    return shown, list(absent)


def _columns(names: list[str]) -> list[list[str]]:
    """Panels of the left and the right column, the left one never shorter."""
    half = -(-len(names) // 2)
    return [column for column in (names[:half], names[half:]) if column]


def _layout(
    shown: Mapping[str, xr.Dataset], columns: list[list[str]], lines: int
) -> tuple[Figure, dict[str, shared.Panel]]:
    rows = max(map(len, columns))
    below = 0.5 + (0.08 + 0.19 * legend_rows(["x" * 12] * lines)[1]) * (lines > 1)
    above = 0.72
    tall = rows * _TALL + (rows - 1) * _GAP + below + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 2, figure, left=_LEFT / WIDTH, right=1 - _RIGHT / WIDTH, bottom=below / tall,
        top=1 - above / tall, wspace=2 * _MIDDLE / (WIDTH - _LEFT - _RIGHT - _MIDDLE),
    )  # fmt: skip
    zero = any(bool((data["tokens"].values == 0).any()) for data in shown.values())
    panels: dict[str, shared.Panel] = {}
    for number, column in enumerate(columns):
        # A shorter column ends where its panels do: all panels are of one size.
        spec = grid[0, number].subgridspec(
            2, 1, hspace=0.0,
            height_ratios=[
                len(column) * (_TALL + _GAP) - _GAP,
                max((rows - len(column)) * (_TALL + _GAP), 1e-9),
            ],
        )[0]  # fmt: skip
        made = shared.stacked_panels(figure, spec, [1.0] * len(column), zero=zero, gap=_GAP / _TALL)
        for index, (name, panel) in enumerate(zip(column, made, strict=True)):
            panels[name] = panel
            place = panel.left.get_position()
            raised = 0.5 if index == 0 else 0.07
            figure.text(place.x0, place.y1 + raised / tall, _PANELS[name].title, fontsize=9)
    return figure, panels


def _value_axis(panel: shared.Panel, name: str, data: xr.Dataset) -> None:
    """Ticks of a panel; a logarithmic one that spans little has more of them."""
    if not _PANELS[name].logarithmic:
        panel.left.yaxis.set_major_locator(MaxNLocator(5))
        return
    values = data["value"].values[np.isfinite(data["value"].values)]
    wide = values.max() / values.min() > 300
    for axes in panel.all:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(shared.short_number))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _table(shown: Mapping[str, xr.Dataset]) -> xr.Dataset:
    parts = []
    for name, data in shown.items():
        unit = str(data.attrs.get("unit", "1"))
        names = {"value": name, "lower": f"{name}_lower", "upper": f"{name}_upper"}
        kept = data[[n for n in names if n in data]].rename(
            {n: new for n, new in names.items() if n in data}
        )
        kept = kept.drop_vars(["layer", "layer_name", "depth"], errors="ignore")
        for variable in kept.data_vars.values():
            variable.attrs = {"units": unit}
        parts.append(kept)
    return merge_tables(parts)


ROW = FigureRow(
    name="dispersion",
    title="Dispersion",
    function=draw_dispersion,
    needs=(
        ("participation_ratio", "centered"),
        ("stable_rank", "centered"),
        ("anisotropy", "ethayarajh2019"),
    ),
    optional=(
        ("condition_number", "resolved"),
        ("spectral_entropy", "normalised"),
        ("intrinsic_dimension", "denti2022"),
    ),
    phases=False,
    source="definitions in docs/spectral-numbers.md",
    caption=(
        "How the last tokens of layer {layer} spread over their directions, against tokens seen (log"
        " axis; step 0 left of the break). Participation ratio, stable rank, spectral entropy and"
        " condition number are of the centred covariance; the mean cosine is not centred. {notes}"
        "Shaded: {level} intervals over samples. Inputs: {inputs}."
    ),
)
