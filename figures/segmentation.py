"""Change points of a score beside a published segmentation, run by run."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import axes as shared
from figures.lines import step_axis_of
from figures.row import FigureRow
from figures.select import Material, by_branch, require_series
from figures.style import WIDTH, Theme

_CURVES, _STRIP = 2.2, 0.27  # inches: the scores; each run's strip
_FALL = 0.2  # of a run's range: one that falls back by more is named
_MATCHED, _ALONE = 1, 2  # how `found` and `published` mark a boundary


def draw_segmentation(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw every run's score and fit, and below a strip a run: published states, our boundaries.

    Parameters
    ----------
    material : segmentation (checkpoint): `value` the score, `state`, `fitted`, and at boundaries
        `found`, `published` (1 matched, 2 not), `found_lower` and `found_upper` in tokens; `pooled` is
        1 where several runs were fitted together.

    Returns
    -------
    The figure and a Dataset of these. Step 0 is left out, as it is of the fit.

    Raises
    ------
    TooFewCheckpoints
        If no run has two checkpoints.
    """
    whole = material.measures["segmentation"]
    require_series(whole)
    data = whole.isel(checkpoint=np.flatnonzero(whole["tokens"].values > 0)).compute()
    parts = dict(by_branch(data))
    heights = [_CURVES, _STRIP * len(parts) + 0.08]
    above, below = 0.5, 1.0
    tall = sum(heights) + above + below + 0.15
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=1.75 / WIDTH, right=1 - 0.15 / WIDTH,
        bottom=below / tall, top=1 - above / tall,
    )  # fmt: skip
    curves, strips = shared.stacked_panels(figure, grid[0], heights, zero=False, gap=0.08)
    states = np.unique(data["state"].values)
    ramp = theme.line_colours("cividis")
    colours = {
        float(state): to_hex(ramp(i / max(states.size - 1, 1))) for i, state in enumerate(states)
    }
    _scores(curves.log, parts, theme)
    for row, part in zip(reversed(range(len(parts))), parts.values(), strict=True):
        _strip(strips.log, part, row, colours, theme)
    names = [shared.shortened(name, 1.6) for name in parts]
    strips.log.set_yticks([row + 0.42 for row in reversed(range(len(parts)))], names)
    strips.log.set_ylim(-0.12, len(parts))
    strips.log.grid(False)
    strips.log.tick_params(axis="y", left=False)
    strips.log.spines["left"].set_visible(False)
    shared.token_axis([curves, strips], data["tokens"].values.astype(float))
    label, first = step_axis_of(data)
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(curves, steps, seen, label=label if len(parts) == 1 else "step")
    _legends(figure, colours, theme)
    return figure, _table(data)


