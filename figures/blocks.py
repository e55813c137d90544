"""Colours of blocks or layers, and steps chosen for a few panels; shared by figures of depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, to_hex
from matplotlib.figure import Figure

from figures.style import WIDTH, Theme

BAR_LEFT, BAR_WIDE = 1 - 0.72 / WIDTH, 0.13 / WIDTH


def depth_colours(count: int, theme: Theme) -> list[str]:
    """Return one colour a block, from the first to the last."""
    palette = theme.line_colours()
    return [to_hex(palette(i / max(count - 1, 1))) for i in range(count)]


def depth_bar(
    figure: Figure, beside: Axes, names: list[str], theme: Theme, *, label: str = "block"
) -> None:
    """Draw the colour of each block right of some axes; a legend would be too long for a deep model."""
    place = beside.get_position()
    side = figure.add_axes((BAR_LEFT, place.y0, BAR_WIDE, place.height), label=f"bar {label}")
    norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, 256)
    bar = figure.colorbar(ScalarMappable(norm, theme.line_colours()), cax=side)
    room = max(2, int(place.height * figure.get_figheight() / 0.16))
    kept = np.arange(0, len(names), max(1, -(-len(names) // room)))
    bar.set_ticks(kept.tolist(), labels=[names[i] for i in kept])
    bar.set_label(label)
    bar.outline.set_visible(False)
    side.tick_params(length=0)
    side.minorticks_off()


def spread_checkpoints(part: xr.Dataset, count: int, *, within: float = np.inf) -> np.ndarray:
    """Return positions of at most `count` checkpoints: step 0 if there, the others even in log step.

    Parameters
    ----------
    part : one branch.
    count : how many at most.
    within : the last step over the earliest of the others.
    """
    have = part["step"].values.astype(int)
    if have.size <= count:
        return np.arange(have.size)
    begin = int(have[0] == 0)
    marks = np.geomspace(have[-1], max(have[begin], have[-1] / within), count - begin)
    near = [int(np.argmin(np.abs(np.log(have[begin:] / mark)))) + begin for mark in marks]
    return np.unique([0] * begin + near)


def asked_checkpoints(part: xr.Dataset, steps: Sequence[int], branch: str) -> np.ndarray:
    """Return positions of the checkpoints of some steps.

    Raises
    ------
    ValueError
        If a step is not in the branch; names the nearest.
    """
    have = part["step"].values.astype(int)
    absent = [step for step in steps if step not in have]
    if absent:
        near = have[np.argmin(np.abs(have - absent[0]))]
        raise ValueError(
            f"steps holds {absent[0]}, not measured in branch {branch}; the nearest is {near}"
        )
    return np.array([int(np.flatnonzero(have == step)[0]) for step in steps])
