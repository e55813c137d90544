"""The phase diagram: RankMe, α and loss against tokens seen, with the phases found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures import axes as shared
from figures.lines import Look, key, legend_rows, line_looks, step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    at_layer,
    by_branch,
    has_numbers,
    is_study,
    merge_tables,
    require_series,
    tokens_unknown,
    was_fitted,
)
from figures.style import WIDTH, Theme

_CURVES = ("rankme", "alpha_req", "loss")
_HEIGHTS = {"rankme": 1.45, "alpha_req": 1.15, "loss": 1.0}  # inches
_RIBBON = 0.34  # inches a branch
_NAMED_RIBBON = 0.5  # with the branch's name above it
_LEVEL: Any = (0, (7, 2, 1.5, 2))  # dashes of a value without a place in training
_UNKNOWN = "Horizontal lines: models of one checkpoint whose tokens are not known. "
_LABELS = {"rankme": "RankMe", "alpha_req": "α-ReQ", "loss": "loss"}
# The names of the fitted curves in /phases, and how each is brought back to its measure's unit.
_FITTED = {"rankme": "log_rankme", "alpha_req": "alpha"}


def draw_phases(
    material: Material, theme: Theme, *, layer: str | int = "final"
) -> tuple[Figure, xr.Dataset]:
    """Draw RankMe, α and (if measured) loss against tokens, phases shaded and named.

    Parameters
    ----------
    material : rankme and alpha_req (checkpoint, layer), optionally loss (checkpoint), and phases.
    layer : the layer shown, by name or number.

    Returns
    -------
    The figure and a Dataset of the curves, their intervals, the fit and the phases. α or loss that
    is NaN everywhere is left out.

    Raises
    ------
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If there is no such layer.

    Notes
    -----
    After arXiv 2509.23024, figure 2. Memory: the measures of one layer.
    """
    require_series(material.measures["rankme"])
    study = is_study(material.measures["rankme"])
    shown = {
        name: at_layer(material.measures[name], layer).compute()
        for name in _CURVES
        if name in material.measures
    }
    shown = {n: data for n, data in shown.items() if n == "rankme" or has_numbers(data["value"])}
    # The fit was made on one layer; on another its segments would say something untrue.
    phases = {
        b: p
        for b, p in material.phases.items()
        if was_fitted(p) and _fits(p, shown["rankme"], layer)
    }
    looks = line_looks(shown.values(), theme)
    placeless = _placeless(shown) if study else []
    if study:
        phases = {line: phases[line] for line in looks if line in phases}
    rows = bool(phases) + (len(looks) > 1)
    if study:
        rows = legend_rows(_told(looks, placeless))[1] + 2 * bool(phases)
    figure, ribbon, panels = _layout(
        shown, len(phases), legend_rows=rows, study=study, zero=_from_zero(shown, placeless)
    )
    for panel, (name, data) in zip(panels, shown.items(), strict=True):
        for branch, part in by_branch(data):
            look = looks[branch]
            if branch in placeless:
                _level(panel, part, look, branch)
                continue
            shared.draw_curve(panel, part, look.style, branch)
        _value_axis(panel, name, data)
    tokens = np.concatenate([data["tokens"].values for data in shown.values()]).astype(float)
    shared.token_axis(panels, tokens)
    colours = {line: look.colour for line, look in looks.items()}
    unnamed = _draw_phases(ribbon, panels, shown, phases, colours, theme, study=study)
    label, first = step_axis_of(shown["rankme"])
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(ribbon or panels[0], steps, seen, label=label)
    marks = _marks(phases, unnamed, theme, lines=not study)
    _legend(figure, looks, placeless, marks, study=study)
    table = _table(shown, phases)
    table.attrs["panels"] = "RankMe and α-ReQ" if "alpha_req" in shown else "RankMe"
    table.attrs["notes"] = _UNKNOWN if placeless else ""
    return figure, table


def _placeless(shown: Mapping[str, xr.Dataset]) -> list[str]:
    """Lines of one checkpoint whose tokens are not known: they have no place on the axis."""
    return [line for line, part in by_branch(shown["rankme"]) if tokens_unknown(part)]


def _from_zero(shown: Mapping[str, xr.Dataset], placeless: list[str]) -> bool:
    """Whether any line begins at step 0."""
    return any(
        bool((part["tokens"].values == 0).any())
        for data in shown.values()
        for line, part in by_branch(data)
        if line not in placeless
    )


def _level(panel: shared.Panel, part: xr.Dataset, look: Look, label: str) -> None:
    """Draw the value of a checkpoint without a place in training across the whole panel."""
    value = float(part["value"].values[0])
    for axes in panel.all:
        axes.axhline(value, color=look.colour, linestyle=_LEVEL, linewidth=1.4, label=label)
        if {"lower", "upper"} <= set(part.data_vars):
            ends = (float(part[end].values[0]) for end in ("lower", "upper"))
            axes.axhspan(*ends, color=look.colour, alpha=0.15, linewidth=0)


def _fits(phases: xr.Dataset, data: xr.Dataset, layer: str | int) -> bool:
    fitted = phases.attrs.get("layer", "final")
    name = data.coords["layer_name"].item() if "layer_name" in data.coords else layer
    return fitted in (layer, name)


def _layout(
    shown: Mapping[str, xr.Dataset], ribbons: int, *, legend_rows: int, study: bool, zero: bool
) -> tuple[Figure, shared.Panel | None, list[shared.Panel]]:
    heights = [_HEIGHTS[name] for name in shown]
    if ribbons:
        heights = [(_NAMED_RIBBON if study else _RIBBON) * ribbons, *heights]
    below, above = 0.55 + 0.19 * legend_rows, 0.5
    tall = sum(heights) * 1.12 + below + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=0.62 / WIDTH, right=1 - 0.12 / WIDTH,
        bottom=below / tall, top=1 - above / tall,
    )  # fmt: skip
    panels = shared.stacked_panels(figure, grid[0], heights, zero=zero)
    return (figure, panels[0], panels[1:]) if ribbons else (figure, None, panels)


def _value_axis(panel: shared.Panel, name: str, data: xr.Dataset) -> None:
    unit = str(data.attrs.get("unit", ""))
    unit = "" if unit in ("", "1", "dimensionless") else f" [{unit}]"
    panel.left.set_ylabel(_LABELS[name] + unit)
    if name == "rankme":
        for axes in panel.all:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(shared.short_number))
            axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_phases(
    ribbon: shared.Panel | None,
    panels: list[shared.Panel],
    shown: Mapping[str, xr.Dataset],
    phases: Mapping[str, xr.Dataset],
    colours: Mapping[str, str],
    theme: Theme,
    *,
    study: bool,
) -> list[str]:
    """Shade, mark and name the phases; return the names that did not fit."""
    if ribbon is None:
        return []
    # Shading of two branches on one axis would mix; with several, the ribbon alone names them.
    alone = len(phases) == 1 and not study
    marks = {b: theme.ink if alone else colours.get(b, theme.ink) for b in phases}
    for branch, data in phases.items():
        for panel, name in zip(panels, shown, strict=True):
            if alone:
                shared.shade_phases(panel.log, data, theme)
            # The strips of a study show them: lines of several models across every panel would mix.
            if not study:
                shared.draw_boundaries(panel.log, data, marks[branch])
            fit = _fit(data, name)
            if fit is not None:
                places = data["tokens_fitted"].values
                panel.log.plot(
                    places, fit.values, color=marks[branch], linewidth=0.9, label=f"_fit {branch}"
                )
    return shared.phase_ribbon(ribbon, phases, marks, theme, above=study)


def _fit(phases: xr.Dataset, name: str) -> xr.DataArray | None:
    """Return the fitted curve in the measure's own unit, or None if it was not fitted."""
    curve = _FITTED.get(name)
    if curve is None or curve not in phases["curve"].values:
        return None
    fit = phases["fitted"].sel(curve=curve, drop=True)
    return fit.copy(data=np.exp(fit.values)) if curve == "log_rankme" else fit


