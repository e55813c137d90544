"""Scores of tasks over training, above the geometry they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures import axes as shared
from figures.lines import legend_rows, step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    MissingMeasure,
    at_layer,
    branches,
    by_branch,
    has_numbers,
    merge_tables,
    require_series,
)
from figures.style import WIDTH, Theme

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_PUBLISHED: Any = (0, (3, 2))
_KINDS = {"task_score": "", "published_score": "published"}
_SHOWN = ("sciq", "lambada_openai", "arc_easy", "piqa")
_GEOMETRY = {"rankme": "RankMe", "alpha_req": "α-ReQ"}
_HEIGHTS = {"score": 1.9, "rankme": 1.2, "alpha_req": 1.0}  # inches


def draw_downstream(
    material: Material,
    theme: Theme,
    *,
    layer: str | int = "final",
    tasks: Sequence[str] | None = None,
) -> tuple[Figure, xr.Dataset]:
    """Draw scores of tasks against tokens with their errors, and below them RankMe and α.

    Parameters
    ----------
    material : rankme (checkpoint, layer), optionally alpha_req; task_score and published_score
        (checkpoint, task), of which there must be one.
    layer : of the geometry, by name or number.
    tasks : those shown; by default the store's own and, of published ones, the same or the four best
        known.

    Returns
    -------
    The figure and a Dataset of what it shows, one variable a task.

    Raises
    ------
    MissingMeasure
        If the store has no scores.
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If there is no such layer or task.

    Notes
    -----
    After arXiv 2509.23024, figure 3B, with the geometry on axes of its own. Memory: the measures of
    one layer.
    """
    require_series(material.measures["rankme"])
    scores = _scores(material, tasks)
    geometry = {
        name: at_layer(material.measures[name], layer).compute()
        for name in _GEOMETRY
        if name in material.measures
    }
    geometry = {n: d for n, d in geometry.items() if n == "rankme" or has_numbers(d["value"])}
    lines = list(dict.fromkeys(b for d in geometry.values() for b in branches(d)))
    handles = _handles(scores, lines, theme)
    every = [*scores.values(), *geometry.values()]
    zero = any(bool((data["tokens"].values == 0).any()) for data in every)
    figure, panels = _layout(
        list(geometry), legend_rows([str(h.get_label()) for h in handles])[1], zero
    )
    _draw_scores(panels[0], scores, lines, theme)
    for panel, (name, data) in zip(panels[1:], geometry.items(), strict=True):
        for line, part in by_branch(data):
            style = {"color": theme.ink, "linestyle": _dashes(lines, line), "marker": "o"}
            shared.draw_curve(panel, part, style, line)
        panel.left.set_ylabel(_GEOMETRY[name])
        if name == "rankme":
            _log_axis(panel)
    shared.token_axis(panels, np.concatenate([d["tokens"].values for d in every]).astype(float))
    label, first = step_axis_of(geometry["rankme"])
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(panels[0], steps, seen, label=label)
    figure.align_ylabels([panel.left for panel in panels])
    columns = legend_rows([str(h.get_label()) for h in handles])[0]
    figure.legend(
        handles=handles, loc="lower center", ncols=columns, columnspacing=1.6, handlelength=2.8
    )
    table = _table(scores, geometry)
    published = material.measures.get("published_score")
    table.attrs["published"] = (
        ""
        if published is None or not any(kind == "published_score" for kind, _ in scores)
        else f"Dashed with squares: published for {published.attrs.get('model', 'the model')}"
        f" ({published.attrs.get('source', 'source not stated')}). "
    )
    table.attrs["below"] = " and ".join(_GEOMETRY[name] for name in geometry)
    return figure, table


def _scores(material: Material, tasks: Sequence[str] | None) -> dict[tuple[str, str], xr.Dataset]:
    """(Measure, task) to its scores (checkpoint); the store's own first."""
    there = {
        (kind, str(task)): material.measures[kind].sel(task=task, drop=True).compute()
        for kind in _KINDS
        if kind in material.measures
        for task in material.measures[kind]["task"].values
    }
    there = {key: data for key, data in there.items() if has_numbers(data["value"])}
    if not there:
        raise MissingMeasure(
            'the store holds no scores: add visits = ["lm_eval"] to its recipe and run it, or walk a '
            "Pythia series, whose scores are published"
        )
    names = {task for _, task in there}
    for unknown in [t for t in tasks or () if t not in names]:
        raise ValueError(f"tasks has {unknown!r}; give some of {', '.join(sorted(names))}")
    own = [task for kind, task in there if kind == "task_score"]
    wanted = tasks or [
        *own,
        *(() if set(own) & {t for k, t in there if k != "task_score"} else _SHOWN),
    ]
    return {key: data for key, data in there.items() if key[1] in wanted}


