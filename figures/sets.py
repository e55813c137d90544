"""Several sets of inputs in one figure: which belong together, and what each is called."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from figures.select import Material, stem

__all__ = ["by_length", "one_a_text", "stem"]

Measures = Mapping[str, xr.Dataset]


def by_length(material: Material) -> dict[int, Measures]:
    """Return the sets that read the chosen set's text at other lengths, by length, with itself.

    Sets belong together if their names differ in nothing but a number at the end: `web16`, `web-64` and
    `web`. Of two with the same length the first by name counts.

    Parameters
    ----------
    material : with `sets`.
    """
    found: dict[int, Measures] = {}
    for name, measures in sorted(material.sets.items(), key=lambda s: s[0] != material.set):
        length = _length(measures)
        if length is not None and stem(name) == stem(material.set):
            found.setdefault(length, measures)
    return dict(sorted(found.items()))


def one_a_text(material: Material) -> dict[str, Measures]:
    """Return the sets of different texts: of those that differ in length only, the longest.

    Parameters
    ----------
    material : with `sets`.
    """
    best: dict[str, str] = {}
    for name, measures in material.sets.items():
        known = best.setdefault(stem(name), name)
        if (_length(measures) or 0) > (_length(material.sets[known]) or 0):
            best[stem(name)] = name
    return {name: material.sets[name] for name in best.values()}


def _length(measures: Measures) -> int | None:
    """Return the tokens of every sample, where they are as many."""
    lengths = {int(data.attrs["length"]) for data in measures.values() if "length" in data.attrs}
    return lengths.pop() if len(lengths) == 1 else None
