"""Post-training: RankMe over its branches, losses by where it started, and pass@k."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from figures.axes import shortened
from figures.lines import legend_rows
from figures.row import FigureRow
from figures.select import Material, NothingToCompare, at_layer, by_branch, has_numbers
from figures.style import WIDTH, Theme

_FROM = re.compile(r"^(?P<kind>.+)-from-(?P<step>\d+)$")
_MAIN = "main"
_MARKERS = "osD^v"
_LEFT, _RIGHT, _GAP = 0.62, 0.12, 0.72  # inches
_TOP, _PANEL, _BETWEEN, _BELOW = 0.3, 1.75, 0.78, 1.2
_LAST = 1.0  # width of a stage


def draw_post_training(
    material: Material, theme: Theme, *, layer: str | int = "final"
) -> tuple[Figure, xr.Dataset]:
    """Draw RankMe along each branch, answer loss by the step fine-tuning began, and pass@k.

    Parameters
    ----------
    material : of every set what it has of rankme (checkpoint, layer), loss and answer_loss (checkpoint)
        and pass_at_k (checkpoint, k).
    layer : the layer whose RankMe is shown.

    Returns
    -------
    The figure and a Dataset of `rankme`, `answer_loss_SET`, `loss_SET` and `pass_at_k_SET` with bounds.
    Branches called `NAME-from-STEP` are the second panel's; the others are stages, in order of tokens.

    Raises
    ------
    NothingToCompare
        If there is no branch beside `main`.

    Notes
    -----
    After arXiv 2509.23024, figures 5 and 14 (left). Stages are set beside each other, each over its own
    steps, and no line joins two. Memory: the measures of one layer.
    """
    found = _found(material, layer)
    stages = _stages(found)
    if len(stages) < 2:
        raise NothingToCompare("post-training needs a branch beside `main`; there is none")
    looks = {s: (theme.category(i), _MARKERS[i % len(_MARKERS)]) for i, s in enumerate(stages)}
    tall = _TOP + 2 * _PANEL + _BETWEEN + _BELOW
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        2, 2, figure, left=_LEFT / WIDTH, right=1 - _RIGHT / WIDTH, top=1 - _TOP / tall,
        bottom=_BELOW / tall, hspace=_BETWEEN / _PANEL, wspace=0.28,
    )  # fmt: skip
    table: dict[str, xr.DataArray] = {}
    if "rankme" in found:
        name, data = next(iter(found["rankme"].items()))
        _stage_panel(figure.add_subplot(grid[0, :]), data, stages, looks, f"RankMe, {name}")
        table |= _columns("rankme", data)
    losses = {n: d for n, d in _losses(found).items() if _starts(d)}
    if losses:
        _start_panel(figure.add_subplot(grid[1, 0]), losses, theme)
    if "pass_at_k" in found:
        place = grid[1, 1] if losses else grid[1, :]
        _pass_panel(figure.add_subplot(place), found["pass_at_k"], stages, looks)
    for measure, data in _losses(found).items():
        table |= _columns(measure.replace(" ", "_"), data)
    for name, data in found.get("pass_at_k", {}).items():
        table |= _columns(f"pass_at_k_{name}", data)
    _legend(figure, stages, looks, losses, theme)
    result = xr.merge([a.rename(n) for n, a in table.items()], join="outer", compat="override")
    return figure, result.assign_attrs(stages=", ".join(stages[1:]))


def _found(material: Material, layer: str | int) -> dict[str, dict[str, xr.Dataset]]:
    """Measure to set to numbers, where there are any."""
    found: dict[str, dict[str, xr.Dataset]] = {}
    for name, measures in material.sets.items():
        for measure, data in measures.items():
            shown = at_layer(data, layer).compute()
            if has_numbers(shown["value"]):
                found.setdefault(measure, {})[name] = shown
    return found


def _stages(found: Mapping[str, Mapping[str, xr.Dataset]]) -> list[str]:
    """`main` and the branches that are no start of their own, in order of tokens."""
    first: dict[str, float] = {}
    for sets in found.values():
        for data in sets.values():
            for branch, part in by_branch(data):
                if not _FROM.match(branch):
                    first[branch] = min(first.get(branch, np.inf), float(part["tokens"].min()))
    return sorted(first, key=lambda b: (b != _MAIN, first[b]))


def _stage_panel(
    axes: Axes,
    data: xr.Dataset,
    stages: list[str],
    looks: Mapping[str, tuple[str, str]],
    label: str,
) -> None:
    ticks: list[float] = []
    names: list[str] = []
    for place, stage in enumerate(stages):
        part = _branch(data, stage)
        if part is None:
            continue
        steps = part["step"].values.astype(float)
        scaled = np.log(np.maximum(steps, 1)) if stage == _MAIN else steps
        low, high = float(scaled.min()), float(scaled.max())
        wide = high - low or 1.0
        at = place + 0.12 + 0.76 * (scaled - low) / wide
        _with_bars(axes, at, part, looks[stage])
        shown = [0, len(at) - 1] if stage == _MAIN or len(at) > 3 else list(range(len(at)))
        ticks += [float(at[i]) for i in dict.fromkeys(shown)]
        names += [f"{int(steps[i])}" for i in dict.fromkeys(shown)]
        title = "pretraining" if stage == _MAIN else stage
        title = shortened(title, (WIDTH - 1.0) / len(stages))
        above = axes.get_xaxis_transform()
        axes.text(place + 0.5, 1.03, title, ha="center", va="bottom", transform=above)
        if place:
            axes.axvline(place, color=axes.spines["left"].get_edgecolor(), linewidth=0.6)
    axes.set_xlim(0, len(stages))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda _x, i: names[i] if i is not None else ""))
    axes.set_xlabel("step of the stage")
    axes.set_ylabel(label)


def _start_panel(axes: Axes, losses: Mapping[str, xr.Dataset], theme: Theme) -> None:
    """Losses at the end of fine-tuning, by the step of pretraining it began from."""
    marks: set[int] = set()
    for index, data in enumerate(losses.values()):
        starts = _starts(data)
        steps = np.array(list(starts), float)
        marks |= set(starts)
        rows = np.array(list(starts.values()))
        part = data.isel(checkpoint=rows)
        look = _loss_look(index, theme)
        _with_bars(axes, steps, part, look, dashed=index > 0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted(marks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlabel("pretraining step that fine-tuning began from")
    axes.set_ylabel("loss after it, nats")


def _starts(data: xr.Dataset) -> dict[int, int]:
    """Step of pretraining to the row of the last checkpoint of fine-tuning from there."""
    found: dict[int, int] = {}
    kinds = {m["kind"] for b in data["branch"].values.astype(str) if (m := _FROM.match(b))}
    for branch in dict.fromkeys(data["branch"].values.astype(str)):
        rows = np.flatnonzero(data["branch"].values.astype(str) == branch)
        last = int(rows[np.argmax(data["tokens"].values[rows])])
        match = _FROM.match(branch)
        if match is not None:
            found[int(match["step"])] = last
        elif branch in kinds:
            main = data["step"].values[data["branch"].values.astype(str) == _MAIN]
            if main.size:
                found[int(main.max())] = last
    return dict(sorted(found.items())) if kinds else {}


def _pass_panel(
    axes: Axes,
    sets: Mapping[str, xr.Dataset],
    stages: list[str],
    looks: Mapping[str, tuple[str, str]],
) -> None:
    """pass@k of the last checkpoint of every stage; the second set of problems is dashed."""
    for index, data in enumerate(sets.values()):
        for stage in stages:
            part = _branch(data, stage)
            if part is None:
                continue
            last = part.isel(checkpoint=-1)
            last = last.isel(k=np.flatnonzero(np.isfinite(last["value"].values)))
            _with_bars(axes, last["k"].values.astype(float), last, looks[stage], dashed=index > 0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("k, draws")
    axes.set_ylabel("pass@k")


def _losses(found: Mapping[str, Mapping[str, xr.Dataset]]) -> dict[str, xr.Dataset]:
    """Answer losses of every set of problems, then the loss on sets without answers."""
    answers = found.get("answer_loss", {})
    plain = {n: d for n, d in found.get("loss", {}).items() if n not in answers}
    named = {f"answer loss {name}": data for name, data in answers.items()}
    return named | {f"loss {name}": data for name, data in plain.items()}


def _loss_look(index: int, theme: Theme) -> tuple[str, str]:
    """Colours that no stage has; the third and later are grey."""
    colour = theme.category(index + 4) if index < 2 else theme.muted
    return colour, _MARKERS[(index + 3) % len(_MARKERS)]


def _with_bars(
    axes: Axes, x: Any, part: xr.Dataset, look: tuple[str, str], *, dashed: bool = False
) -> None:
    colour, marker = look
    value = part["value"].values
    line = (0, (4, 1.6)) if dashed else "-"
    axes.plot(x, value, color=colour, marker=marker, markersize=3.5, linestyle=line, linewidth=1.3)
    if "lower" in part:
        axes.vlines(x, part["lower"].values, part["upper"].values, color=colour, linewidth=0.9)


def _branch(data: xr.Dataset, name: str) -> xr.Dataset | None:
    return dict(by_branch(data)).get(name)


def _columns(name: str, data: xr.Dataset) -> dict[str, xr.DataArray]:
    units = str(data.attrs.get("unit", "1"))
    kept = {"": "value", "_lower": "lower", "_upper": "upper"}
    return {
        name + end: data[variable].drop_attrs().assign_attrs(units=units)
        for end, variable in kept.items()
        if variable in data
    }


def _legend(
    figure: Figure,
    stages: list[str],
    looks: Mapping[str, tuple[str, str]],
    losses: Mapping[str, xr.Dataset],
    theme: Theme,
) -> None:
    handles = [
        Line2D([], [], color=looks[s][0], marker=looks[s][1], markersize=4,
               label="pretraining" if s == _MAIN else s)
        for s in stages
    ]  # fmt: skip
    handles += [
        Line2D([], [], color=_loss_look(i, theme)[0], marker=_loss_look(i, theme)[1], markersize=4,
               linestyle=(0, (4, 1.6)) if i else "-", label=name)
        for i, name in enumerate(losses)
    ]  # fmt: skip
    columns, _ = legend_rows([str(h.get_label()) for h in handles])
    figure.legend(handles=handles, loc="lower center", ncols=columns, columnspacing=1.4)


ROW = FigureRow(
    name="post_training",
    title="Post-training",
    function=draw_post_training,
    needs=(("answer_loss", "surprisal"),),
    optional=(("rankme", "li2025"), ("loss", "surprisal"), ("pass_at_k", "chen2021")),
    phases=False,
    source="arXiv 2509.23024, figures 5 and 14 (left)",
    caption=(
        "Above: RankMe of layer {layer} along pretraining and the stages {stages}, each over its own"
        " steps; no line joins two stages. Below left: losses at the end of fine-tuning, by the step of"
        " pretraining it began from. Below right: pass@k of the last checkpoint of each stage, dashed for"
        " the second set of problems. Bars: {level} intervals over samples or problems, of one training"
        " run. Inputs: {inputs}."
    ),
    all_sets=True,
    extra=True,
)
