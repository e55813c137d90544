"""Where the change of ln RankMe comes from: the entropy ledger by rank band over training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import axes as shared
from figures.lines import step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    at_layer,
    branches,
    by_branch,
    has_numbers,
    require_series,
)
from figures.style import WIDTH, Theme

Array = npt.NDArray[np.float64]

_HEIGHTS = (1.5, 1.5)  # inches: changes, and what they add up to
_TITLE = 0.3  # inches above a branch's panels for its name


@dataclass(frozen=True)
class _Intervals:
    """Neighbouring checkpoints of one branch: edges in tokens, and what changed between them."""

    left: Array
    right: Array
    changes: Array  # (interval, band)


def draw_ledger(
    material: Material, theme: Theme, *, layer: str | int = "final"
) -> tuple[Figure, xr.Dataset]:
    """Draw the change of ln RankMe between neighbouring checkpoints by rank band, and its sum.

    Parameters
    ----------
    material : entropy_ledger (checkpoint, layer, band), each against the checkpoint before.
    layer : the layer shown, by name or number.

    Returns
    -------
    The figure and a Dataset with `change` (checkpoint, band), `total` (checkpoint) and, from each
    branch's first checkpoint on, `change_so_far` (checkpoint, band). Bands without a direction are
    left out. Two panels a branch.

    Raises
    ------
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If there is no such layer, or no number in it.

    Notes
    -----
    A bar reaches from one checkpoint to the next in log tokens, the first from step 0 to the first
    checkpoint with tokens over a width of its own. Memory: the ledger of one layer.
    """
    ledger = material.measures["entropy_ledger"]
    require_series(ledger)
    data = at_layer(ledger, layer).compute()
    if not has_numbers(data["value"]):
        raise ValueError("entropy_ledger is NaN everywhere; there is nothing to draw")
    table = _table(data)
    parts = {
        line: part
        for line, part in by_branch(table)
        if part.sizes["checkpoint"] > 1 and has_numbers(part["total"])
    }
    intervals = {line: _between(part) for line, part in parts.items()}
    figure, panels = _layout(len(parts), named=len(branches(data)) > 1)
    bands = table["band"].values.astype(str).tolist()
    ramp = theme.line_colours()
    colours = {b: to_hex(ramp(i / max(len(bands) - 1, 1))) for i, b in enumerate(bands)}
    for row, (line, part) in enumerate(parts.items()):
        bars, sums = panels[2 * row : 2 * row + 2]
        _bars(bars, intervals[line], list(colours.values()), theme)
        _sums(sums, part, colours, theme)
        for panel, text in ((bars, "change [nats]"), (sums, "so far [nats]")):
            panel.log.set_ylabel(text)
        if len(branches(data)) > 1:
            _title(figure, bars, line, above=0.5 if row == 0 else 0.06)
    every = np.concatenate([part["tokens"].values for part in parts.values()]).astype(float)
    shared.token_axis(panels, every)
    left = min(float(found.left.min()) for found in intervals.values())
    panels[-1].log.set_xlim(left=left / 1.05)
    label, first = step_axis_of(data)
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(panels[0], steps, seen, label=label)
    _legend(figure, colours, theme)
    return figure, table


def _table(data: xr.Dataset) -> xr.Dataset:
    """What is drawn: bands with a direction, their sum, and both added up along each branch."""
    values = data["value"].transpose("checkpoint", "band")
    filled = (np.nan_to_num(values.values) != 0).any(axis=0)
    values = values.isel(band=np.flatnonzero(filled))
    table = xr.Dataset({"change": values, "total": values.sum("band", skipna=False)})
    so_far = np.full(values.shape, np.nan)
    names = {str(c): i for i, c in enumerate(data["checkpoint"].values)}
    for _, part in by_branch(table):
        rows = [names[str(label)] for label in part["checkpoint"].values]
        steps = part["change"].values.copy()
        steps[0] = 0.0
        so_far[rows] = np.cumsum(steps, axis=0)
    table["change_so_far"] = values.copy(data=so_far)
    for variable in table.data_vars.values():
        variable.attrs = {"units": "nats"}
    return table


def _between(part: xr.Dataset) -> _Intervals:
    tokens = part["tokens"].values.astype(float)
    left, right = tokens[:-1].copy(), tokens[1:]
    seen = tokens[tokens > 0]
    # As wide as a typical interval: a logarithm has no place for 0.
    wide = float(np.exp(np.median(np.diff(np.log(seen))))) if seen.size > 1 else 1.5
    left[left <= 0] = right[left <= 0] / max(wide, 1.2)
    kept = right > 0
    return _Intervals(left[kept], right[kept], part["change"].values[1:][kept])


def _layout(count: int, *, named: bool) -> tuple[Figure, list[shared.Panel]]:
    heights = [*_HEIGHTS] * count
    above, below = (0.8 if named else 0.5), 0.75
    gap = _TITLE if named else 0.14
    tall = sum(heights) + gap * (len(heights) - 1) + above + below
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=0.72 / WIDTH, right=1 - 0.12 / WIDTH,
        bottom=below / tall, top=1 - above / tall,
    )  # fmt: skip
    mean = float(np.mean(heights))
    return figure, shared.stacked_panels(figure, grid[0], heights, zero=False, gap=gap / mean)


def _bars(panel: shared.Panel, found: _Intervals, colours: list[str], theme: Theme) -> None:
    """Stack what raises the entropy above 0 and what lowers it below; the total is a line."""
    changes = np.nan_to_num(found.changes)
    width = found.right - found.left
    for sign in (1, -1):
        base = np.zeros(len(changes))
        for band, colour in enumerate(colours):
            height = np.where(np.sign(changes[:, band]) == sign, changes[:, band], 0.0)
            panel.log.bar(
                found.left, height, width, bottom=base, align="edge", color=colour, linewidth=0
            )
            base += height
    middle = np.sqrt(found.left * found.right)
    panel.log.axhline(0, color=theme.muted, linewidth=0.7)
    total = found.changes.sum(axis=1)
    panel.log.plot(
        middle, total, color=theme.ink, marker="o", markersize=2.6, linewidth=1.1,
        markeredgecolor=theme.page, markeredgewidth=0.4,
    )  # fmt: skip


def _sums(
    panel: shared.Panel,
    part: xr.Dataset,
    colours: Mapping[str, str],
    theme: Theme,
) -> None:
    seen = part["tokens"].values > 0
    tokens = part["tokens"].values[seen]
    so_far = part["change_so_far"].values[seen]
    for band, colour in enumerate(colours.values()):
        panel.log.plot(tokens, so_far[:, band], color=colour, linewidth=1.8)
    panel.log.axhline(0, color=theme.muted, linewidth=0.7)
    panel.log.plot(
        tokens, so_far.sum(axis=1), color=theme.ink, linewidth=1.3, linestyle=(0, (4, 1.5))
    )


def _title(figure: Figure, panel: shared.Panel, name: str, *, above: float) -> None:
    place = panel.log.get_position()
    figure.text(
        place.x0, place.y1 + above / figure.get_figheight(),
        shared.shortened(name, WIDTH - 1, size=9), fontsize=9,
    )  # fmt: skip


def _legend(figure: Figure, colours: Mapping[str, str], theme: Theme) -> None:
    handles: list[Patch | Line2D] = [
        Patch(color=colour, lw=0, label=f"rank {band}" if band.isdigit() else f"ranks {band}")
        for band, colour in colours.items()
    ]
    handles.append(Line2D([], [], color=theme.ink, marker="o", markersize=2.6, label="all ranks"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), columnspacing=1.4)


ROW = FigureRow(
    name="ledger",
    title="Where the change of RankMe comes from",
    function=draw_ledger,
    needs=(("entropy_ledger", "li2025"),),
    phases=False,
    source="dS/dt = −Cov_p(d ln λ/dt, ln p); after arXiv 2509.23024, figure 2",
    caption=(
        "Change of ln RankMe (spectral entropy of the centred covariance) at the layer {layer}, from"
        " each checkpoint to the next, by band of eigenvalue ranks (above), and added up from the"
        " first checkpoint (below; dashed: all ranks). Contributions are the terms of −Cov_p(g, ln p)"
        " along a path on which every ln λ is linear: a band heavier than the spectrum's mean lowers"
        " RankMe by growing faster than the mean. Ranks are compared with ranks, not directions. The"
        " first bar starts at step 0 where there is one. Inputs: {inputs}."
    ),
)
