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
from figures.word_class_chart import chart_height, draw_chart, groups_of
from figures.word_class_parts import class_key, class_styles, present_classes
from figures.word_class_steps import spread, steps_by_line, told_steps

_LOSS, _CURVES, _RIBBON = 0.95, 1.9, 0.36  # inches
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
    draw_chart(panels["chart"], steps, lines, looks, styles, order, theme)
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


def _layout(
    steps: xr.Dataset,
    lines: Mapping[str, xr.Dataset],
    losses: Mapping[str, xr.Dataset],
    phases: Mapping[str, xr.Dataset],
    tokens: np.ndarray,
) -> tuple[Figure, shared.Panel | None, dict[str, shared.Panel]]:
    heights = {"loss": _LOSS, "curves": _CURVES, "chart": chart_height(steps)}
    if not losses:
        del heights["loss"]
    tall_rows = [*([_RIBBON * len(phases)] * bool(phases)), *heights.values()]
    entries = [*(list(lines) if len(lines) > 1 else []), *([_RANGE] if groups_of(steps) else [])]
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
                drawn |= {"linewidth": 0.9, "markersize": 2.2}
            else:
                _band(panel, one, style["color"])
            bare = one.drop_vars(["lower", "upper"], errors="ignore")
            shared.draw_curve(panel, bare, drawn, f"_{line}/{name}")
    for axes in panel.all:
        axes.axhline(_CHANCE, color=theme.muted, lw=0.8, linestyle=":", label="_chance")
    panel.left.set_ylabel("separation\nfrom the rest")


def _band(panel: shared.Panel, one: xr.Dataset, colour: str) -> None:
    """Draw an interval faintly: those of eight classes lie over one another."""
    seen = one["tokens"].values > 0
    lower, upper = (one[end].values for end in ("lower", "upper"))
    panel.log.fill_between(
        one["tokens"].values[seen], lower[seen], upper[seen], color=colour, alpha=0.1, linewidth=0
    )
    if panel.zero is not None and not seen.all():
        panel.zero.vlines(
            np.zeros((~seen).sum()), lower[~seen], upper[~seen], color=colour, linewidth=1.0,
            alpha=0.5,
        )  # fmt: skip


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
    if groups_of(steps):
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
        "at least halfway up its own rise from the first checkpoint to the last"
        if threshold is None
        else f"at least {threshold:g}"
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
        " and below the checkpoint from which it is {rule} for good. Horizontal lines: {level} interval"
        " from the standard errors ({interval}), noise of the probe.{lines} Right: the rise itself"
        " (median over lines); a class whose rise has an interval that is not above 0 has no mark."
        " {told}. Inputs: {inputs}."
    ),
    extra=True,
)
