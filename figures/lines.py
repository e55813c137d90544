"""The lines of a figure: a branch of a training run, or of each model of a study; how they look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.axes import CHARACTER, shortened
from figures.select import by_branch, is_study
from figures.style import WIDTH, Theme

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_MARKERS = "os^Dv"


@dataclass(frozen=True)
class Look:
    """How one line is drawn: a model has one colour, its branches differ in dashes and marks."""

    colour: str
    dashes: Any = "-"
    marker: str = "o"
    face: str | None = None

    @property
    def style(self) -> dict[str, Any]:
        """What matplotlib's `plot` takes."""
        face = {} if self.face is None else {"markerfacecolor": self.face}
        return {"color": self.colour, "linestyle": self.dashes, "marker": self.marker, **face}


def line_looks(measures: Iterable[xr.Dataset], theme: Theme) -> dict[str, Look]:
    """Return the look of every line, the same in every figure of a store or a study.

    Parameters
    ----------
    measures : what the figure shows; each with `branch` and, of a study, `model` and `line`.
    """
    models: dict[str, list[str]] = {}
    looks: dict[str, Look] = {}
    for data in measures:
        for line, part in by_branch(data):
            if not is_study(data):
                looks.setdefault(line, Look(theme.category(len(looks))))
                continue
            known = models.setdefault(str(part["model"].values[0]), [])
            if line in looks:
                continue
            number = list(models).index(str(part["model"].values[0]))
            # After six models the colours begin again: then the marks tell them apart.
            marker = _MARKERS[number // len(theme.categories) % len(_MARKERS)]
            dashes = _DASHES[len(known) % len(_DASHES)]
            face = theme.page if len(known) % 2 else None
            looks[line] = Look(theme.category(number), dashes, marker, face)
            known.append(line)
    return looks


def step_axis_of(data: xr.Dataset) -> tuple[str, xr.Dataset]:
    """Return the label of the axis of steps, and the branch whose steps it shows.

    Branches of one run share it by their name; models only if a step is as many tokens in all.
    """
    parts = [(line, part) for line, part in by_branch(data) if (part["tokens"].values > 0).any()]
    line, first = parts[0] if is_study(data) else next(by_branch(data))
    rates = [part["tokens"].values[-1] / max(int(part["step"].values[-1]), 1) for _, part in parts]
    one = len(list(by_branch(data))) == 1 or (is_study(data) and max(rates) == min(rates))
    return "step" if one else f"step ({shortened(line, 2.5)})", first


def key(look: Look, label: str) -> Line2D:
    """Return a legend's entry for one line."""
    return Line2D([], [], label=shortened(label, WIDTH - 0.8), **look.style)


def legend_rows(labels: Sequence[str]) -> tuple[int, int]:
    """Return how many columns of these labels fit the page, and how many rows that makes."""
    longest = min(max(map(len, labels), default=1) * CHARACTER, WIDTH - 0.8)
    columns = max(1, min(len(labels), 4, int((WIDTH - 0.2) / (longest + 0.7))))
    return columns, -(-len(labels) // columns)


def line_legend(figure: Figure, looks: Mapping[str, Look], labels: Mapping[str, str]) -> None:
    """Draw the legend of a study's lines at the foot of the figure, as wide as the names allow."""
    handles = [key(looks[line], label) for line, label in labels.items()]
    columns, _ = legend_rows(list(labels.values()))
    figure.legend(
        handles=handles, loc="lower center", ncols=columns, columnspacing=1.6, handlelength=2.8
    )
