"""Rows of maps: hidden states of each word class laid out in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry.scaling import SCALING_METHODS, scale
from runs.rows.base import Reduce, Row
from runs.rows.word_cells import CELL, CLASS, samples

MEMBERS = 40  # of each class at most: of eight classes 320 points, as many as a map can show
_AXES = 2


def evenly_chosen(
    labels: NDArray[Any], classes: Sequence[str], *, members: int = MEMBERS
) -> NDArray[np.intp]:
    """Rows of a few samples of each class, evenly spaced through the set: nothing is drawn by chance.

    Parameters
    ----------
    labels : text (sample,).
    classes : names, in the order of the result; labels of no class are left out.
    members : of each class at most.

    Returns
    -------
    intp array (class, member)
        −1 where a class has fewer.
    """
    found = np.full((len(classes), members), -1, np.intp)
    for row, name in enumerate(classes):
        own = np.flatnonzero(labels == name)
        places = np.linspace(0, own.size - 1, min(members, own.size)).round().astype(np.intp)
        found[row, : places.size] = own[places]
    return found


def _map(*cell: Any, method: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (class, member, axis), NaN where there is no member, and the map's stress at each."""
    x, _, names = samples(*cell)
    chosen = evenly_chosen(names, np.unique(cell[-1]).tolist())
    place = np.full((*chosen.shape, _AXES), np.nan)
    stress = place.copy()
    there = chosen >= 0
    if int(there.sum()) > _AXES:
        found = scale(x[chosen[there]], method=method, dimensions=_AXES)
        place[there] = found.positions
        stress[there] = found.stress
    return place, stress


ROWS: list[Row] = [
    Reduce(
        "word_class_map",
        method,
        CELL,
        partial(_map, method=method),
        unit="activation" if method != "tsne" else "1",
        source=f"{told}; up to {MEMBERS} last tokens a class",
        outputs=("value", "stress"),
        core=("word_class", "member", "axis"),
        labels={"member": tuple(range(MEMBERS)), "axis": tuple(range(1, _AXES + 1))},
        levels={"word_class": CLASS.variable},
        default=method == "classical",
    )
    for method, told in SCALING_METHODS.items()
]