def _told(looks: Mapping[str, Look], placeless: list[str]) -> list[str]:
    return [f"{line} (tokens not known)" if line in placeless else line for line in looks]


def _marks(
    phases: Mapping[str, xr.Dataset], unnamed: list[str], theme: Theme, *, lines: bool
) -> list[Line2D | Patch]:
    """Legend entries of phases without room for a name, of boundaries and of the fit."""
    handles: list[Line2D | Patch] = [
        Patch(color=theme.phase(name), alpha=2 * theme.phase_alpha, lw=0, label=name)
        for name in unnamed
    ]
    kinds = {str(kind) for data in phases.values() for kind in data["kind"].values}
    for kind, dashes, fill in (("break", (0, (4, 2.5)), theme.ink), ("bend", (0, (1, 2)), "none")):
        if kind in kinds:
            handles.append(
                Line2D([], [], color=theme.ink, linestyle=dashes if lines else "-", lw=1.0,
                       marker="D", markerfacecolor=fill, label=f"{kind} and its interval")
            )  # fmt: skip
    if phases:
        handles.append(Line2D([], [], color=theme.ink, lw=0.9, label="piecewise-linear fit"))
    return handles


def _legend(
    figure: Figure,
    looks: Mapping[str, Look],
    placeless: list[str],
    marks: list[Line2D | Patch],
    *,
    study: bool,
) -> None:
    """One legend below a store's figure; below a study's, its lines in one of their own."""
    lines = [
        key(
            replace(looks[line], dashes=_LEVEL, marker="") if line in placeless else looks[line],
            label,
        )
        for line, label in zip(looks, _told(looks, placeless), strict=True)
    ]
    if not study:
        handles = [*(lines if len(looks) > 1 else []), *marks]
        if handles:
            columns = min(len(handles), 4)
            figure.legend(handles=handles, loc="lower center", ncols=columns, columnspacing=1.6)
        return
    columns, rows = legend_rows(_told(looks, placeless))
    figure.legend(
        handles=lines, loc="lower center", ncols=columns, columnspacing=1.6, handlelength=2.8
    )
    if marks:
        place = (0.5, 0.19 * rows / figure.get_figheight())
        figure.legend(
            handles=marks, loc="lower center", bbox_to_anchor=place, ncols=min(len(marks), 4),
            columnspacing=1.6,
        )  # fmt: skip


