"""One checkpoint, layer by layer: RankMe, α and attention entropy over depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from figures.axes import CHARACTER, short_number
from figures.heads import entropy_label, mark_uniform, uniform_entropy
from figures.lines import Look, key, legend_rows, line_legend, line_looks
from figures.row import FigureRow
from figures.select import (
    Material,
    by_branch,
    checkpoint_names,
    has_numbers,
    head_mean,
    is_study,
    layer_names,
    merge_tables,
    own_part,
)
from figures.style import WIDTH, Theme

_HEIGHTS = {"rankme": 1.6, "alpha_req": 1.2, "head_entropy": 2.0}  # inches
_LABELS = {"rankme": "RankMe", "alpha_req": "α-ReQ"}
_PANELS = {
    "rankme": "RankMe (log axis)",
    "alpha_req": "α-ReQ",
    "head_entropy": "attention entropy of every head (dots) and each block's mean (line)",
}
_UNIFORM = (
    "The dashed line is uniform attention under a causal mask, ln(T!)/T at the input length T. "
)
_FINAL = 1.13  # where the layer after the final norm stands on an axis of relative depth
_NARROW = 0.08  # of the distance between points on that axis to that on an axis of layers
_LEFT, _RIGHT = 0.62, 0.12  # inches
_LOG_FROM = 6.0  # highest / lowest number from which the ticks of a log axis are 1, 2, 5


def draw_profile(
    material: Material, theme: Theme, *, step: int | None = None
) -> tuple[Figure, xr.Dataset]:
    """Draw RankMe, α and the attention entropy of every head of one checkpoint against depth.

    Parameters
    ----------
    material : rankme (checkpoint, layer), optionally alpha_req (checkpoint, layer) and head_entropy
        (checkpoint, block, head).
    step : the checkpoint shown, in every branch that has it; each branch's last by default.

    Returns
    -------
    The figure and a Dataset of what it shows: `rankme` and `alpha_req` (checkpoint, layer) with
    their intervals, `head_entropy` (checkpoint, block, head) and `block_mean` (checkpoint, block), the
    mean over heads (NaN if one head is NaN). A measure without a number there is left out.

    Raises
    ------
    ValueError
        If no branch has the step, or RankMe is NaN at every layer.

    Notes
    -----
    A block's attention stands at the layer it ends in. Memory: the measures of one checkpoint a branch.
    """
    names = _chosen(material, step)
    shown = _shown(material, names)
    relative = _differ_in_depth(shown["rankme"])
    depths, labels = _relative_depths() if relative else _depths(shown)
    looks = _looks(material, shown, theme)
    asides = np.linspace(-0.12, 0.12, len(names)) if len(names) > 1 else np.zeros(1)
    study = is_study(shown["rankme"])
    rows = legend_rows(list(names.values()))[1] if study else 1
    below = 0.5 + (0.24 + 0.19 * (rows - 1)) * (len(names) > 1)
    figure, panels = _layout(shown, below)
    for name, data in shown.items():
        axes = panels[name]
        for (label, look), aside in zip(looks.items(), asides, strict=True):
            there = data.isel(checkpoint=data["checkpoint"].values.astype(str) == label)
            if there.sizes["checkpoint"] == 0:
                continue
            part = (own_part(there) if is_study(there) else there).isel(checkpoint=0)
            if not has_numbers(part["value"]):
                continue
            if name == "head_entropy":
                places = part["block_depth" if relative else "block"].values.astype(float)
                _heads(axes, part, places, aside * (_NARROW if relative else 1), look)
            else:
                places = _places(part, depths, relative=relative)
                _layers(axes, part, places, aside * (_NARROW if relative else 1), look)
        axes.set_ylabel(_label(name, data))
    _value_axes(shown, panels, theme)
    if relative:
        _relative_axis(panels, labels, theme)
    else:
        _depth_axis(panels, labels, theme)
    if len(names) == 1:
        panels["rankme"].set_title(next(iter(names.values())))
    elif study:
        line_legend(figure, looks, names)
    else:
        handles = [key(looks[label], name) for label, name in names.items()]
        figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 4))
    table = _table(shown)
    table.attrs = _told(material, shown, names)
    return figure, table


def _chosen(material: Material, step: int | None) -> dict[str, str]:
    """Label of the checkpoint of each branch to what it is called."""
    parts = list(by_branch(material.measures["rankme"]))
    chosen: dict[str, str] = {}
    for branch, part in parts:
        steps = part["step"].values.astype(int)
        places = np.flatnonzero(steps == step) if step is not None else [steps.size - 1]
        names = checkpoint_names(part, material.revisions)
        prefix = f"{branch}, " if len(parts) > 1 else ""
        chosen |= {str(part["checkpoint"].values[p]): prefix + names[p] for p in places}
    if not chosen:
        have = np.unique(material.measures["rankme"]["step"].values.astype(int))
        near = have[np.argmin(np.abs(have - int(step or 0)))]
        raise ValueError(f"step is {step}, which was not measured; the nearest is {near}")
    return chosen


def _shown(material: Material, names: Mapping[str, str]) -> dict[str, xr.Dataset]:
    """Keep the chosen checkpoints of each measure that has a number there."""
    shown: dict[str, xr.Dataset] = {}
    for name in _HEIGHTS:
        data = material.measures.get(name)
        if data is None:
            continue
        kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
        kept = kept[:1] if name == "head_entropy" else kept
        chosen = np.isin(data["checkpoint"].values.astype(str), list(names))
        part = data[kept].isel(checkpoint=chosen).compute()
        if has_numbers(part["value"]):
            shown[name] = part
    if "rankme" not in shown:
        raise ValueError(f"rankme is NaN at every layer of {_listed(list(names.values()))}")
    return shown


def _looks(material: Material, shown: Mapping[str, xr.Dataset], theme: Theme) -> dict[str, Look]:
    """Checkpoint label to the look its branch has in every figure."""
    known = line_looks([material.measures["rankme"]], theme)
    labels = {
        str(label): line
        for line, part in by_branch(shown["rankme"])
        for label in part["checkpoint"].values
    }
    return {str(c): known[labels[str(c)]] for c in shown["rankme"]["checkpoint"].values}


def _differ_in_depth(data: xr.Dataset) -> bool:
    """Whether these are models of different depth: then only relative depth is common to them."""
    return is_study(data) and len(np.unique(data["blocks"].values)) > 1


def _relative_depths() -> tuple[dict[int, float], dict[float, str]]:
    quarters = {0.25: "1/4", 0.5: "1/2", 0.75: "3/4"}
    return {}, {0.0: "embedding", **quarters, 1.0: "last block", _FINAL: "final"}


def _places(part: xr.Dataset, depths: Mapping[int, float], *, relative: bool) -> np.ndarray:
    """Place of each layer on the axis; the layer after the final norm has one for all models."""
    if relative:
        own = part["depth"].values.astype(float)
        return np.where(np.isfinite(own), own, _FINAL)
    return np.array([depths[int(number)] for number in part["layer"].values])


def _depths(shown: Mapping[str, xr.Dataset]) -> tuple[dict[int, float], dict[float, str]]:
    """Place of each layer's number, and the name at each place; the final layer is set apart."""
    layers = [int(number) for number in shown["rankme"]["layer"].values]
    names = layer_names(shown["rankme"])
    depths = {number: float(number) for number in layers}
    labels = dict(zip(depths.values(), names, strict=True))
    blocks = shown["head_entropy"]["block"].values.tolist() if "head_entropy" in shown else []
    labels |= {float(block): labels.get(float(block), str(block)) for block in blocks}
    if names[-1] == "final":
        before = max([*map(float, layers[:-1]), *map(float, blocks)], default=-1.0)
        del labels[depths[layers[-1]]]
        depths[layers[-1]] = before + 1 + max(0.4, 0.02 * before)
        labels[depths[layers[-1]]] = "final"
    return depths, labels


