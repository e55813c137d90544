"""Life-lines of heads: a row a head, coloured by what it does over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from figures import axes as shared
from figures.row import FigureRow
from figures.select import Material, by_branch, checkpoint_names
from figures.style import WIDTH, Theme
from probes.emergence import reaches, together

BEHAVIOURS = {
    "previous": "previous token",
    "duplicate": "duplicate token",
    "induction": "induction",
    "first_key": "first token (sink)",
}
MEASURES = {
    "previous": ("previous_token_score", "valid_rows"),
    "duplicate": ("duplicate_token_score", "valid_rows"),
    "induction": ("induction_score", "valid_rows"),
    "first_key": ("repeated_first_key", "mean"),
}
OTHERS = ("near uniform", "other")
UNIFORM = 0.9  # of ln(visible keys)
_LEFT, _RIGHT = 0.75, 0.2
_TALLEST, _LOWEST, _ROOM = 0.16, 0.024, 6.0  # inches: a row at most, at least, all rows if they fit
_MARKED = 64  # rows up to which emergence is marked
_NAMED = 40  # rows up to which every head is named
_TAIL = 0.025


def draw_head_lives(
    material: Material, theme: Theme, *, threshold: float = 0.3
) -> tuple[Figure, xr.Dataset]:
    """Draw what each head does at each checkpoint, and when it began to do so for good.

    Parameters
    ----------
    material : the four scores (checkpoint, block, head), repeated_uniformity and head_emergence.
    threshold : attention from which a head does something; marks of emergence are at 0.3 always.

    Returns
    -------
    The figure and a Dataset: `life` (checkpoint, block, head), 0…3 the behaviours in order, 4 near
    uniform, 5 other; `emergence`, `emergence_lower`, `emergence_upper` (line, behaviour, block, head),
    steps, NaN where it has not emerged; `emergence_state`, 0 not, 1 at the first checkpoint already, 2
    between; `group`, heads that share a step within a line, −1 for none.

    Notes
    -----
    A head that does two things is given the one that has more attention. Memory: the measures.
    """
    scores = xr.concat(
        [material.measures[name]["value"].compute() for name, _ in MEASURES.values()],
        pd.Index(list(MEASURES), name="behaviour"), coords="minimal", compat="override",
        join="override",
    )  # fmt: skip
    uniform = material.measures["repeated_uniformity"]["value"].compute()
    life = lives(scores, uniform, threshold)
    emerged = material.measures["head_emergence"].compute()
    parts = list(by_branch(life.to_dataset(name="life")))
    marks = {line: emergence_of(part) for line, part in by_branch(emerged)}
    named = len(parts) > 1
    alone = [part.sizes["checkpoint"] == 1 for _, part in parts]
    rows = [
        part.sizes["head"] * (1 if one else part.sizes["block"])
        for one, (_, part) in zip(alone, parts, strict=True)
    ]
    each = [float(np.clip(_ROOM / count, _LOWEST, _TALLEST)) for count in rows]
    heights = [count * high for count, high in zip(rows, each, strict=True)]
    above = 0.3 if named or any(alone) else 0.08
    tall = 0.3 + sum(heights) + (above + 0.52) * len(parts)
    figure = Figure(figsize=(WIDTH, tall))
    top = tall - 0.3
    for (line, part), height, one in zip(parts, heights, alone, strict=True):
        place = (
            _LEFT / WIDTH, (top - above - height) / tall, 1 - (_LEFT + _RIGHT) / WIDTH,
            height / tall,
        )  # fmt: skip
        axes = figure.add_axes(place, label=f"lives {line}")
        names = checkpoint_names(part, material.revisions)
        if one:
            _map(axes, part["life"], theme)
            axes.set_title(f"{line}: {names[0]}" if named else names[0])
        else:
            _draw(axes, part["life"], marks.get(line), theme)
            _columns(axes, names, part)
        if named and not one:
            axes.set_title(shared.shortened(line, WIDTH - 1.2, size=9.5), weight="bold")
        top -= height + above + 0.52
    _legend(figure, theme)
    return figure, _table(life, marks, threshold)


def lives(scores: xr.DataArray, uniform: xr.DataArray, threshold: float) -> xr.DataArray:
    """What each head does: the behaviour with most attention at or above the threshold, or an other.

    Parameters
    ----------
    scores : (behaviour, checkpoint, block, head); uniform : (checkpoint, block, head).

    Returns
    -------
    (checkpoint, block, head), 0…3 the behaviours, 4 near uniform, 5 neither; NaN where one is NaN.
    """
    values = scores.transpose("behaviour", "checkpoint", "block", "head")
    spread = uniform.transpose("checkpoint", "block", "head")
    x = values.values
    best = np.where(np.isnan(x), -np.inf, x).argmax(axis=0)
    rest = np.where(spread.values >= UNIFORM, len(BEHAVIOURS), len(BEHAVIOURS) + 1)
    found = np.where(x.max(axis=0) >= threshold, best, rest).astype(float)
    found[np.isnan(x).any(axis=0) | np.isnan(spread.values)] = np.nan
    return spread.copy(data=found)


def emergence_of(part: xr.Dataset) -> xr.Dataset:
    """Steps and intervals from which each head of one line does what it does, (behaviour, block, head).

    Parameters
    ----------
    part : the measure head_emergence of one line: `value` and `probability`.

    Returns
    -------
    `emergence`, `emergence_lower`, `emergence_upper` (steps), `emergence_state`, `group`, and the rows
    of these steps among the checkpoints.
    """
    dims = ("behaviour", "block", "head")
    part = part.transpose("checkpoint", *dims)
    steps = np.append(part["step"].values.astype(float), np.nan)
    count = part.sizes["checkpoint"]
    shape = tuple(part.sizes[d] for d in dims)
    found = {name: np.full(shape, count) for name in ("first", "lower", "upper")}
    for place in np.ndindex(shape):
        value = part["value"].values[(slice(None), *place)]
        probability = part["probability"].values[(slice(None), *place)]
        found["first"][place] = reaches(value, 1.0)
        found["lower"][place] = reaches(probability, _TAIL)
        found["upper"][place] = reaches(probability, 1 - _TAIL)
    first = found["first"]
    gone = first >= count
    # What has not emerged has no interval, and belongs to no group.
    lower = np.where(gone, count, found["lower"])
    group = together(lower.ravel(), found["upper"].ravel(), never=count).reshape(shape)
    state = np.where(gone, 0.0, np.where(first == 0, 1.0, 2.0))
    data = {
        "emergence": steps[first],
        "emergence_lower": np.where(gone, np.nan, steps[found["lower"]]),
        "emergence_upper": np.where(gone, np.nan, steps[found["upper"]]),
        "emergence_state": state,
        "group": group.astype(float),
        "first_row": first.astype(float),
        "lower_row": found["lower"].astype(float),
        "upper_row": found["upper"].astype(float),
    }
    coords = {d: part[d].values for d in dims}
    return xr.Dataset({name: (dims, value) for name, value in data.items()}, coords)


def _colours(theme: Theme) -> list[str]:
    return [
        *(theme.category(i) for i in range(len(BEHAVIOURS))),
        theme.phases["unlabelled"],
        theme.faint,
    ]


def _draw(axes: Axes, life: xr.DataArray, marks: xr.Dataset | None, theme: Theme) -> None:
    """Draw the cells of one line, a row a head from the first block down."""
    columns, blocks, heads = life.shape
    rows = blocks * heads
    _cells(axes, life.values.reshape(columns, rows).T, theme)
    axes.set_ylim(rows - 0.5, -0.5)
    for block in range(1, blocks):
        axes.axhline(block * heads - 0.5, color=theme.page, lw=0.8 if rows > _MARKED else 1.4)
    _rows(axes, life)
    if marks is not None and rows <= _MARKED and columns > 1:
        _marks(axes, marks, columns, theme)


def _map(axes: Axes, life: xr.DataArray, theme: Theme) -> None:
    """Draw one checkpoint, which has no course, with blocks across and heads up."""
    _cells(axes, life.values[0].T, theme)
    blocks, heads = life["block"].values, life["head"].values
    for each, names in ((axes.xaxis, blocks), (axes.yaxis, heads)):
        kept = np.arange(0, names.size, max(1, -(-names.size // 15)))
        each.set_ticks(kept.tolist(), labels=[str(names[i]) for i in kept])
    axes.set_xlabel("block")
    axes.set_ylabel("head")
    for edge in range(1, blocks.size):
        axes.axvline(edge - 0.5, color=theme.page, lw=0.8)
    for edge in range(1, heads.size):
        axes.axhline(edge - 0.5, color=theme.page, lw=0.8)


def _cells(axes: Axes, codes: np.ndarray, theme: Theme) -> None:
    """Fill cells (row, column) with the colours of their codes."""
    colours = _colours(theme)
    high, wide = codes.shape
    axes.pcolormesh(
        np.arange(wide + 1) - 0.5, np.arange(high + 1) - 0.5, codes, cmap=ListedColormap(colours),
        norm=BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours)), rasterized=True,
    )  # fmt: skip
    axes.grid(False)


def _rows(axes: Axes, life: xr.DataArray) -> None:
    blocks, heads = life["block"].values, life["head"].values
    if blocks.size * heads.size <= _NAMED:
        names = [f"{b}.{h}" for b in blocks for h in heads]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylabel("block.head")
        return
    kept = np.arange(0, blocks.size, max(1, -(-blocks.size // 30)))
    axes.set_yticks([(i + 0.5) * heads.size - 0.5 for i in kept], [str(blocks[i]) for i in kept])
    axes.set_ylabel(f"block, {heads.size} heads each")


def _marks(axes: Axes, marks: xr.Dataset, columns: int, theme: Theme) -> None:
    """Mark where each head's last behaviour begins for good, with its interval."""
    shape = tuple(marks.sizes[d] for d in ("behaviour", "block", "head"))
    for _, block, head in (p for p in np.ndindex(shape) if marks["emergence_state"].values[p] > 0):
        place: tuple[Any, ...] = (_, block, head)
        row = block * shape[2] + head
        first = float(marks["first_row"].values[place]) - 0.5
        low = float(marks["lower_row"].values[place]) - 0.5
        high = min(float(marks["upper_row"].values[place]), columns) - 0.5
        axes.plot([low, high], [row, row], "-", color=theme.ink, lw=1.0, solid_capstyle="butt")
        axes.plot([first], [row], "|", color=theme.ink, markersize=7, mew=1.6, clip_on=False)


