"""Measures of word classes over layers and over training, beside what counting words gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from figures import axes as shared
from figures.lines import legend_rows, line_looks
from figures.row import FigureRow
from figures.select import (
    Material,
    by_branch,
    checkpoint_names,
    has_numbers,
    is_study,
    layer_names,
    merge_tables,
)
from figures.style import WIDTH, Theme
from figures.word_class_baselines import BASELINES, UNIFORM, Level, draw_levels, levels_of
from figures.word_class_parts import layer_title, shown_layers, spread_rows

_PANELS = {
    "gdv_scaled": "GDV / |bound|",
    "word_class_probe": "balanced\naccuracy",
    "word_class_selectivity": "selectivity",
    "word_class_codelength": "code length\n[bits a sample]",
}
_HIGH, _GAP = 1.3, 0.14  # inches: a row, and between rows
_LEFT, _RIGHT, _BETWEEN = 0.72, 1.28, 0.12
_CURVES = 5  # checkpoints of one branch over layers
_UNTRAINED: Any = (0, (3, 1.5))


@dataclass(frozen=True)
class _Curve:
    """A curve over layers (of one checkpoint) or over training (of one layer) of one line."""

    label: str
    style: Mapping[str, Any]
    line: str
    place: int


def draw_word_class_curves(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw GDV, probe accuracy, selectivity and code length over layers (left) and training (right).

    Parameters
    ----------
    material : gdv_scaled (checkpoint, layer) and, where measured, word_class_probe,
        word_class_selectivity, word_class_codelength with `compression`, and the baselines
        word_class_baseline (checkpoint, layer), which are the same in all of them.

    Returns
    -------
    The figure and a Dataset: each measure and its bounds (checkpoint, layer); `baseline_accuracy` with
    its bounds (baseline), and `reference_code` (code) in bits a sample.

    Raises
    ------
    ValueError
        If every value is NaN.

    Notes
    -----
    Of one branch: up to five checkpoints over layers, and four layers over training. Of several, or
    of a study: the last checkpoint of each over layers, and the states after the final norm over
    training. Without a series there is no right column. Bands and bars are intervals of each line; lines
    are never joined. Memory: the measures.
    """
    shown = {
        name: material.measures[name].compute() for name in _PANELS if name in material.measures
    }
    shown = {name: data for name, data in shown.items() if has_numbers(data["value"])}
    if not shown:
        raise ValueError("every measure of word classes is NaN; there is nothing to draw")
    main = next(iter(shown.values()))
    lines = dict(by_branch(main))
    course = [line for line, part in lines.items() if int((part["tokens"].values > 0).sum()) > 1]
    over_layers = _over_layers(main, material, theme)
    over_steps = _over_steps(main, course, theme)
    levels = levels_of(material, shown)
    figure, columns = _layout(shown, over_layers, over_steps, main)
    for axes, (name, data) in zip(columns[0], shown.items(), strict=True):
        _draw_layers(axes, data, over_layers)
        axes.set_ylabel(_PANELS[name])
    if over_steps:
        for panel, data in zip(columns[1], shown.values(), strict=True):
            _draw_steps(panel, data, over_steps)
        panels = columns[1]
        tokens = np.concatenate([lines[line]["tokens"].values for line in course]).astype(float)
        shared.token_axis(panels, tokens)
        if panels[0].zero is not None:
            _without_first_tick(panels[-1].log)
    _same_heights(columns, shown, levels)
    _draw_all_levels(columns, shown, levels, theme)
    _layer_axis(columns[0], main)
    return figure, _table(shown, levels, over_steps)


