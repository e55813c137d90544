"""What word-class measures are to be compared with: horizontal lines with their names beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from figures.select import Material
from figures.style import WIDTH, Theme

_MEASURE = "word_class_baseline"
_FIRST = "majority"
UNIFORM = "uniform"
BASELINES = {
    "majority": "the commonest class",
    "class_given_word_9": "the class that followed word 9 most often",
    "class_given_classes_8_9": "the class that followed the classes of words 8 and 9",
}
_SHORT = {
    "majority": "majority",
    "class_given_word_9": "P(c | w₉)",
    "class_given_classes_8_9": "P(c | c₈, c₉)",
}
_DASHES: tuple[Any, ...] = ((0, (1, 1.5)), (0, (5, 1.5)), (0, (5, 1.5, 1.2, 1.5)))
_LINE = 0.15  # inches between the names of two levels


@dataclass(frozen=True)
class Level:
    """A value that does not change over layers and training.

    Attributes
    ----------
    label : what stands beside the line.
    value, lower, upper : where it is, and its interval, NaN without one.
    name : what it is called in the table; empty for a mark of the scale.
    """

    label: str
    value: float
    lower: float = float("nan")
    upper: float = float("nan")
    name: str = ""


def levels_of(material: Material, shown: Mapping[str, xr.Dataset]) -> dict[str, list[Level]]:
    """Levels of each measure shown: counting baselines, no separation, a uniform code.

    Parameters
    ----------
    material : with the baselines that were measured.
    shown : measure to its values.
    """
    found: dict[str, list[Level]] = {name: [] for name in shown}
    if "gdv_scaled" in shown:
        found["gdv_scaled"].append(Level("no separation", 0.0))
    if "word_class_selectivity" in shown:
        found["word_class_selectivity"].append(Level("not selective", 0.0))
    if "word_class_probe" in shown:
        found["word_class_probe"] += _baselines(material)
    code = shown.get("word_class_codelength")
    if code is not None and "compression" in code:
        bits = (code["value"] * code["compression"]).values  # n log₂ K / n, the same everywhere
        if np.isfinite(bits).any():
            level = float(np.nanmedian(bits))
            found["word_class_codelength"].append(Level("uniform code", level, name=UNIFORM))
    return found


def _baselines(material: Material) -> list[Level]:
    levels = []
    for name, label in _SHORT.items():
        key = _MEASURE if name == _FIRST else f"{_MEASURE}/{name}"
        data = material.measures.get(key)
        if data is None:
            continue
        data = data.compute()
        value, lower, upper = (
            _one(data[end].values) if end in data else float("nan")
            for end in ("value", "lower", "upper")
        )
        if np.isfinite(value):
            levels.append(Level(label, value, lower, upper, name))
    return levels


def _one(values: np.ndarray) -> float:
    """The number that is repeated over checkpoints and layers; the median of a study's models."""
    return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")


def draw_levels(
    across: Sequence[Axes], levels: Sequence[Level], inches: float, theme: Theme
) -> None:
    """Draw each level through a row of axes, its name to the right of the last.

    Parameters
    ----------
    across : the axes of one row, left to right, with the same limits.
    inches : height of the row.
    """
    if not levels:
        return
    low, high = across[-1].get_ylim()
    ordered = sorted(levels, key=lambda level: level.value)
    shares = [(level.value - low) / (high - low) for level in ordered]
    heights = _apart(shares, _LINE / inches)
    for number, (level, share, height) in enumerate(zip(ordered, shares, heights, strict=True)):
        dashes = _DASHES[number % len(_DASHES)]
        for axes in across:
            axes.axhline(
                level.value, color=theme.ink, lw=0.9, linestyle=dashes, zorder=1.6,
                label=f"_level {level.label}",
            )  # fmt: skip
            if np.isfinite([level.lower, level.upper]).all():
                axes.axhspan(level.lower, level.upper, color=theme.muted, alpha=0.12, linewidth=0)
        last = across[-1]
        inch = 1 / (last.get_position().width * WIDTH)
        along = [1.0, 1 + 0.06 * inch, 1 + 0.1 * inch]
        last.plot(
            along, [share, height, height], color=theme.muted, lw=0.6, clip_on=False,
            transform=last.transAxes, label="_leader",
        )  # fmt: skip
        number_text = f" {level.value:.2f}" if level.name else ""
        last.text(
            1 + 0.13 * inch, height, f"{level.label}{number_text}", transform=last.transAxes, fontsize=8,
            va="center",
        )  # fmt: skip


def _apart(places: Sequence[float], least: float) -> list[float]:
    """Move rising places so that neighbours are at least so far apart, about where they were."""
    found = list(places)
    for _ in range(50):
        close = [i for i in range(1, len(found)) if found[i] - found[i - 1] < least - 1e-9]
        if not close:
            break
        for i in close:
            push = (least - (found[i] - found[i - 1])) / 2
            found[i - 1] -= push
            found[i] += push
    return found