def _layout(shown: Mapping[str, xr.Dataset], below: float) -> tuple[Figure, dict[str, Axes]]:
    heights = [_HEIGHTS[name] for name in shown]
    above, gap = 0.3, 0.15
    inner = sum(heights) + gap * (len(heights) - 1)
    tall = inner + below + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        len(heights), 1, figure, height_ratios=heights, left=_LEFT / WIDTH,
        right=1 - _RIGHT / WIDTH, bottom=below / tall, top=1 - above / tall,
        hspace=gap / float(np.mean(heights)),
    )  # fmt: skip
    panels: dict[str, Axes] = {}
    for row, name in enumerate(shown):
        panels[name] = figure.add_subplot(grid[row], sharex=panels.get("rankme"))
    return figure, panels


def _layers(axes: Axes, part: xr.Dataset, places: np.ndarray, aside: float, look: Look) -> None:
    """Draw one branch: a line with its band up to the last block, the final layer as a point.

    `aside` keeps the points of several branches from hiding one another.
    """
    value = part["value"].values.astype(float)
    final = value.size - (layer_names(part)[-1] == "final")
    places = places + np.where(np.arange(value.size) < final, 0.0, aside)
    alone = {**look.style, "linestyle": "none", "markersize": 4}
    axes.plot(places[:final], value[:final], label="value", **look.style)
    axes.plot(places[final:], value[final:], label="final", **alone)
    if not {"lower", "upper"} <= set(part.data_vars):
        return
    lower, upper = (part[name].values.astype(float) for name in ("lower", "upper"))
    axes.fill_between(
        places[:final], lower[:final], upper[:final], color=look.colour, alpha=0.25, linewidth=0
    )
    axes.vlines(places[final:], lower[final:], upper[final:], color=look.colour, linewidth=1.4)