def _over_layers(main: xr.Dataset, material: Material, theme: Theme) -> list[_Curve]:
    """Which checkpoints are drawn over layers."""
    lines, looks = dict(by_branch(main)), line_looks([main], theme)
    untrained = {"color": theme.muted, "linestyle": _UNTRAINED, "marker": "o"}
    if len(lines) > 1:
        found: list[_Curve] = []
        for line, part in lines.items():
            if not found and part["step"].values[0] == 0 and part.sizes["checkpoint"] > 1:
                found.append(_Curve(f"{line}, step 0", untrained, line, 0))
            name = checkpoint_names(part, material.revisions)[-1]
            last = part.sizes["checkpoint"] - 1
            found.append(_Curve(f"{line}, {name}", looks[line].style, line, last))
        return found
    ((line, part),) = lines.items()
    names = checkpoint_names(part, material.revisions)
    rows = spread_rows(part, _CURVES)
    if len(rows) == 1:  # a released model: the ramp's end would be faint on a dark page
        return [_Curve(names[rows[0]], looks[line].style, line, int(rows[0]))]
    ramp = theme.line_colours()
    later = [row for row in rows if part["step"].values[row] > 0]
    found = []
    for row in rows:
        style = untrained
        if row in later:
            place = later.index(row) / max(len(later) - 1, 1)
            style = {"color": ramp(place), "linestyle": "-", "marker": "o"}
        found.append(_Curve(names[row], style, line, int(row)))
    return found


def _over_steps(main: xr.Dataset, course: Sequence[str], theme: Theme) -> list[_Curve]:
    """Which layers are drawn over training: of one line a few, of several the last of each."""
    if not course:
        return []
    lines = dict(by_branch(main))
    if len(lines) > 1:
        looks = line_looks([main], theme)
        return [
            _Curve(line, looks[line].style, line, lines[line].sizes["layer"] - 1) for line in course
        ]
    part = lines[course[0]]
    names = layer_names(part)
    return [
        _Curve(
            layer_title(names[layer]),
            {"color": theme.category(i), "linestyle": "-", "marker": "os^D"[i % 4]},
            course[0],
            layer,
        )
        for i, layer in enumerate(shown_layers(part))
    ]


def _layout(
    shown: Mapping[str, xr.Dataset],
    over_layers: Sequence[_Curve],
    over_steps: Sequence[_Curve],
    main: xr.Dataset,
) -> tuple[Figure, tuple[list[Axes], list[shared.Panel]]]:
    """Rows a measure; left over layers, right over training if there is a series."""
    rows = len(shown)
    entries = [max(len(over_layers), len(over_steps))]
    if len(list(by_branch(main))) > 1:
        entries = [legend_rows([c.label for c in over_layers])[1]]
    elif not over_steps:
        entries = [1]
    below, above = 0.55 + 0.17 * entries[0], 0.3 if over_steps else 0.1
    tall = rows * _HIGH + (rows - 1) * _GAP + below + above
    figure = Figure(figsize=(WIDTH, tall))
    room = WIDTH - _LEFT - _RIGHT
    wide = (room - _BETWEEN) / 2 if over_steps else room
    vertical = {"bottom": below / tall, "top": 1 - above / tall, "hspace": _GAP / _HIGH}
    grid = GridSpec(rows, 1, figure, left=_LEFT / WIDTH, right=(_LEFT + wide) / WIDTH, **vertical)
    left: list[Axes] = []
    for row in range(rows):
        axes = figure.add_subplot(grid[row, 0], sharex=left[0] if left else None)
        axes.tick_params(labelbottom=row == rows - 1)
        left.append(axes)
    panels: list[shared.Panel] = []
    if over_steps:
        del vertical["hspace"]
        second = GridSpec(
            1, 1, figure, left=(_LEFT + wide + _BETWEEN) / WIDTH, right=1 - _RIGHT / WIDTH,
            **vertical,
        )  # fmt: skip
        tokens = np.concatenate([part["tokens"].values for _, part in by_branch(main)])
        panels = shared.stacked_panels(
            figure, second[0], [_HIGH] * rows, zero=bool((tokens == 0).any()), gap=_GAP / _HIGH
        )
        left[0].set_title("over layers")
        panels[0].left.set_title("over training")
    _legends(figure, over_layers, over_steps, wide, one=len(list(by_branch(main))) > 1)
    return figure, (left, panels)


