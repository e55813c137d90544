"""What is left of a model's predictions without the top eigen-directions of its final state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D

from figures import axes as shared
from figures.lines import legend_rows
from figures.row import FigureRow
from figures.select import Material, branches, by_branch, has_numbers, merge_tables, require_series
from figures.style import WIDTH, Theme

_HEIGHT = 1.5  # inches a panel
_LABELS = {
    "eigen_ablation_accuracy": "next-token\naccuracy",
    "eigen_ablation_loss": "loss [nats]",
}
_CONDITION = re.compile(r"top(\d+)_(removed|retained)")


def draw_eigen_ablation(
    material: Material, theme: Theme, *, branch: str | None = None
) -> tuple[Figure, xr.Dataset]:
    """Draw scores with the top directions removed or retained, over training.

    Parameters
    ----------
    material : eigen_ablation_loss (checkpoint, condition), optionally eigen_ablation_accuracy
        (checkpoint, condition) and eigen_ablation_score (checkpoint, condition, task).
    branch : the one shown; the first by default.

    Returns
    -------
    The figure and a Dataset with one variable a panel (checkpoint, condition).

    Raises
    ------
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If there is no such branch.

    Notes
    -----
    After arXiv 2509.23024, Table 8, whose columns are the last checkpoint's. Memory: the measures.
    """
    loss = material.measures["eigen_ablation_loss"]
    require_series(loss)
    known = branches(loss)
    chosen = branch or known[0]
    if chosen not in known:
        raise ValueError(f"branch is {chosen!r}; give one of {', '.join(known)}")
    shown = {name: dict(by_branch(data))[chosen] for name, data in _panels(material).items()}
    names = [str(name) for name in loss["condition"].values]
    labels = _labels(names, shown)
    columns, rows = legend_rows(list(labels.values()))
    tokens = np.concatenate([d["tokens"].values for d in shown.values()]).astype(float)
    figure, panels = _layout(len(shown), rows, zero=bool((tokens == 0).any()))
    looks = _looks(names, theme)
    for panel, (title, data) in zip(panels, shown.items(), strict=True):
        for name in names:
            part = data.sel(condition=name, drop=True)
            if title.endswith("\naccuracy") and title not in _LABELS.values() and name != names[0]:
                # Errors over few questions are wide and alike: five bands would hide the lines.
                part = part.drop_vars(["lower", "upper"], errors="ignore")
            shared.draw_curve(panel, part, looks[name], name)
        panel.left.set_ylabel(title)
    shared.token_axis(panels, tokens)
    first = next(iter(shown.values()))
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(panels[0], steps, seen)
    figure.align_ylabels([panel.left for panel in panels])
    handles = [Line2D([], [], label=labels[name], **looks[name]) for name in names]
    figure.legend(
        handles=handles, loc="lower center", ncols=columns, columnspacing=1.6, handlelength=2.8
    )
    table = _table(shown)
    table.attrs |= {"shown": next(iter(shown)).replace("\n", " "), "branch": chosen}
    return figure, table


def _panels(material: Material) -> dict[str, xr.Dataset]:
    """Title to what a panel shows; tasks first."""
    found = {}
    tasks = material.measures.get("eigen_ablation_score")
    if tasks is not None:
        tasks = tasks.compute()
        for task in tasks["task"].values:
            part = tasks.sel(task=task, drop=True)
            if has_numbers(part["value"]):
                found[f"{shared.shortened(str(task), 1.2)}\naccuracy"] = part
    for name, label in _LABELS.items():
        if name in material.measures:
            found[label] = material.measures[name].compute()
    return found


def _looks(names: list[str], theme: Theme) -> dict[str, dict[str, Any]]:
    """Colour by how many directions; full lines where only they are retained, dashes where removed."""
    looks: dict[str, dict[str, Any]] = {}
    counts: list[str] = []
    for name in names:
        match = _CONDITION.fullmatch(name)
        if match is None:
            looks[name] = {"color": theme.ink, "linestyle": "-", "marker": "D"}
            continue
        count, what = match.groups()
        if count not in counts:
            counts.append(count)
        removed = what == "removed"
        looks[name] = {
            "color": theme.category(counts.index(count)),
            "linestyle": (0, (4, 2)) if removed else "-",
            "marker": "s" if removed else "o",
        }
        if removed:
            looks[name]["markerfacecolor"] = theme.page
    return looks


def _labels(names: list[str], shown: Mapping[str, xr.Dataset]) -> dict[str, str]:
    """Names with the first panel's last value: the paper's table."""
    first = next(iter(shown.values()))
    last = {n: float(first["value"].sel(condition=n).values[-1]) for n in names}
    return {
        name: f"{name.replace('_', ' ').replace('top', 'top ')}: {last[name]:.3f}" for name in names
    }


def _layout(count: int, rows: int, *, zero: bool) -> tuple[Figure, list[shared.Panel]]:
    below, above = 0.55 + 0.19 * rows, 0.5
    tall = count * _HEIGHT * 1.12 + below + above
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=0.75 / WIDTH, right=1 - 0.12 / WIDTH,
        bottom=below / tall, top=1 - above / tall,
    )  # fmt: skip
    return figure, shared.stacked_panels(figure, grid[0], [_HEIGHT] * count, zero=zero)


def _table(shown: Mapping[str, xr.Dataset]) -> xr.Dataset:
    parts = []
    for title, data in shown.items():
        name = title.split(" [")[0].replace("\n", "_").replace("-", "_").replace(" ", "_")
        kept = [v for v in ("value", "lower", "upper") if v in data.data_vars]
        part = data[kept].rename({v: name if v == "value" else f"{name}_{v}" for v in kept})
        for variable in part.data_vars.values():
            variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(part)
    return merge_tables(parts)


ROW = FigureRow(
    name="eigen_ablation",
    title="Without the top eigen-directions",
    function=draw_eigen_ablation,
    needs=(("eigen_ablation_loss", "surprisal"),),
    phases=False,
    extra=True,
    source="arXiv 2509.23024, Table 8",
    caption=(
        "Scores with the top eigen-directions of the covariance of last-token states removed from, or"
        " only them retained in, every final state; branch {branch}. In the legend: {shown} at the last"
        " checkpoint. Where the projection is made and what becomes of the mean: the recipe's"
        " [capture.eigen_ablation]. Bands: {level} intervals; of tasks, that of the original stands for"
        " all. Inputs: {inputs}."
    ),
    optional=(("eigen_ablation_score", "acc"), ("eigen_ablation_accuracy", "top1")),
)