def _heads(axes: Axes, part: xr.Dataset, places: np.ndarray, aside: float, look: Look) -> None:
    """Draw one branch: a dot a head, and the mean of each block."""
    values = part["value"].transpose("block", "head").values.astype(float)
    dots: dict[str, Any] = {"color": look.colour, "alpha": 0.6, "markersize": 3.5, "mew": 0}
    axes.plot(places + aside, values, look.marker, label="heads", **dots)
    axes.plot(
        places, values.mean(axis=1), linestyle=look.dashes, color=look.colour, linewidth=2.0,
        label="mean",
    )  # fmt: skip


def _label(name: str, data: xr.Dataset) -> str:
    unit = str(data.attrs.get("unit", ""))
    if name == "head_entropy":
        return entropy_label(unit)
    return _LABELS[name] + ("" if unit in ("", "1", "dimensionless") else f" [{unit}]")


def _value_axes(shown: Mapping[str, xr.Dataset], panels: Mapping[str, Axes], theme: Theme) -> None:
    axes = panels["rankme"]
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Over less than a decade the round numbers of a linear axis are the readable ones.
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5)) if high / low > _LOG_FROM else MaxNLocator(5)
    )
    axes.yaxis.set_major_formatter(FuncFormatter(short_number))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    if "head_entropy" not in panels:
        return
    axes = panels["head_entropy"]
    entropy = shown["head_entropy"]
    ceilings = {uniform_entropy(entropy.attrs, part) for _, part in by_branch(entropy)}
    for ceiling in sorted(c for c in ceilings if c is not None):
        mark_uniform([axes], ceiling, theme)
    low, high = axes.get_ylim()
    axes.set_ylim(min(0.0, low), high + 0.08 * (high - low))


def _relative_axis(panels: Mapping[str, Axes], labels: Mapping[float, str], theme: Theme) -> None:
    """Name the ends and quarters of the depth that models of different size have in common."""
    bottom = list(panels.values())[-1]
    bottom.set_xticks(list(labels), list(labels.values()))
    bottom.set_xlim(-0.04, _FINAL + 0.05)
    bottom.set_xlabel("depth: block / number of blocks")
    for name, axes in panels.items():
        axes.tick_params(labelbottom=axes is bottom)
        if name != "head_entropy":
            _set_apart(axes, (1 + _FINAL) / 2, theme)
    bottom.figure.align_ylabels(list(panels.values()))