def _legends(
    figure: Figure,
    over_layers: Sequence[_Curve],
    over_steps: Sequence[_Curve],
    wide: float,
    *,
    one: bool,
) -> None:
    """Below each column what its curves are; of several lines one legend for both."""
    if one or not over_steps:
        columns, _ = legend_rows([curve.label for curve in over_layers])
        figure.legend(
            handles=_keys(over_layers, WIDTH - 0.9), loc="lower center", ncols=columns, columnspacing=1.6,
            handlelength=2.8,
        )  # fmt: skip
        return
    for curves, left in ((over_layers, _LEFT), (over_steps, _LEFT + wide + _BETWEEN)):
        figure.legend(
            handles=_keys(curves, wide - 0.3), loc="lower left", ncols=1, borderaxespad=0.3,
            bbox_to_anchor=(left / WIDTH, 0),
        )  # fmt: skip


def _keys(curves: Sequence[_Curve], inches: float) -> list[Line2D]:
    return [
        Line2D([], [], **curve.style, label=shared.shortened(curve.label, inches))
        for curve in curves
    ]


def _places(part: xr.Dataset) -> np.ndarray:
    """Where layers stand: by number; in a study by share of the blocks, the final norm apart."""
    numbers = part["layer"].values.astype(float)
    if not is_study(part):
        return numbers
    blocks = float(part["blocks"].values[0])
    final = np.array(layer_names(part)) == "final"
    places: np.ndarray = np.where(final, 1.1, numbers / max(blocks, 1.0))
    return places


def _draw_layers(axes: Axes, data: xr.Dataset, curves: Sequence[_Curve]) -> None:
    lines = dict(by_branch(data))
    for curve in curves:
        part = lines[curve.line]
        one, x = part.isel(checkpoint=curve.place), _places(part)
        style = {**curve.style, "label": f"_{curve.label}"}
        axes.plot(x, one["value"].values, **style)
        if {"lower", "upper"} <= set(one.data_vars):
            axes.fill_between(
                x, one["lower"].values, one["upper"].values, color=curve.style["color"],
                alpha=0.22, linewidth=0,
            )  # fmt: skip


def _draw_steps(panel: shared.Panel, data: xr.Dataset, curves: Sequence[_Curve]) -> None:
    lines = dict(by_branch(data))
    for curve in curves:
        one = lines[curve.line].isel(layer=curve.place)
        shared.draw_curve(panel, one, curve.style, f"_{curve.label}")


