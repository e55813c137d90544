"""Maps of RankMe and α over layers and training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures import axes as shared
from figures.lines import step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    branches,
    by_branch,
    has_numbers,
    is_study,
    layer_names,
    merge_tables,
    require_series,
)
from figures.style import WIDTH, Theme

_LABELS = {"rankme": "RankMe", "alpha_req": "α-ReQ"}
_PANELS = {"rankme": "RankMe (logarithmic colours)", "alpha_req": "α-ReQ"}
_TITLE = 0.32  # inches above a map of a study for its model's name
_GAP = 0.4  # rows between the last block and the layer after the final norm


def draw_layers(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw layer × step maps of RankMe (log colour) and α, the final layer set apart.

    Parameters
    ----------
    material : rankme and alpha_req (checkpoint, layer).

    Returns
    -------
    The figure and a Dataset with `rankme` and `alpha_req` (checkpoint, layer). One map a branch; a
    measure that is NaN everywhere is left out.

    Raises
    ------
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If both measures are NaN everywhere.

    Notes
    -----
    After arXiv 2509.23024, figure 7. A cell reaches halfway (in log tokens) to the neighbouring
    checkpoints. Memory: both measures.
    """
    require_series(material.measures["rankme"])
    every = {name: material.measures[name][["value"]].compute() for name in _LABELS}
    shown = {name: data for name, data in every.items() if has_numbers(data["value"])}
    if not shown:
        raise ValueError("rankme and alpha_req are NaN everywhere; there is nothing to draw")
    main = next(iter(shown.values()))
    study = is_study(main)
    shown, absent = _with_curves(shown) if study else (shown, [])
    rows = [(name, branch) for name, data in shown.items() for branch in branches(data)]
    heights = _heights(shown, rows)
    # The name of a model stands above its map; that of a branch beside it.
    tall = sum(heights) + _TITLE * len(rows) + 1.15 if study else sum(heights) * 1.2 + 1.0
    gap = _TITLE / float(np.mean(heights)) if study else 0.12
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=0.95 / WIDTH, right=1 - 1.0 / WIDTH,
        bottom=0.5 / tall, top=1 - (0.85 if study else 0.55) / tall,
    )  # fmt: skip
    tokens = np.concatenate([data["tokens"].values for data in shown.values()]).astype(float)
    panels = shared.stacked_panels(
        figure, grid[0], heights, zero=bool((tokens == 0).any()), gap=gap
    )
    norms = {name: _norm(name, data["value"].values) for name, data in shown.items()}
    for panel, (name, branch) in zip(panels, rows, strict=True):
        part = dict(by_branch(shown[name]))[branch]
        _map(panel, part, norms[name], theme)
        beside = len(rows) > len(shown) and not study
        panel.left.set_ylabel(f"layer ({branch})" if beside else "layer")
        if study:
            _title(figure, panel, branch, above=0.52 if panel is panels[0] else 0.08)
    shared.token_axis(panels, tokens)
    label, first = step_axis_of(next(iter(shown.values())))
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(panels[0], steps, seen, label=label)
    _colour_bars(figure, panels, rows, norms, theme)
    table = _table(shown)
    table.attrs["panels"] = " and ".join(_PANELS[name] for name in shown)
    table.attrs["notes"] = (
        f"Without {', '.join(absent)}: one checkpoint has no course. " if absent else ""
    )
    return figure, table


def _title(figure: Figure, panel: shared.Panel, name: str, *, above: float) -> None:
    """Write a model's name some inches above its map; above the steps, where they are."""
    place = panel.left.get_position()
    figure.text(
        place.x0, place.y1 + above / figure.get_figheight(),
        shared.shortened(name, WIDTH - 1.95, size=9), fontsize=9,
    )  # fmt: skip


