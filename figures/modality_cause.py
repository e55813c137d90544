"""What makes a model follow image or text: states carried over, and a direction that is added."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures import axes as shared
from figures.row import FigureRow
from figures.select import (
    Material,
    branches,
    by_branch,
    checkpoint_names,
    has_numbers,
)
from figures.style import WIDTH, Theme

_HEIGHT, _GAP, _ABOVE, _BELOW = 1.55, 0.92, 0.72, 0.78  # inches
_STEERED = 4  # panels
_TITLES = {
    "text_into_vision": "easy text's states into easy image",
    "vision_into_text": "easy image's states into easy text",
}
_SITES = {
    "answer": "answer's position",
    "image": "image",
    "text": "text and question",
    "sequence": "all",
}
_DASHES = {"sequence": (0, (4, 2)), "text_into_vision": "-", "vision_into_text": (0, (4, 2))}


def draw_modality_cause(
    material: Material, theme: Theme, *, branch: str | None = None
) -> tuple[Figure, xr.Dataset]:
    """Draw recovery over layers and training, and text-following against the strength of steering.

    Parameters
    ----------
    material : modality_recovery (checkpoint, direction, site, layer) and, where it was captured,
        steered_following (checkpoint, layer, direction, strength).
    branch : the one shown; the first by default.

    Returns
    -------
    The figure and a Dataset: `recovery` (direction, site, layer) of the last checkpoint,
    `answer_recovery` (checkpoint, direction) at the middle layer, `following` (steered_layer, strength)
    with bounds, and `random_following` (control, steered_layer, strength).

    Raises
    ------
    ValueError
        If there is no such branch.

    Notes
    -----
    Ours; arXiv 2511.02243 shows correlations alone. Memory: both measures.
    """
    data = material.measures["modality_recovery"]
    known = branches(data)
    chosen = branch or known[0]
    if chosen not in known:
        raise ValueError(f"branch is {chosen!r}; give one of {', '.join(known)}")
    recovery = dict(by_branch(data))[chosen].compute()
    steered = material.measures.get("steered_following")
    own = None if steered is None else dict(by_branch(steered)).get(chosen)
    own = None if own is None else own.isel(checkpoint=-1).compute()
    if own is not None and not has_numbers(own["value"]):
        own = None  # a model that solves nothing, or follows one modality alone, is not steered
    tokens = recovery["tokens"].values.astype(float)
    moving = tokens.size > 1 and bool((tokens > 0).any())
    figure, grid = _page(1 + moving + (own is not None))
    _layers(figure, grid, recovery.isel(checkpoint=-1), theme)
    middle = int(recovery["layer"].values[-1]) // 2
    if moving:
        part = recovery.sel(site="answer", layer=middle)
        _training(figure, grid[1, :], part, theme, middle)
    if own is not None:
        _steering(figure, grid[1 + moving, :], own, theme)
    table = _table(recovery, middle if moving else None, own)
    table.attrs = {
        "branch": chosen,
        "step": checkpoint_names(recovery, material.revisions)[-1],
        "training": f" Middle: the answer's position of layer {middle} over training." * moving,
        "steering": _STEERING_CAPTION if own is not None else "",
    }
    return figure, table


def _page(rows: int) -> tuple[Figure, GridSpec]:
    tall = _ABOVE + _BELOW + rows * _HEIGHT + (rows - 1) * _GAP
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        rows, 2, figure, left=0.62 / WIDTH, right=1 - 0.12 / WIDTH, bottom=_BELOW / tall,
        top=1 - _ABOVE / tall, hspace=_GAP / _HEIGHT, wspace=0.1,
    )  # fmt: skip
    return figure, grid


def _layers(figure: Figure, grid: GridSpec, last: xr.Dataset, theme: Theme) -> None:
    """Recovery over layers, one panel a direction, one line a site."""
    first: Axes | None = None
    looks = _looks([str(site) for site in last["site"].values], theme)
    for column, direction in enumerate(last["direction"].values):
        axes = figure.add_subplot(grid[0, column], sharey=first)
        for site, look in looks.items():
            part = last.sel(direction=direction, site=site)
            _line(axes, part["layer"].values, part, look, site)
        _rule(axes, (0.0, 1.0), theme)
        axes.set_title(_TITLES.get(str(direction), str(direction)))
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelleft=first is None)
        if first is None:
            axes.set_ylabel("recovery")
        first = first or axes
    handles = [Line2D([], [], label=_SITES.get(site, site), **look) for site, look in looks.items()]
    figure.legend(
        handles=handles, loc="upper center", ncols=len(handles), title="states carried over at",
        title_fontsize=8, bbox_to_anchor=(0.5, 1.0), columnspacing=1.6,
    )  # fmt: skip


def _looks(sites: list[str], theme: Theme) -> dict[str, dict[str, Any]]:
    return {
        site: {
            "color": theme.muted if site == "sequence" else theme.category(number),
            "linestyle": _DASHES.get(site, "-"),
            "marker": "osD^"[number % 4],
        }
        for number, site in enumerate(sites)
    }


def _line(axes: Axes, x: Any, part: xr.Dataset, look: dict[str, Any], label: str) -> None:
    axes.plot(x, part["value"], label=label, **look)
    axes.fill_between(x, part["lower"], part["upper"], color=look["color"], alpha=0.22, linewidth=0)
    # Intervals of a random model's shares are wide beyond reading: the curves keep the scale.
    values = np.concatenate([np.ravel(line.get_ydata()) for line in axes.lines]).astype(float)
    low, high = np.nanmin([*values, 0.0]), np.nanmax([*values, 1.0])
    axes.set_ylim(low - 0.2 * (high - low), high + 0.2 * (high - low))


def _rule(axes: Axes, places: tuple[float, ...], theme: Theme) -> None:
    for place in places:
        axes.axhline(place, color=theme.muted, lw=0.8, ls=(0, (1, 2)), zorder=1, label="_rule")


def _training(figure: Figure, spec: Any, part: xr.Dataset, theme: Theme, layer: int) -> None:
    """Recovery at the answer's position of one layer over training, one line a direction."""
    tokens, steps = (part[name].values.astype(float) for name in ("tokens", "step"))
    panels = shared.stacked_panels(figure, spec, [1.0], zero=bool((tokens == 0).any()))
    panel = panels[0]
    for number, direction in enumerate(part["direction"].values):
        look = {
            "color": theme.category(4 + number),
            "linestyle": _DASHES.get(str(direction), "-"),
            "marker": "os"[number % 2],
        }
        shared.draw_curve(panel, part.sel(direction=direction), look, _TITLES[str(direction)])
    for axes in panel.all:
        _rule(axes, (0.0, 1.0), theme)
    values = part["value"].values[np.isfinite(part["value"].values)]
    low, high = min(0.0, *np.quantile(values, [0.1])), max(1.0, *np.quantile(values, [0.9]))
    panel.log.set_ylim(low - 0.3 * (high - low), high + 0.3 * (high - low))
    shared.token_axis(panels, tokens)
    shared.step_ticks(panel, steps, tokens)
    panel.left.set_ylabel("recovery")
    panel.log.legend(loc="best")