def _columns(axes: Axes, names: Sequence[str], part: xr.Dataset) -> None:
    """Name as many checkpoints as there is room for."""
    count = len(names)
    steps = part["step"].values.astype(int)
    kept = np.unique(np.round(np.linspace(0, count - 1, min(count, 12))).astype(int))
    axes.set_xticks(kept, [shared.short_number(int(steps[i])) for i in kept])
    axes.set_xlabel("step of each checkpoint, in order")


def _legend(figure: Figure, theme: Theme) -> None:
    labels = [*BEHAVIOURS.values(), *OTHERS]
    handles = [
        Patch(facecolor=colour, label=label)
        for colour, label in zip(_colours(theme), labels, strict=True)
    ]
    figure.legend(
        handles=handles, loc="upper center", ncols=len(handles), columnspacing=1.1,
        handlelength=1.0, handletextpad=0.4, bbox_to_anchor=(0.5, 1.0), borderaxespad=0.3,
    )  # fmt: skip


def _table(life: xr.DataArray, marks: dict[str, xr.Dataset], threshold: float) -> xr.Dataset:
    table = life.to_dataset(name="life")
    codes = [*BEHAVIOURS.values(), *OTHERS]
    units = {"life": ", ".join(f"{i} {name}" for i, name in enumerate(codes))}
    if marks:
        lines = pd.Index(list(marks), name="training_line")
        found = xr.concat(list(marks.values()), lines, join="outer")
        table = table.merge(found.drop_vars(["first_row", "lower_row", "upper_row"]), join="outer")
    units["emergence_state"] = "0 not emerged, 1 at the first checkpoint, 2 later"
    for name in table.data_vars:
        table[name].attrs = {"units": units.get(str(name), "1" if name == "group" else "step")}
    table.attrs["told"] = _told(marks)
    table.attrs["threshold"] = f"{threshold:g}"
    table.attrs["uniform"] = f"{UNIFORM:g}"
    return table


