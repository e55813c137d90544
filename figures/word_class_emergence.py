"""When each word class comes to stand apart, beside the loss and the phases of RankMe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import axes as shared
from figures.lines import legend_rows, step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    at_layer,
    by_branch,
    has_numbers,
    is_study,
    require_series,
    was_fitted,
    with_course,
)
from figures.style import WIDTH, Theme
from figures.word_class_parts import class_key, class_styles, present_classes
from figures.word_class_steps import spread, steps_by_line, told_steps

_LOSS, _CURVES, _RIBBON = 0.95, 1.9, 0.36  # inches
_SUB, _BETWEEN = 0.13, 0.12  # inches: of a line in a class's row, and around a row
_RIGHT = 0.66
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_MARKERS = "os^Dv"
_CHANCE = 0.5
_RANGE = "range over lines, median"


def draw_word_class_emergence(
    material: Material,
    theme: Theme,
    *,
    layer: str | int = "final",
    threshold: float | None = None,
) -> tuple[Figure, xr.Dataset]:
    """Draw how each class separates over training, and the step from which it stands apart.

    Parameters
    ----------
    material : word_class_separation (checkpoint, layer, word_class) with `standard_error`, optionally
        loss (checkpoint), and phases.
    layer : the layer read, by name or number; after the final norm, as the phases are.
    threshold : what every class is to reach; by default halfway up its own rise.

    Returns
    -------
    The figure and a Dataset: `separation` with its bounds (checkpoint, word_class); `loss`; of each
    line `emergence`, `emergence_lower`, `emergence_upper` in steps, `rise` with its bounds, `separated`
    and `group` (training_line, word_class); over the lines of a model `median_step`, `lowest_step`,
    `highest_step` and `lines_emerged` (line_model, word_class).

    Raises
    ------
    TooFewCheckpoints
        If no line has two checkpoints.
    ValueError
        If there is no such layer, or every value is NaN.

    Notes
    -----
    Intervals (probe noise, of one line each) and the spread between lines (training noise) are drawn
    apart and never joined. Memory: the measures of one layer.
    """
    whole = at_layer(material.measures["word_class_separation"], layer).compute()
    require_series(whole)
    whole, _ = with_course(whole)
    classes = present_classes(whole["value"])
    if not classes:
        raise ValueError(
            "word_class_separation is NaN at every checkpoint; there is nothing to draw"
        )
    whole = whole.sel(word_class=classes)
    lines = dict(by_branch(whole))
    steps = steps_by_line(whole, threshold=threshold)
    order = _order(steps)
    styles = class_styles(classes, theme)
    loss = material.measures.get("loss")
    losses = {} if loss is None or not has_numbers(loss["value"].compute()) else {
        line: part for line, part in by_branch(loss.compute()) if line in lines
    }  # fmt: skip
    phases = {
        line: material.phases[line]
        for line in lines
        if line in material.phases and was_fitted(material.phases[line])
    }
    tokens = whole["tokens"].values.astype(float)
    figure, ribbon, panels = _layout(steps, lines, losses, phases, tokens)
    looks = {
        line: {"linestyle": _DASHES[i % len(_DASHES)], "marker": _MARKERS[i % len(_MARKERS)]}
        for i, line in enumerate(lines)
    }
    if losses:
        for line, part in losses.items():
            shared.draw_curve(panels["loss"], part, {"color": theme.ink, **looks[line]}, line)
        panels["loss"].left.set_ylabel("loss\n[nats]")
    _curves(panels["curves"], lines, looks, styles, theme)
    shared.token_axis(list(panels.values()), tokens)
    _chart(panels["chart"], steps, lines, looks, styles, order, theme)
    unnamed = _phases(ribbon, panels, phases, theme, study=is_study(whole))
    label, first = step_axis_of(whole)
    its, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(ribbon or next(iter(panels.values())), its, seen, label=label)
    _legend(figure, panels["curves"], styles, looks, unnamed, theme, steps)
    return figure, _table(whole, steps, losses, material, threshold)


def _order(steps: xr.Dataset) -> list[str]:
    """Classes by the median step of their lines, those that never rise last."""
    first = steps["first"].values
    middle = [
        np.median(own[~np.isnan(own)]) if (~np.isnan(own)).any() else np.inf for own in first.T
    ]
    return [str(steps["word_class"].values[i]) for i in np.argsort(middle, kind="stable")]


def _groups(steps: xr.Dataset) -> dict[str, list[str]]:
    """Lines of each model, if it has several: what a spread is of."""
    found: dict[str, list[str]] = {}
    for line, model in zip(
        steps["training_line"].values.astype(str),
        steps["line_model"].values.astype(str),
        strict=True,
    ):
        found.setdefault(model, []).append(line)
    return {model: own for model, own in found.items() if len(own) > 1}


def _layout(
    steps: xr.Dataset,
    lines: Mapping[str, xr.Dataset],
    losses: Mapping[str, xr.Dataset],
    phases: Mapping[str, xr.Dataset],
    tokens: np.ndarray,
) -> tuple[Figure, shared.Panel | None, dict[str, shared.Panel]]:
    sub = len(lines) + len(_groups(steps))
    heights = {
        "loss": _LOSS,
        "curves": _CURVES,
        "chart": steps.sizes["word_class"] * (sub * _SUB + _BETWEEN),
    }
    if not losses:
        del heights["loss"]
    tall_rows = [*([_RIBBON * len(phases)] * bool(phases)), *heights.values()]
    entries = [*(list(lines) if len(lines) > 1 else []), *([_RANGE] if _groups(steps) else [])]
    named = legend_rows(entries)[1] if entries else bool(phases)
    below, above = 0.52 + 0.19 * named, 0.5
    gap = 0.13
    tall = sum(tall_rows) + gap * (len(tall_rows) - 1) + below + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=0.78 / WIDTH, right=1 - _RIGHT / WIDTH, bottom=below / tall,
        top=1 - above / tall,
    )  # fmt: skip
    made = shared.stacked_panels(
        figure, grid[0], tall_rows, zero=bool((tokens == 0).any()),
        gap=gap / float(np.mean(tall_rows)),
    )  # fmt: skip
    ribbon = made.pop(0) if phases else None
    return figure, ribbon, dict(zip(heights, made, strict=True))


def _curves(
    panel: shared.Panel,
    lines: Mapping[str, xr.Dataset],
    looks: Mapping[str, Mapping[str, Any]],
    styles: Mapping[str, Mapping[str, Any]],
    theme: Theme,
) -> None:
    """A curve a class; its interval too, if there is one line of training."""
    for line, part in lines.items():
        for name, style in styles.items():
            one = part.sel(word_class=name)
            drawn = {**style, "linestyle": looks[line]["linestyle"]}
            if len(lines) > 1:
                one = one.drop_vars(["lower", "upper"], errors="ignore")
                drawn |= {"linewidth": 0.9, "markersize": 2.2}
            shared.draw_curve(panel, one, drawn, f"_{line}/{name}")
    for axes in panel.all:
        axes.axhline(_CHANCE, color=theme.muted, lw=0.8, linestyle=":", label="_chance")
    panel.left.set_ylabel("separation\nfrom the rest")


def _chart(
    panel: shared.Panel,
    steps: xr.Dataset,
    lines: Mapping[str, xr.Dataset],
    looks: Mapping[str, Mapping[str, Any]],
    styles: Mapping[str, Mapping[str, Any]],
    order: list[str],
    theme: Theme,
) -> None:
    """A row a class, in it a line a mark with its interval, and below them their spread."""
    groups = _groups(steps)
    high = (len(lines) + len(groups)) * _SUB + _BETWEEN
    last = panel.log.get_xlim()[1]
    for number, name in enumerate(order):
        top = number * high + _BETWEEN / 2
        for row, (line, part) in enumerate(lines.items()):
            one = steps.sel(training_line=line, word_class=name)
            height = top + (row + 0.5) * _SUB
            if one["separated"] == 1:
                style = {"color": styles[name]["color"], "marker": looks[line]["marker"]}
                _mark(panel, one, part["tokens"].values.astype(float), height, style, last)
            else:
                said = "no rise" if one["separated"] == 0 else "not measured"
                panel.log.text(
                    0.99, height, said, fontsize=8, color=theme.muted, ha="right",
                    va="center_baseline", transform=panel.log.get_yaxis_transform(),
                )  # fmt: skip
        for row, own in enumerate(groups.values()):
            height = top + (len(lines) + row + 0.5) * _SUB
            _spread(panel, steps.sel(training_line=own, word_class=name), lines, height, theme)
        rise = steps["rise"].sel(word_class=name).values
        told = f"{np.nanmedian(rise):+.2f}" if np.isfinite(rise).any() else ""
        panel.log.text(
            1.02, (number + 0.5) * high, told, transform=panel.log.get_yaxis_transform(),
            fontsize=8, va="center_baseline",
        )  # fmt: skip
        if number:
            for axes in panel.all:
                axes.axhline(number * high, color=theme.faint, lw=0.6)
    panel.log.text(
        1.02, 1.0, "rise", transform=panel.log.transAxes, fontsize=8, va="bottom", color=theme.muted
    )
    panel.left.set_yticks([(i + 0.5) * high for i in range(len(order))], order)
    panel.log.set_ylim(len(order) * high, 0)
    for axes in panel.all:
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)


def _mark(
    panel: shared.Panel,
    one: xr.Dataset,
    tokens: np.ndarray,
    height: float,
    style: Mapping[str, Any],
    last: float,
) -> None:
    """Mark the first checkpoint, and draw its interval; it may begin at step 0 or have no end."""
    first, low, high = (float(one[f"{end}_row"]) for end in ("first", "lower", "upper"))
    ends = [tokens[int(row)] if row < tokens.size else last for row in (low, high)]
    _line(panel, ends[0], ends[1], height, color=style["color"], lw=1.3)
    if high >= tokens.size:
        panel.log.plot(
            [last], [height], ">", color=style["color"], markersize=3.5, clip_on=False,
            label="_open",
        )  # fmt: skip
    where = tokens[int(first)]
    axes = panel.log if where > 0 or panel.zero is None else panel.zero
    axes.plot(
        [where], [height], linestyle="none", markersize=4.5, label="_first", clip_on=False,
        zorder=3, **style,
    )  # fmt: skip


def _line(panel: shared.Panel, low: float, high: float, height: float, **style: Any) -> None:
    """Draw an interval of tokens across the break, where it begins at step 0."""
    if low <= 0 and panel.zero is not None:
        panel.zero.plot([0, min(high, 1)], [height] * 2, label="_interval", **style)
    if high > 0:
        start = max(low, panel.log.get_xlim()[0])
        panel.log.plot([start, high], [height] * 2, label="_interval", **style)


def _spread(
    panel: shared.Panel,
    own: xr.Dataset,
    lines: Mapping[str, xr.Dataset],
    height: float,
    theme: Theme,
) -> None:
    """Draw the range of the lines' marks as a bar, and their median as a stroke."""
    rows = own["first_row"].values
    names = own["training_line"].values.astype(str)
    found = [
        float(lines[name]["tokens"].values[int(row)])
        for name, row in zip(names, rows, strict=True)
        if np.isfinite(row)
    ]
    if len(found) < 2:
        return
    _line(
        panel, min(found), max(found), height, color=theme.muted, lw=3.2, alpha=0.75,
        solid_capstyle="butt",
    )  # fmt: skip
    middle = float(np.exp(np.median(np.log(np.maximum(found, 1.0)))))
    panel.log.plot([middle], [height], "|", color=theme.ink, markersize=7, mew=1.6, label="_median")


