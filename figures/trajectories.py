"""Curvature and sentence entropy of token trajectories: every layer's curve over training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures import axes as shared
from figures.lines import step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    by_branch,
    has_numbers,
    is_study,
    layer_names,
    line_names,
    merge_tables,
    require_series,
)
from figures.style import WIDTH, Theme

_LABELS = {"curvature": "curvature", "sentence_entropy": "sentence entropy"}
_HEIGHT = 2.0  # inches of a panel
_TITLE = 0.34  # inches above a line's first panel for its name
_LEFT, _RIGHT = 0.62, 0.95  # inches
_INDEPENDENT = 2 * np.pi / 3  # angle between differences of independent states: cosine −1/2


def draw_trajectories(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw mean curvature and sentence entropy of every layer against tokens seen.

    Parameters
    ----------
    material : curvature and sentence_entropy (checkpoint, layer), with intervals.

    Returns
    -------
    The figure and a Dataset with `curvature` and `sentence_entropy` (checkpoint, layer) and their
    `_lower` and `_upper`. Branches and models of one checkpoint are left out.

    Raises
    ------
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If both measures are NaN everywhere.

    Notes
    -----
    The dashed line at 2π/3 is the angle of states drawn independently in many dimensions, whose
    successive differences share one state: its cosine is −1/2. That at ln T is the highest entropy
    of T tokens. Memory: both measures.
    """
    require_series(material.measures["curvature"])
    shown, absent = _shown(material)
    if not shown:
        raise ValueError("curvature and sentence_entropy are NaN everywhere; nothing to draw")
    main = next(iter(shown.values()))
    lines = [line for line, _ in by_branch(main)]
    rows = [(name, line) for line in lines for name in shown]
    gap = _TITLE if len(lines) > 1 else 0.14
    above, below = 0.55 + (0.3 if len(lines) > 1 else 0.0), 0.72
    tall = _HEIGHT * len(rows) + gap * (len(rows) - 1) + above + below
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=_LEFT / WIDTH, right=1 - _RIGHT / WIDTH, bottom=below / tall,
        top=1 - above / tall,
    )  # fmt: skip
    tokens = main["tokens"].values.astype(float)
    panels = shared.stacked_panels(
        figure, grid[0], [_HEIGHT] * len(rows), zero=bool((tokens == 0).any()), gap=gap / _HEIGHT
    )
    for panel, (name, line) in zip(panels, rows, strict=True):
        part = dict(by_branch(shown[name]))[line]
        _curves(panel, part, theme)
        _mark(panel, _reference(name, part, material.measures[name].attrs), theme)
        panel.left.set_ylabel(_label(name, material.measures[name]))
        panel.left.yaxis.set_major_locator(MaxNLocator(5))
        if len(lines) > 1 and name == next(iter(shown)):
            _title(figure, panel, line, above=0.52 if panel is panels[0] else 0.1)
    shared.token_axis(panels, tokens)
    label, first = step_axis_of(main)
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(panels[0], steps, seen, label=label)
    figure.align_ylabels([panel.left for panel in panels])
    _depth_bar(figure, main, panels, theme)
    _key(figure, layer_names(main)[-1] == "final", theme)
    table = merge_tables([_table(name, data) for name, data in shown.items()])
    table.attrs["notes"] = (
        f"Without {', '.join(absent)}: one checkpoint has no course. " if absent else ""
    )
    return figure, table


def _shown(material: Material) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Keep what has numbers, of the lines that go through training; and name the other lines."""
    shown: dict[str, xr.Dataset] = {}
    absent: dict[str, None] = {}
    for name in _LABELS:
        data = material.measures[name]
        kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
        data = data[kept].compute()
        short = [
            line
            for line, part in by_branch(data)
            if part.sizes["checkpoint"] < 2 or not (part["tokens"].values > 0).any()
        ]
        absent |= dict.fromkeys(short)
        data = data.isel(checkpoint=~np.isin(line_names(data).astype(str), short))
        if has_numbers(data["value"]):
            shown[name] = data
    return shown, list(absent)


def _curves(panel: shared.Panel, part: xr.Dataset, theme: Theme) -> None:
    """Draw one line of a panel's layers, coloured by depth; that after the final norm apart."""
    names = layer_names(part)
    last = len(names) - 1 if names[-1] == "final" and len(names) > 1 else len(names)
    colours = theme.line_colours()
    for index, name in enumerate(names):
        final = index >= last
        style: dict[str, Any] = {
            "color": _final(theme) if final else to_hex(colours(index / max(last - 1, 1))),
            "linestyle": (0, (4, 1.6)) if final else "-",
            "linewidth": 1.6 if final else 1.2,
            "zorder": 3 if final else 2,
        }
        shared.draw_curve(panel, part.isel(layer=index), style, name)
    if panel.zero is not None:
        for dot in panel.zero.lines:
            if dot.get_label() != "_stroke":
                dot.set_marker("o")