def _told(marks: dict[str, xr.Dataset]) -> str:
    """How many heads have emerged, a line."""
    said = []
    for line, data in marks.items():
        counts = (data["emergence_state"] > 0).sum(["block", "head"]).values
        each = [f"{name} {int(n)}" for name, n in zip(BEHAVIOURS.values(), counts, strict=True)]
        groups = int(data["group"].max()) + 1
        share = f"; they share steps in {groups} groups" if groups > 1 else ""
        said.append(f"{f'{line}: ' * (len(marks) > 1)}{', '.join(each)}{share}")
    return "; ".join(said)


ROW = FigureRow(
    name="head_lives",
    title="What heads do over training",
    function=draw_head_lives,
    needs=(
        *MEASURES.values(),
        ("repeated_uniformity", "normalised_visible"),
        ("head_emergence", "above_0.3"),
    ),
    phases=False,
    source="the heads of arXiv 2209.11895 and 2410.10781",
    caption=(
        "A row a head, a column a checkpoint (of a single one, a map), coloured by where most of the"
        " head's attention goes on repeated random tokens, if that is at least {threshold}; else near"
        " uniform, if the entropy of its rows is at least {uniform} of ln(visible keys), or other."
        " Upright strokes, where there is room: the"
        " checkpoint from which a score stays at or above 0.3; the line through it: {level} interval from"
        " the scores' standard errors over samples. Heads whose score has come to stay above 0.3: {told}."
        " Inputs: {inputs}."
    ),
    extra=True,
)