def _phases(
    ribbon: shared.Panel | None,
    panels: Mapping[str, shared.Panel],
    phases: Mapping[str, xr.Dataset],
    theme: Theme,
    *,
    study: bool,
) -> list[str]:
    """Name the phases above, and where there is one line shade them and draw their boundaries."""
    if ribbon is None:
        return []
    if len(phases) == 1:
        (only,) = phases.values()
        for panel in panels.values():
            shared.shade_phases(panel.log, only, theme)
            shared.draw_boundaries(panel.log, only, theme.ink)
    return shared.phase_ribbon(ribbon, phases, dict.fromkeys(phases, theme.ink), theme, above=study)


def _legend(
    figure: Figure,
    panel: shared.Panel,
    styles: dict[str, dict[str, Any]],
    looks: Mapping[str, Mapping[str, Any]],
    unnamed: list[str],
    theme: Theme,
    steps: xr.Dataset,
) -> None:
    panel.log.legend(
        handles=class_key(styles, line=True), loc="upper left", bbox_to_anchor=(1.0, 1.03),
        handlelength=0.9, borderaxespad=0.2, handletextpad=0.4, fontsize=8, labelspacing=0.35,
    )  # fmt: skip
    handles: list[Line2D | Patch] = []
    if len(looks) > 1:
        handles += [
            Line2D([], [], color=theme.ink, **look, label=shared.shortened(line, WIDTH - 0.8))
            for line, look in looks.items()
        ]
    if _groups(steps):
        handles.append(Line2D([], [], color=theme.muted, lw=3.2, alpha=0.75, label=_RANGE))
    handles += [
        Patch(color=theme.phase(name), alpha=2 * theme.phase_alpha, lw=0, label=name)
        for name in unnamed
    ]
    if handles:
        columns, _ = legend_rows([str(h.get_label()) for h in handles])
        figure.legend(
            handles=handles, loc="lower center", ncols=columns, columnspacing=1.6, handlelength=2.8
        )