def _layer_axis(column: Sequence[Axes], main: xr.Dataset) -> None:
    bottom = column[-1]
    if is_study(main):
        bottom.xaxis.set_major_locator(FixedLocator([0, 0.5, 1, 1.1]))
        names = {0.0: "0", 0.5: "0.5", 1.0: "1", 1.1: "  final"}
        bottom.xaxis.set_major_formatter(FuncFormatter(lambda x, _: names.get(round(x, 2), "")))
        bottom.set_xlabel("layer / blocks")
        return
    numbers, names_of = main["layer"].values, layer_names(main)
    kept = np.unique(np.append(np.arange(0, numbers.size - 1, max(1, -(-numbers.size // 8))), -1))
    kept = np.array([i % numbers.size for i in kept])
    if kept.size > 2:  # no tick so near the last one that the names touch
        near = numbers[-1] - numbers < max(1.0, 0.12 * numbers.size)
        kept = np.array([i for i in kept if i == numbers.size - 1 or not near[i]])
    labels = ["emb." if names_of[i] == "embedding" else names_of[i] for i in kept]
    bottom.set_xticks(numbers[kept], labels)
    bottom.set_xlabel("layer")


def _without_first_tick(axes: Axes) -> None:
    """Leave out the number that would touch the 0 beyond the break: the panels are narrow."""
    low, high = axes.get_xlim()
    least = low * (high / low) ** 0.09
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda tokens, _: shared.short_number(tokens) if tokens > least else "")
    )


def _same_heights(
    columns: tuple[list[Axes], list[shared.Panel]],
    shown: Mapping[str, xr.Dataset],
    levels: Mapping[str, Sequence[Level]],
) -> None:
    """One scale for both columns of a row, with room for the levels."""
    for row, name in enumerate(shown):
        left = columns[0][row]
        both = [left.get_ylim(), *(panel.log.get_ylim() for panel in columns[1][row : row + 1])]
        at = [level.value for level in levels[name]]
        low, high = min([*at, *(b[0] for b in both)]), max([*at, *(b[1] for b in both)])
        room = 0.04 * (high - low)
        ends = (low - room * (low in at), high + room * (high in at))
        left.set_ylim(*ends)
        for panel in columns[1][row : row + 1]:
            panel.log.set_ylim(*ends)
            panel.left.tick_params(axis="y", labelleft=False)


def _draw_all_levels(
    columns: tuple[list[Axes], list[shared.Panel]],
    shown: Mapping[str, xr.Dataset],
    levels: Mapping[str, Sequence[Level]],
    theme: Theme,
) -> None:
    for row, name in enumerate(shown):
        across = [columns[0][row]]
        if columns[1]:
            across = [*across, *columns[1][row].all]
        draw_levels(across, levels[name], _HIGH, theme)


def _table(
    shown: Mapping[str, xr.Dataset], levels: Mapping[str, Sequence[Level]], steps: Sequence[_Curve]
) -> xr.Dataset:
    parts = []
    for name, data in shown.items():
        kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
        part = data[kept].rename({v: name if v == "value" else f"{name}_{v}" for v in kept})
        for variable in part.data_vars.values():
            variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(part.drop_attrs(deep=False))
    table = merge_tables(parts)
    every = [level for own in levels.values() for level in own]
    counted = [level for level in every if level.name in BASELINES]
    if counted:
        table = table.assign_coords(baseline=[level.name for level in counted])
        for end, key in (("value", ""), ("lower", "_lower"), ("upper", "_upper")):
            values = np.array([getattr(level, end) for level in counted])
            table[f"baseline_accuracy{key}"] = ("baseline", values, {"units": "1"})
    codes = [level.value for level in every if level.name == UNIFORM]
    if codes:
        table = table.assign_coords(code=["uniform"])
        table["reference_code"] = ("code", np.array(codes), {"units": "bits a sample"})
    told = [BASELINES[level.name] for level in counted]
    table.attrs["baselines"] = (
        f" Labelled lines: accuracy of counting words in the training documents ({', '.join(told)})."
        if told
        else ""
    )
    table.attrs["steps"] = " Right: the same over training." if steps else ""
    return table


ROW = FigureRow(
    name="word_class_curves",
    title="Word classes over layers and training",
    function=draw_word_class_curves,
    needs=(("gdv_scaled", "word_10"),),
    optional=(
        ("word_class_probe", "linear"),
        ("word_class_selectivity", "word_10"),
        ("word_class_codelength", "online"),
        ("word_class_baseline", "majority"),
        ("word_class_baseline", "class_given_word_9"),
        ("word_class_baseline", "class_given_classes_8_9"),
    ),
    phases=False,
    source="in the style of arXiv 2302.07588; GDV of 10.1016/j.neunet.2021.03.035",
    caption=(
        "Classes of the tenth word in hidden states at the ninth. GDV over the size of its bound for this"
        " number of classes (0 no separation, −1 points); accuracy of a linear probe on unseen documents;"
        " selectivity, its accuracy less that on random classes of the word types; online code of the"
        " classes. Left: over layers; layer 0 is the embedding.{steps} Step 0 is the untrained"
        " network.{baselines} Bands: {level} intervals ({interval}), noise of the probe."
        " Inputs: {inputs}."
    ),
    extra=True,
)
