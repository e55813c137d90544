"""Accuracy, following and balance point over training: seeds apart from the probe's own noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from figures import axes as shared
from figures.lines import legend_rows, line_legend, line_looks
from figures.modality_panels import united
from figures.row import FigureRow
from figures.select import Material, by_branch, line_names, require_series
from figures.style import WIDTH, Theme

_HEIGHT, _TOP, _FOOT = 1.05, 0.5, 0.55  # inches
_ROWS = {
    "modality_accuracy": ("image alone\nright", (-0.03, 1.03)),
    "modality_accuracy/text_pooled": ("text alone\nright", (-0.03, 1.03)),
    "text_following": ("follows\ntext", (-0.03, 1.03)),
    "following_monotone": ("Spearman\nwith ΔH", (-1.03, 1.03)),
    "balance_point": ("balance\npoint", (-2.05, 2.05)),
}
_NOISY = ("text_following", "balance_point")


def draw_modality_training(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw curves over training, one a line, and below them the two kinds of noise.

    Parameters
    ----------
    material : modality_accuracy of image and text, text_following, following_monotone and balance_point
        (checkpoint).

    Returns
    -------
    The figure and a Dataset: each measure with its bounds, and `training_noise_X` and `probe_noise_X`
    of following and balance point (step).

    Raises
    ------
    TooFewCheckpoints
        If there is no course of training.

    Notes
    -----
    Bands are probe noise: which cases were asked. The spread between lines is training noise: standard
    deviation over seeds at a step that at least two seeds have. Memory: the measures.
    """
    found = {name: material.measures[name].compute() for name in _ROWS}
    require_series(found["text_following"])
    looks = line_looks(found.values(), theme)
    several = len(looks) > 1
    noise = {name: noises(found[name]) for name in _NOISY}
    labels = {line: line for line in looks}
    foot = _FOOT + (0.22 * legend_rows(list(labels))[1] if several else 0)
    heights = [_HEIGHT] * (len(_ROWS) + several)
    tall = _TOP + sum(heights) + 0.15 * (len(heights) - 1) + foot
    figure = Figure(figsize=(WIDTH, tall))
    grid = GridSpec(
        1, 1, figure, left=0.75 / WIDTH, right=1 - (1.35 if several else 0.15) / WIDTH,
        bottom=foot / tall, top=1 - _TOP / tall,
    )  # fmt: skip
    tokens = found["text_following"]["tokens"].values.astype(float)
    panels = shared.stacked_panels(figure, grid[0], heights, zero=bool((tokens == 0).any()))
    for panel, (name, (label, limits)) in zip(panels, _ROWS.items(), strict=False):
        for line, part in by_branch(found[name]):
            shared.draw_curve(panel, _clipped(part, limits), looks[line].style, line)
        panel.left.set_ylabel(label)
        panel.log.set_ylim(*limits)
    if several:
        _noise(panels[-1], noise, found["text_following"], theme)
    shared.token_axis(panels, tokens)
    first = next(part for _, part in by_branch(found["text_following"]))
    shared.step_ticks(
        panels[0], first["step"].values.astype(float), first["tokens"].values.astype(float)
    )
    if several:
        line_legend(figure, looks, labels)
    return figure, _table(found, noise)


def noises(data: xr.Dataset) -> xr.Dataset:
    """Training noise and probe noise of a measure at each step that two lines or more have a value at.

    Returns
    -------
    `training`: standard deviation between lines; `probe`: root mean square over lines of the standard
    error, or of the interval's width over 2 × 1.96; both (step).
    """
    steps = np.unique(data["step"].values)
    rows: dict[str, list[float]] = {"training": [], "probe": []}
    for step in steps:
        one = data.isel(checkpoint=np.flatnonzero(data["step"].values == step))
        values = one["value"].values
        width = (one["upper"] - one["lower"]).values / (2 * 1.96)
        error = one["standard_error"].values if "standard_error" in one else width
        there = np.isfinite(values)
        some = there & np.isfinite(error)
        enough = there.sum() >= 2 and len(set(line_names(one))) >= 2
        rows["training"].append(float(values[there].std(ddof=1)) if enough else np.nan)
        rows["probe"].append(
            float(np.sqrt(np.square(error[some]).mean())) if enough and some.any() else np.nan
        )
    return xr.Dataset({name: ("step", column) for name, column in rows.items()}, {"step": steps})


def _clipped(part: xr.Dataset, limits: tuple[float, float]) -> xr.Dataset:
    """Intervals that reach to infinity end at the panel's edge."""
    bounds = {name: part[name].clip(*limits) for name in ("lower", "upper")}
    return part[["value"]].assign(bounds)


def _noise(
    panel: shared.Panel, noise: Mapping[str, xr.Dataset], data: xr.Dataset, theme: Theme
) -> None:
    """Draw both noises of both measures against the tokens of their steps."""
    part = next(part for _, part in by_branch(data))
    tokens = dict(zip(part["step"].values.tolist(), part["tokens"].values.tolist(), strict=True))
    words = {"text_following": "following", "balance_point": "balance"}
    for index, (name, both) in enumerate(noise.items()):
        for kind, dashes in (("training", "-"), ("probe", (0, (1.2, 1.2)))):
            kept = [i for i, step in enumerate(both["step"].values.tolist()) if tokens.get(step)]
            x = [tokens[int(both["step"].values[i])] for i in kept]
            style: dict[str, Any] = {"color": theme.category(3 + index), "ls": dashes}
            label = f"{words[name]},\n{kind}"
            panel.log.plot(x, both[kind].values[kept], marker="o", label=label, **style)
    panel.left.set_ylabel("noise\n(1 s.d.)")
    panel.log.set_ylim(bottom=0)
    panel.log.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.05), handlelength=1.4, fontsize=8,
        borderaxespad=0.2, labelspacing=0.2,
    )  # fmt: skip


def _table(found: Mapping[str, xr.Dataset], noise: Mapping[str, xr.Dataset]) -> xr.Dataset:
    table = xr.Dataset()
    names = {
        "modality_accuracy": "image_accuracy",
        "modality_accuracy/text_pooled": "text_accuracy",
    }
    for key, data in found.items():
        name = names.get(key, key)
        table[name] = data["value"]
        for bound in ("lower", "upper"):
            table[f"{name}_{bound}"] = data[bound]
    for name, both in noise.items():
        for kind in ("training", "probe"):
            values = both[kind].rename(step="shared_step")
            table[f"{kind}_noise_{name}"] = values
    return united(table)


ROW = FigureRow(
    name="modality_training",
    title="Modalities over training",
    function=draw_modality_training,
    needs=(
        ("modality_accuracy", "image_pooled"),
        ("modality_accuracy", "text_pooled"),
        ("text_following", "solved_both"),
        ("following_monotone", "spearman"),
        ("balance_point", "logistic"),
    ),
    phases=False,
    source="ours, after arXiv 2511.02243",
    caption=(
        "From above: share of right answers from the image and from the text alone, over all tiers;"
        " text-following rate, its rank correlation with ΔH and its balance point, of conflicts solved"
        " in both modalities, with a gap where one half is not crossed. Bands: {level} interval over"
        " groups of cases (probe noise). Below, where there are several lines: standard deviation"
        " between them (training noise) and mean standard error within them (probe noise). Inputs:"
        " {inputs}."
    ),
    extra=True,
)