def _set_apart(axes: Axes, place: float, theme: Theme) -> None:
    """Draw the line between the last block and the layer after the final norm."""
    axes.axvline(place, color=theme.muted, linewidth=0.7, linestyle=(0, (1, 3)))


def _depth_axis(panels: Mapping[str, Axes], labels: Mapping[float, str], theme: Theme) -> None:
    """Name the layers along the bottom, as many as there is room for; the ends always."""
    places = sorted(labels)
    room = (WIDTH - _LEFT - _RIGHT) / max(places[-1] - places[0] + 1, 1)  # inches a layer
    ends = [p for p in (places[0], places[-1]) if not labels[p].isdigit()]
    stride = next((s for s in (1, 2, 5, 10, 20, 50) if s * room > 0.3), 100)

    def apart(one: float, other: float) -> bool:
        letters = (len(labels[one]) + len(labels[other])) / 2
        return abs(one - other) * room > letters * CHARACTER + 0.05

    kept = [
        p for p in places
        if p not in ends and p % stride == 0 and all(apart(p, end) for end in ends)
    ]  # fmt: skip
    bottom = list(panels.values())[-1]
    shown = sorted({*kept, *ends})
    bottom.set_xticks(shown, [labels[p] for p in shown])
    bottom.set_xlim(places[0] - 0.6, places[-1] + 0.6)
    bottom.set_xlabel("layer")
    for name, axes in panels.items():
        axes.tick_params(labelbottom=axes is bottom)
        if labels[places[-1]] == "final" and len(places) > 1 and name != "head_entropy":
            _set_apart(axes, (places[-2] + places[-1]) / 2, theme)
    bottom.figure.align_ylabels(list(panels.values()))


def _table(shown: Mapping[str, xr.Dataset]) -> xr.Dataset:
    parts: list[xr.Dataset] = []
    for name, data in shown.items():
        part = data.rename(
            {v: name if v == "value" else f"{name}_{v}" for v in map(str, data.data_vars)}
        )
        if name == "head_entropy":
            part["block_mean"] = head_mean(part[name])
        for variable in part.data_vars.values():
            variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(part)
    return merge_tables(parts)


def _told(
    material: Material, shown: Mapping[str, xr.Dataset], names: Mapping[str, str]
) -> dict[str, str]:
    """Return what the caption says of the panels, the checkpoints and what is left out."""
    notes = ""
    if "alpha_req" in material.measures and "alpha_req" not in shown:
        notes += "α-ReQ is left out: it is NaN at every layer. "
    if "head_entropy" in shown:
        notes += "A block's attention stands at the layer it ends in. "
        entropy = shown["head_entropy"]
        known = any(uniform_entropy(entropy.attrs, part) for _, part in by_branch(entropy))
        notes += _UNIFORM if known else ""
    return {
        "panels": _listed([_PANELS[name] for name in shown]),
        "which": _listed(list(names.values())),
        "notes": notes,
    }


def _listed(words: list[str]) -> str:
    if len(words) < 3:
        return " and ".join(words)
    return "; ".join(words[:-1]) + "; and " + words[-1]


ROW = FigureRow(
    name="profile",
    title="One checkpoint, layer by layer",
    function=draw_profile,
    needs=(("rankme", "li2025"),),
    phases=False,
    source="the measures of arXiv 2509.23024 and arXiv 2303.06296, over depth",
    caption=(
        "{panels} against depth, at {which}. The layer after the final norm is set apart."
        " Bands and its bar: {level} intervals ({interval}). {notes}Inputs: {inputs}."
    ),
    optional=(("alpha_req", "li2025"), ("head_entropy", "zhai2023")),
)