def _steering(figure: Figure, spec: Any, last: xr.Dataset, theme: Theme) -> None:
    """Following against strength at some layers: the fitted direction, and the range of random ones."""
    count = min(_STEERED, last.sizes["layer"])
    places = np.unique(np.round(np.linspace(0, last.sizes["layer"] - 1, count)).astype(int))
    grid = spec.subgridspec(1, len(places), wspace=0.1)
    first: Axes | None = None
    strength = last["strength"].values
    for column, place in enumerate(places):
        axes = figure.add_subplot(grid[0, column], sharey=first)
        part = last.isel(layer=place)
        _, fitted, random = _split(part)
        spread = random["value"].values
        axes.fill_between(
            strength, spread.min(axis=0), spread.max(axis=0), color=theme.muted, alpha=0.35,
            linewidth=0, label="random directions, range",
        )  # fmt: skip
        look: dict[str, Any] = {"color": theme.category(0), "marker": "o"}
        axes.plot(strength, fitted["value"], label="from image to text", **look)
        axes.fill_between(
            strength, fitted["lower"], fitted["upper"], color=look["color"], alpha=0.22, linewidth=0
        )
        _rule(axes, (0.5,), theme)
        axes.set_title(f"steered at layer {int(part['layer'])}")
        axes.set_ylim(-0.05, 1.05)
        axes.tick_params(labelleft=first is None)
        if first is None:
            axes.set_ylabel("follows the text")
        axes.set_xlabel("strength")
        first = first or axes
    assert first is not None
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2)


def _split(part: xr.Dataset) -> tuple[list[str], xr.Dataset, xr.Dataset]:
    """Names of the random directions, the fitted one and the random ones (direction, strength)."""
    names = [str(name) for name in part["direction"].values]
    random = [name for name in names if name != "fitted"]
    ordered = part.transpose("direction", ..., "strength")
    return random, ordered.sel(direction="fitted"), ordered.sel(direction=random)


def _table(recovery: xr.Dataset, middle: int | None, steered: xr.Dataset | None) -> xr.Dataset:
    def named(data: xr.Dataset, name: str) -> xr.Dataset:
        kept = data[["value", "lower", "upper"]]
        return kept.rename(value=name, lower=f"{name}_lower", upper=f"{name}_upper")

    def bare(data: xr.Dataset) -> xr.Dataset:
        """Without coordinates that other parts have otherwise: what one checkpoint is called, depths."""
        return data.drop_vars([name for name in data.coords if name not in data.dims])

    parts = [named(bare(recovery.isel(checkpoint=-1)), "recovery")]
    if middle is not None:
        part = recovery.sel(site="answer", layer=middle)
        part = part.drop_vars(["site", "layer", "layer_name", "depth"], errors="ignore")
        parts.append(named(part, "answer_recovery"))
    if steered is not None:
        _, fitted, random = _split(bare(steered).rename(layer="steered_layer"))
        parts.append(named(bare(fitted), "following"))
        parts.append(named(random.rename(direction="control"), "random_following"))
    table = xr.merge(parts, join="exact", compat="identical", combine_attrs="drop")
    for name in table.data_vars:
        table[name].attrs = {"units": "1"}
    return table


_STEERING_CAPTION = (
    " Bottom: the share of cases nearest the balance point that follow the text when the difference of"
    " mean states between following text and following the image, fitted on other groups, is added at"
    " the answer's position, times its strength; grey: the range of random directions as long."
)

ROW = FigureRow(
    name="modality_cause",
    title="What makes a model follow image or text",
    function=draw_modality_cause,
    needs=(("modality_recovery", "ratio_of_sums"),),
    phases=False,
    extra=True,
    source="activation patching after arXiv 2309.16042 on the question of 2511.02243",
    caption=(
        "Top: the share of the difference in logit (text's answer less image's) between the easiest text"
        " with the hardest image and the easiest image with the hardest text that states carried over"
        " from the one into the other bring about; {step} of branch {branch}. 0: nothing moves, 1: all"
        " does; where texts are as long, all positions together give 1 by construction.{training}"
        "{steering} Bands: {level} intervals over groups. Inputs: {inputs}."
    ),
    optional=(("steered_following", "top1"),),
)