def _table(
    whole: xr.Dataset,
    steps: xr.Dataset,
    losses: Mapping[str, xr.Dataset],
    material: Material,
    threshold: float | None,
) -> xr.Dataset:
    kept = [v for v in ("value", "lower", "upper") if v in whole.data_vars]
    table = whole[kept].rename(
        {v: "separation" if v == "value" else f"separation_{v}" for v in kept}
    ).drop_vars(["layer", "layer_name", "depth"], errors="ignore")  # fmt: skip
    table = table.drop_attrs()
    if losses:
        loss = material.measures["loss"]["value"].compute()
        table["loss"] = loss.reset_coords(drop=True).reindex(checkpoint=table["checkpoint"])
    names = {"first": "emergence", "lower": "emergence_lower", "upper": "emergence_upper"}
    rows = ("first_row", "lower_row", "upper_row")
    table = table.merge(steps.drop_vars(rows).rename(names))
    between = spread(steps).rename(
        median="median_step", lowest="lowest_step", highest="highest_step", emerged="lines_emerged"
    )
    table = table.merge(between.drop_vars("lines"))
    for name in map(str, table.data_vars):
        unit = "step" if name.startswith("emergence") or name.endswith("_step") else "1"
        table[name].attrs = {"units": "nats" if name == "loss" else unit}
    table.attrs["told"] = told_steps(steps)
    table.attrs["rule"] = (
        "halfway up its own rise from the first checkpoint to the last"
        if threshold is None
        else f"at {threshold:g}"
    )
    table.attrs["lines"] = (
        " Several lines of training: a mark and an interval each, from the top as in the legend; grey"
        " bars are the range between lines, which is noise of training and apart from the intervals."
        if steps.sizes["training_line"] > 1
        else ""
    )
    return table


ROW = FigureRow(
    name="word_class_emergence",
    title="When word classes emerge",
    function=draw_word_class_emergence,
    needs=(("word_class_separation", "one_vs_rest"),),
    optional=(("loss", "surprisal"),),
    phases=True,
    source="in the style of arXiv 2302.07588; emergence over training after arXiv 2104.07885",
    caption=(
        "How well each class of the tenth word is told from the others at layer {layer} (dotted: chance),"
        " and below the checkpoint from which that stays {rule}. Horizontal lines: {level} interval from"
        " the standard errors ({interval}), noise of the probe.{lines} Right: the rise itself (median"
        " over lines); a class whose rise is not above 0 has no mark. {told}. Inputs: {inputs}."
    ),
    extra=True,
)
