"""What the figures of word classes share: how classes look, which layers and checkpoints are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D

from figures.head_maps import chosen_rows
from figures.select import by_branch, is_study, layer_names
from figures.style import Theme

_MARKERS = "o^sDvPX*"  # beside the colour, for eyes that do not tell colours apart


def present_classes(data: xr.DataArray) -> list[str]:
    """Names of the classes that have any number, in the order of the measure.

    Parameters
    ----------
    data : a measure with the dimension `word_class`; what a set has not is NaN.
    """
    values = data.transpose(..., "word_class").values
    there = np.isfinite(values).reshape(-1, values.shape[-1]).any(axis=0)
    return [str(name) for name in data["word_class"].values[there]]


def class_styles(names: Sequence[str], theme: Theme) -> dict[str, dict[str, Any]]:
    """Colour and mark of each class; the mark alone tells them apart, too."""
    colours = (*theme.categories, theme.ink, theme.muted)
    return {
        name: {"color": colours[i % len(colours)], "marker": _MARKERS[i % len(_MARKERS)]}
        for i, name in enumerate(names)
    }


def class_key(styles: dict[str, dict[str, Any]], *, line: bool = False) -> list[Line2D]:
    """Legend entries of classes."""
    drawn: dict[str, Any] = {"linestyle": "-"} if line else {"linestyle": "none", "markersize": 5}
    return [Line2D([], [], **style, **drawn, label=name) for name, style in styles.items()]


def shown_layers(data: xr.Dataset | xr.DataArray) -> list[int]:
    """Positions of the first layer, the one in the middle, the last block and the one after the norm."""
    names = layer_names(data)
    count = len(names)
    blocks = [i for i, name in enumerate(names) if name != "final"]
    found = {0, blocks[len(blocks) // 2], blocks[-1], count - 1}
    return sorted(found)


def shown_lines(data: xr.Dataset) -> list[tuple[str, xr.Dataset]]:
    """Return the first branch of a store, and of a study every line."""
    parts = list(by_branch(data))
    return parts if is_study(data) else parts[:1]


def spread_rows(part: xr.Dataset, count: int) -> np.ndarray:
    """Positions of so many checkpoints of a branch, the last and, of several, the first among them."""
    if count == 1:
        return np.array([part.sizes["checkpoint"] - 1])
    rows = chosen_rows(part, count)
    return np.unique([0, *rows[1:-1], part.sizes["checkpoint"] - 1]) if rows.size > 1 else rows


def layer_title(name: str) -> str:
    """Return what a panel of a layer is called."""
    return f"layer {name}" if name.isdigit() else name