def _table(shown: Mapping[str, xr.Dataset], phases: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return the plotted numbers: a `checkpoint` axis, and one for each part of the phases."""
    parts: list[xr.Dataset] = []
    for name, data in shown.items():
        kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
        part = data[kept].rename({v: name if v == "value" else f"{name}_{v}" for v in kept})
        for variable in part.data_vars.values():
            variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(part.drop_vars(["layer", "layer_name", "depth"], errors="ignore"))
    table = merge_tables(parts)
    return table.merge(_phase_table(phases)) if phases else table


def _phase_table(phases: Mapping[str, xr.Dataset]) -> xr.Dataset:
    names = {
        "boundary": ("boundary", "boundary"), "boundary_lower": ("boundary", "boundary_lower"),
        "boundary_upper": ("boundary", "boundary_upper"), "boundary_kind": ("boundary", "kind"),
        "phase_label": ("segment", "label"), "phase_start": ("segment", "start"),
        "phase_end": ("segment", "end"),
    }  # fmt: skip
    table: dict[str, tuple[tuple[str], np.ndarray, dict[str, str]]] = {}
    for target, (dim, source) in names.items():
        values = np.concatenate([data[source].values for data in phases.values()])
        text = source in ("kind", "label")
        dim = "boundary_number" if dim == "boundary" else dim
        table[target] = ((dim,), values, {"units": "name" if text else "tokens"})
    coords: dict[str, tuple[tuple[str], np.ndarray]] = {}
    for target, source in (("boundary_number", "boundary"), ("segment", "label")):
        sizes = [data[source].size for data in phases.values()]
        coords[f"{target}_branch"] = ((target,), np.repeat(list(phases), sizes))
    for name in _FITTED:
        fits = [_fit(data, name) for data in phases.values()]
        found = [fit.values for fit in fits if fit is not None]
        if found:
            table[f"{name}_fitted"] = (("fitted_point",), np.concatenate(found), {"units": "1"})
    places = [data["tokens_fitted"].values for data in phases.values()]
    coords["fitted_tokens"] = (("fitted_point",), np.concatenate(places))
    coords["fitted_branch"] = (
        ("fitted_point",), np.repeat(list(phases), [p.size for p in places])
    )  # fmt: skip
    return xr.Dataset(table, coords)


ROW = FigureRow(
    name="phases",
    title="Training phases",
    function=draw_phases,
    needs=(("rankme", "li2025"), ("alpha_req", "li2025")),
    phases=True,
    source="arXiv 2509.23024, figure 2",
    caption=(
        "{panels} of layer {layer}, and mean loss where measured, against tokens (log"
        " axis; step 0 left of the break). Bands: {level} intervals ({interval}); they show"
        " probe noise of one training run, not the spread between seeds. Shading:"
        " segments of the fit; diamonds with bars: boundaries and their intervals."
        " {notes}Inputs: {inputs}."
    ),
    optional=(("loss", "surprisal"),),
)