def _draw_scores(
    panel: shared.Panel,
    scores: Mapping[tuple[str, str], xr.Dataset],
    lines: list[str],
    theme: Theme,
) -> None:
    for (kind, task), data in scores.items():
        colour = _colours(scores, theme)[task]
        for line, part in by_branch(data):
            style: dict[str, Any] = {"color": colour, "marker": "o"}
            style["linestyle"] = _dashes(lines, line)
            if kind == "published_score":
                style |= {"linestyle": _PUBLISHED, "marker": "s", "markerfacecolor": theme.page}
            shared.draw_curve(panel, part, style, f"{task} {_KINDS[kind]} {line}")
    panel.left.set_ylabel("accuracy")


def _colours(scores: Mapping[tuple[str, str], xr.Dataset], theme: Theme) -> dict[str, str]:
    names = list(dict.fromkeys(task for _, task in scores))
    return {name: theme.category(number) for number, name in enumerate(names)}


def _dashes(lines: list[str], line: str) -> Any:
    return _DASHES[lines.index(line) % len(_DASHES)] if line in lines else "-"


def _handles(
    scores: Mapping[tuple[str, str], xr.Dataset], lines: list[str], theme: Theme
) -> list[Line2D]:
    colours = _colours(scores, theme)
    made = []
    for kind, task in scores:
        style: dict[str, Any] = {"color": colours[task], "marker": "o"}
        if kind == "published_score":
            style |= {"linestyle": _PUBLISHED, "marker": "s", "markerfacecolor": theme.page}
        made.append(Line2D([], [], label=f"{task} {_KINDS[kind]}".strip(), **style))
    if len(lines) > 1:
        made += [
            Line2D([], [], color=theme.ink, linestyle=_dashes(lines, line), label=line)
            for line in lines
        ]
    return made


def _layout(names: list[str], rows: int, zero: bool) -> tuple[Figure, list[shared.Panel]]:
    heights = [_HEIGHTS["score"], *(_HEIGHTS[name] for name in names)]
    below, above = 0.55 + 0.19 * rows, 0.5
    tall = sum(heights) * 1.12 + below + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=0.62 / WIDTH, right=1 - 0.12 / WIDTH,
        bottom=below / tall, top=1 - above / tall,
    )  # fmt: skip
    return figure, shared.stacked_panels(figure, grid[0], heights, zero=zero)


def _log_axis(panel: shared.Panel) -> None:
    for axes in panel.all:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(shared.short_number))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _table(
    scores: Mapping[tuple[str, str], xr.Dataset], geometry: Mapping[str, xr.Dataset]
) -> xr.Dataset:
    named = {f"{task}_{_KINDS[kind]}".rstrip("_"): data for (kind, task), data in scores.items()}
    parts = []
    for name, data in {**named, **geometry}.items():
        kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
        part = data[kept].rename({v: name if v == "value" else f"{name}_{v}" for v in kept})
        for variable in part.data_vars.values():
            variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(part.drop_vars(["layer", "layer_name", "depth"], errors="ignore"))
    return merge_tables(parts)


ROW = FigureRow(
    name="downstream",
    title="Scores of tasks over training",
    function=draw_downstream,
    needs=(("rankme", "li2025"),),
    phases=False,
    extra=True,
    source="arXiv 2509.23024, figure 3B",
    caption=(
        "Zero-shot accuracy against tokens (log axis; step 0 left of the break), with bands of ±1.96"
        " standard errors over questions. {published}Below: {below} of layer {layer}, with {level}"
        " intervals ({interval}). Inputs of the geometry: {inputs}."
    ),
    optional=(
        ("alpha_req", "li2025"),
        ("task_score", "acc"),
        ("published_score", "pythia_v1"),
    ),
)
