"""The phase diagram: RankMe, α and loss against tokens seen, with the phases found."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures import axes as shared
from figures.select import (
    Material,
    at_layer,
    branches,
    by_branch,
    has_numbers,
    merge_tables,
    require_series,
    was_fitted,
)
from figures.style import WIDTH, Theme

_CURVES = ("rankme", "alpha_req", "loss")
_HEIGHTS = {"rankme": 1.45, "alpha_req": 1.15, "loss": 1.0}  # inches
_RIBBON = 0.34  # inches a branch
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
    colours = {name: theme.category(i) for i, name in enumerate(_branches(shown))}
    rows = bool(phases) + (len(colours) > 1)
    figure, ribbon, panels = _layout(shown, len(phases), legend_rows=rows)
    for panel, (name, data) in zip(panels, shown.items(), strict=True):
        for branch, part in by_branch(data):
            shared.draw_curve(panel, part, colour=colours[branch], label=branch)
        _value_axis(panel, name, data)
    tokens = np.concatenate([data["tokens"].values for data in shown.values()]).astype(float)
    shared.token_axis(panels, tokens)
    unnamed = _draw_phases(ribbon, panels, shown, phases, colours, theme)
    first = next(by_branch(shown["rankme"]))
    label = "step" if len(colours) == 1 else f"step ({first[0]})"
    steps, seen = (first[1][name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(ribbon or panels[0], steps, seen, label=label)
    _legend(figure, colours, phases, unnamed, theme)
    table = _table(shown, phases)
    table.attrs["panels"] = "RankMe and α-ReQ" if "alpha_req" in shown else "RankMe"
    return figure, table


def _fits(phases: xr.Dataset, data: xr.Dataset, layer: str | int) -> bool:
    fitted = phases.attrs.get("layer", "final")
    name = data.coords["layer_name"].item() if "layer_name" in data.coords else layer
    return fitted in (layer, name)


def _branches(shown: Mapping[str, xr.Dataset]) -> list[str]:
    return list(dict.fromkeys(name for data in shown.values() for name in branches(data)))


def _layout(
    shown: Mapping[str, xr.Dataset], ribbons: int, *, legend_rows: int
) -> tuple[Figure, shared.Panel | None, list[shared.Panel]]:
    heights = [_HEIGHTS[name] for name in shown]
    if ribbons:
        heights = [_RIBBON * ribbons, *heights]
    below, above = 0.55 + 0.19 * legend_rows, 0.5
    tall = sum(heights) * 1.12 + below + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=0.62 / WIDTH, right=1 - 0.12 / WIDTH,
        bottom=below / tall, top=1 - above / tall,
    )  # fmt: skip
    zero = any(bool((data["tokens"].values == 0).any()) for data in shown.values())
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
) -> list[str]:
    """Shade, mark and name the phases; return the names that did not fit."""
    if ribbon is None:
        return []
    # Shading of two branches on one axis would mix; with several, the ribbon alone names them.
    alone = len(phases) == 1
    marks = {b: theme.ink if alone else colours.get(b, theme.ink) for b in phases}
    for branch, data in phases.items():
        for panel, name in zip(panels, shown, strict=True):
            if alone:
                shared.shade_phases(panel.log, data, theme)
            shared.draw_boundaries(panel.log, data, marks[branch])
            fit = _fit(data, name)
            if fit is not None:
                places = data["tokens_fitted"].values
                panel.log.plot(
                    places, fit.values, color=marks[branch], linewidth=0.9, label=f"_fit {branch}"
                )
    return shared.phase_ribbon(ribbon, phases, marks, theme)


def _fit(phases: xr.Dataset, name: str) -> xr.DataArray | None:
    """Return the fitted curve in the measure's own unit, or None if it was not fitted."""
    curve = _FITTED.get(name)
    if curve is None or curve not in phases["curve"].values:
        return None
    fit = phases["fitted"].sel(curve=curve, drop=True)
    return fit.copy(data=np.exp(fit.values)) if curve == "log_rankme" else fit


def _legend(
    figure: Figure,
    colours: Mapping[str, str],
    phases: Mapping[str, xr.Dataset],
    unnamed: list[str],
    theme: Theme,
) -> None:
    handles: list[Line2D | Patch] = []
    if len(colours) > 1:
        handles += [Line2D([], [], color=c, marker="o", label=b) for b, c in colours.items()]
    handles += [
        Patch(color=theme.phase(name), alpha=2 * theme.phase_alpha, lw=0, label=name)
        for name in unnamed
    ]
    kinds = {str(kind) for data in phases.values() for kind in data["kind"].values}
    for kind, dashes, fill in (("break", (0, (4, 2.5)), theme.ink), ("bend", (0, (1, 2)), "none")):
        if kind in kinds:
            handles.append(
                Line2D([], [], color=theme.ink, linestyle=dashes, lw=1.0, marker="D",
                       markerfacecolor=fill, label=f"{kind} and its interval")
            )  # fmt: skip
    if phases:
        handles.append(Line2D([], [], color=theme.ink, lw=0.9, label="piecewise-linear fit"))
    if handles:
        columns = min(len(handles), 4)
        figure.legend(handles=handles, loc="lower center", ncols=columns, columnspacing=1.6)


def _table(shown: Mapping[str, xr.Dataset], phases: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return the plotted numbers: a `checkpoint` axis, and one for each part of the phases."""
    parts: list[xr.Dataset] = []
    for name, data in shown.items():
        kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
        part = data[kept].rename({v: name if v == "value" else f"{name}_{v}" for v in kept})
        for variable in part.data_vars.values():
            variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(part.drop_vars(["layer", "layer_name"], errors="ignore"))
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
