"""Says in plain sentences which word classes stand apart, and since when."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from figures.select import at_layer, measured_parts
from figures.word_class_steps import class_steps, told_one

_SEPARATION = ("word_class_separation", "one_vs_rest")
_BEST = 3


def class_sentences(tree: xr.DataTree, lines: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What is said of word classes, by line; nothing of a store without sets of words.

    Parameters
    ----------
    tree : an open store.
    lines : branch to what the page calls it.

    Returns
    -------
    Sentences by line: at one checkpoint which classes are told from the rest best and worst; over
    several, since when each stands apart.
    """
    told: dict[str, tuple[str, ...]] = {}
    for one in measured_parts(tree, *_SEPARATION, lines):
        part = at_layer(one.part, "final")
        once = part.sizes["checkpoint"] == 1
        said = _standing(part, one.where) if once else _since(part, one.where)
        told[one.line] = (*told.get(one.line, ()), *said)
    return told


def _since(part: xr.Dataset, where: str) -> tuple[str, ...]:
    found = class_steps(part)
    if not (found["separated"] >= 0).any():
        return ()
    return (
        f"Classes of the word to come{where}, each since it is halfway to how far apart it ends:"
        f" {told_one(found)}.",
    )


def _standing(part: xr.Dataset, where: str) -> tuple[str, ...]:
    value = part["value"].isel(checkpoint=0)
    there = sorted(
        (-float(v), str(n))
        for v, n in zip(value.values, value["word_class"].values, strict=True)
        if v == v
    )
    if not there:
        return ()
    named = [f"{name} {-minus:.2f}" for minus, name in there]
    shown = named if len(named) <= 2 * _BEST else [*named[:_BEST], "…", *named[-_BEST:]]
    return (
        f"Classes of the word to come{where}, told from the others after the final norm"
        f" (area under the curve, 0.5 by chance): {', '.join(shown)}.",
    )