def _with_curves(shown: Mapping[str, xr.Dataset]) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Keep the lines of a study that go through training, and name the others."""
    absent: dict[str, None] = {}
    kept = {}
    for name, data in shown.items():
        short = [line for line, part in by_branch(data) if (part["tokens"].values > 0).sum() < 2]
        absent |= dict.fromkeys(short)
        known = data.isel(checkpoint=~np.isin(data["line"].values.astype(str), short))
        if has_numbers(known["value"]):
            kept[name] = known
    return kept, list(absent)


def _heights(shown: Mapping[str, xr.Dataset], rows: list[tuple[str, str]]) -> list[float]:
    """Inches of each map, by the number of its layers."""
    counts = {
        (name, line): part.sizes["layer"]
        for name, data in shown.items()
        for line, part in by_branch(data)
    }
    return [float(np.clip(0.19 * counts[row] + 0.25, 1.25, 4.5)) for row in rows]


def _norm(name: str, values: np.ndarray) -> Normalize:
    finite = values[np.isfinite(values) & ((values > 0) | (name != "rankme"))]
    low, high = float(finite.min()), float(finite.max())
    return LogNorm(low, high) if name == "rankme" else Normalize(low, high)


def _edges(tokens: np.ndarray) -> np.ndarray:
    """Cell edges halfway between neighbours in log tokens; (n,) -> (n + 1,)."""
    logs = np.log(tokens)
    if logs.size == 1:
        edges = logs[0] + np.array([-0.1, 0.1])
    else:
        middle = (logs[1:] + logs[:-1]) / 2
        ends = 2 * logs[[0, -1]] - middle[[0, -1]]
        edges = np.concatenate([ends[:1], middle, ends[1:]])
    return np.asarray(np.exp(edges))


def _map(panel: shared.Panel, part: xr.Dataset, norm: Normalize, theme: Theme) -> None:
    names = layer_names(part)
    values = part["value"].transpose("layer", "checkpoint").values.astype(float)
    seen = part["tokens"].values > 0
    final = len(names) - 1 if names[-1] == "final" and len(names) > 1 else len(names)
    columns: list[tuple[Axes, np.ndarray, np.ndarray]] = []
    if seen.any():
        columns.append((panel.log, _edges(part["tokens"].values[seen].astype(float)), seen))
    if panel.zero is not None and not seen.all():
        columns.append((panel.zero, np.linspace(-0.8, 0.8, int((~seen).sum()) + 1), ~seen))
    for axes, edges, chosen in columns:
        blocks = [(np.arange(final + 1) - 0.5, slice(0, final))]
        if final < len(names):
            blocks.append((np.array([-0.5, 0.5]) + final + _GAP, slice(final, None)))
        for heights, rows in blocks:
            axes.pcolormesh(
                edges, heights, values[rows][:, chosen], norm=norm,
                cmap=theme.heat_colours(), rasterized=True,
            )  # fmt: skip
    for axes in panel.all:
        axes.grid(False)
        axes.set_ylim(-0.5, len(names) - 0.5 + (_GAP if final < len(names) else 0))
    _layer_ticks(panel.left, names, final)


def _layer_ticks(axes: Axes, names: list[str], final: int) -> None:
    stride = max(1, -(-final // 13))
    kept = list(range(0, final, stride))
    places = [float(i) for i in kept]
    labels = [names[i] for i in kept]
    if final < len(names):
        places.append(final + _GAP)
        labels.append(names[-1])
    axes.set_yticks(places, labels)


def _colour_bars(
    figure: Figure,
    panels: list[shared.Panel],
    rows: list[tuple[str, str]],
    norms: Mapping[str, Normalize],
    theme: Theme,
) -> None:
    """One colour bar a measure, beside its first map."""
    for panel, (name, _branch) in zip(panels, rows, strict=True):
        place = panel.log.get_position()
        side = figure.add_axes(
            (place.x1 + 0.12 / WIDTH, place.y0, 0.13 / WIDTH, place.height), label=f"bar {name}"
        )
        bar = figure.colorbar(ScalarMappable(norms[name], theme.heat_colours()), cax=side)
        bar.set_label(_LABELS[name])
        bar.outline.set_visible(False)
        if isinstance(norms[name], LogNorm):
            side.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            side.yaxis.set_major_formatter(FuncFormatter(shared.short_number))
            side.yaxis.set_minor_formatter(NullFormatter())


def _table(shown: Mapping[str, xr.Dataset]) -> xr.Dataset:
    parts = []
    for name, data in shown.items():
        part = data[["value"]].rename(value=name)
        part[name].attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(part)
    return merge_tables(parts)


ROW = FigureRow(
    name="layers",
    title="Layers through training",
    function=draw_layers,
    needs=(("rankme", "li2025"), ("alpha_req", "li2025")),
    phases=False,
    source="arXiv 2509.23024, figure 7",
    caption=(
        "{panels} of every layer at every checkpoint; the"
        " layer after the final norm is set apart. Cells reach halfway to the"
        " neighbouring checkpoints; a cell left empty has no number. {notes}Inputs: {inputs}."
    ),
)