def _final(theme: Theme) -> str:
    return theme.category(3)


def _reference(name: str, part: xr.Dataset, attrs: Mapping[Any, Any]) -> tuple[float, str] | None:
    """The value that independent or orthogonal states would have, if it is known, and its name."""
    if name == "curvature":
        known = attrs.get("convention") == "differences"
        return (_INDEPENDENT, "independent states: 2π/3") if known else None
    length = attrs.get("length")
    if "length" in part.coords:
        length = int(part["length"].values.max()) or None
    if length is None or attrs.get("unit") != "nats":
        return None
    return float(np.log(length)), f"ln T = {np.log(length):.2f}"


def _mark(panel: shared.Panel, found: tuple[float, str] | None, theme: Theme) -> None:
    if found is None:
        return
    height, words = found
    for axes in panel.all:
        axes.axhline(height, color=theme.muted, linestyle=(0, (4, 2.5)), linewidth=1.0, zorder=1)
    panel.log.text(
        0.995, height, words, ha="right", va="bottom", fontsize=8, color=theme.muted,
        transform=panel.log.get_yaxis_transform(),
    )  # fmt: skip
    low, high = panel.log.get_ylim()
    panel.log.set_ylim(low, max(high, height + 0.1 * (height - low)))


def _label(name: str, data: xr.Dataset) -> str:
    unit = str(data.attrs.get("unit", ""))
    return _LABELS[name] + ("" if unit in ("", "1") else f" [{unit}]")


def _title(figure: Figure, panel: shared.Panel, name: str, *, above: float) -> None:
    """Write a line's name some inches above its first panel."""
    place = panel.left.get_position()
    figure.text(
        place.x0, place.y1 + above / figure.get_figheight(),
        shared.shortened(name, WIDTH - _LEFT - _RIGHT, size=9), fontsize=9,
    )  # fmt: skip


def _depth_bar(figure: Figure, data: xr.Dataset, panels: list[shared.Panel], theme: Theme) -> None:
    """Say which colour is which layer; of models of different depth, which depth."""
    top, bottom = panels[0].log.get_position(), panels[min(1, len(panels) - 1)].log.get_position()
    side = figure.add_axes(
        (top.x1 + 0.14 / WIDTH, bottom.y0, 0.13 / WIDTH, top.y1 - bottom.y0), label="bar layer"
    )
    depth = len(layer_names(data)) - (layer_names(data)[-1] == "final") - 1
    relative = is_study(data) and len(np.unique(data["blocks"].values)) > 1
    norm = Normalize(0, 1 if relative else max(depth, 1))
    bar = figure.colorbar(ScalarMappable(norm, theme.line_colours()), cax=side)
    bar.set_label("depth: block / number of blocks" if relative else "layer (0: embedding)")
    bar.outline.set_visible(False)
    if not relative:
        side.yaxis.set_major_locator(MaxNLocator(8, integer=True))


def _key(figure: Figure, final: bool, theme: Theme) -> None:
    if not final:
        return
    line = Line2D([], [], color=_final(theme), linestyle=(0, (4, 1.6)), linewidth=1.6)
    figure.legend([line], ["after the final norm"], loc="lower center", handlelength=2.8)


def _table(name: str, data: xr.Dataset) -> xr.Dataset:
    table = data.rename({v: name if v == "value" else f"{name}_{v}" for v in map(str, data)})
    for variable in table.data_vars.values():
        variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
    return table


ROW = FigureRow(
    name="trajectories",
    title="Token trajectories through training",
    function=draw_trajectories,
    needs=(("curvature", "differences"), ("sentence_entropy", "skean2025")),
    phases=False,
    source="the measures of arXiv 2502.02013 (and 2311.04930), over training",
    caption=(
        "Mean angle between successive differences of a sample's token states, and von Neumann"
        " entropy of its centred and normalised states, mean over samples; one curve a layer,"
        " coloured by depth. Dashed lines: independent states; the most that T tokens can have."
        " Bands: {level} intervals ({interval}). {notes}Inputs: {inputs}."
    ),
    extra=True,
)