def _scores(axes: Axes, parts: dict[str, xr.Dataset], theme: Theme) -> None:
    """Every run's score as dots, its fit as a line; runs that fall back have colours."""
    marked = 0
    for name, part in parts.items():
        tokens, value = part["tokens"].values, part["value"].values
        fell = bool((np.maximum.accumulate(value) - value).max() > _FALL * np.ptp(value))
        colour = theme.category(marked) if fell else theme.muted
        marked += fell
        axes.plot(tokens, value, "o", color=colour, markersize=2.4, zorder=3 if fell else 2)
        axes.plot(tokens, part["fitted"].values, color=colour, linewidth=1.0 + 0.3 * fell)
        if fell:
            low = int(np.argmin(value[len(value) // 2 :])) + len(value) // 2
            axes.annotate(
                shared.shortened(name, 1.6), (tokens[low], value[low]), xytext=(-8, -1),
                textcoords="offset points", ha="right", va="center", color=colour, fontsize=8,
            )  # fmt: skip
    axes.set_ylabel("published score")


def _strip(axes: Axes, part: xr.Dataset, row: int, colours: dict[float, str], theme: Theme) -> None:
    tokens = part["tokens"].values.astype(float)
    state, found, published = (part[n].values for n in ("state", "found", "published"))
    starts = [0, *(np.flatnonzero(np.diff(state)) + 1)]
    ends = [*tokens[starts[1:]], tokens[-1]]
    for start, end in zip(starts, ends, strict=True):
        axes.fill_between(
            [tokens[start], end], row, row + 0.84, color=colours[float(state[start])], linewidth=0
        )
    missed = np.flatnonzero(published == _ALONE)
    axes.plot(
        tokens[missed], np.full(missed.size, row + 0.42), "x", color="#ffffff", markersize=5.5,
        markeredgewidth=2.6, zorder=6,
    )  # fmt: skip
    axes.plot(
        tokens[missed], np.full(missed.size, row + 0.42), "x", color="#b3001b", markersize=5,
        markeredgewidth=1.3, zorder=6,
    )  # fmt: skip
    for place in np.flatnonzero(np.isfinite(found)):
        ends_of = [float(part[n].values[place]) for n in ("found_lower", "found_upper")]
        for colour, width in (("#ffffff", 3.4), ("#1c2126", 1.4)):
            axes.plot(ends_of, [row + 0.42] * 2, "-", color=colour, linewidth=width, zorder=4)
        axes.plot(
            [tokens[place]], [row + 0.42], "D", markersize=5, zorder=5, markeredgecolor="#ffffff",
            markerfacecolor="#E69F00" if found[place] == _MATCHED else "#1c2126",
        )  # fmt: skip


def _legends(figure: Figure, colours: dict[float, str], theme: Theme) -> None:
    marks = [
        Line2D([], [], color="#1c2126", marker="D", markersize=5, markerfacecolor="#E69F00",
               markeredgecolor=theme.muted, label="ours, at a published change"),
        Line2D([], [], color="#1c2126", marker="D", markersize=5, markerfacecolor="#1c2126",
               markeredgecolor=theme.muted, label="ours alone"),
        Line2D([], [], color="#b3001b", marker="x", markersize=5, lw=0, label="published, not found"),
    ]  # fmt: skip
    blocks = [
        Patch(color=colour, lw=0, label=f"state {state:g}") for state, colour in colours.items()
    ]
    tall = figure.get_figheight()
    figure.legend(
        handles=blocks, loc="lower center", ncols=len(blocks), bbox_to_anchor=(0.5, 0.22 / tall),
        columnspacing=1.4, handlelength=1.4,
    )  # fmt: skip
    figure.legend(handles=marks, loc="lower center", ncols=3, columnspacing=1.6)


def _table(data: xr.Dataset) -> xr.Dataset:
    units = {"found_lower": "tokens", "found_upper": "tokens"}
    table = data.copy()
    for name, variable in table.data_vars.items():
        variable.attrs = {"units": units.get(str(name), "1")}
    single = data["pooled"].values == 0
    found, published = (data[name].values[single] for name in ("found", "published"))
    table.attrs = {
        "hits": int((published == _MATCHED).sum()),
        "changes": int(np.isfinite(published).sum()),
        "extra": int((found == _ALONE).sum()),
    }
    return table


ROW = FigureRow(
    name="segmentation",
    title="Change points beside a published segmentation",
    function=draw_segmentation,
    needs=(("segmentation", "polypythias"),),
    phases=False,
    source="EleutherAI/pythia, polypythias/data/training_maps.tsv, commit a19eecb",
    caption=(
        "Above: the score of every run at every checkpoint (dots) and the broken line fitted to it;"
        " runs that fall back by more than a fifth of their range are named. Below: the published"
        " states of a hidden Markov model (colours; the numbers of separately modelled runs do not"
        " correspond) and our change points with their {level} intervals. A change of state within one"
        " checkpoint of a change point counts as found. Of the single runs {hits} of {changes} are, and"
        " {extra} change points stand where no state changes. Our change points are changes of the"
        " score's slope; a hidden state need not be one. Inputs: {inputs}."
    ),
    command="phasescope segmentation",
)
