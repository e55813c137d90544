"""What the catalogue says of one figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr
from matplotlib.figure import Figure


@dataclass(frozen=True)
class FigureRow:
    """What the catalogue says of one figure.

    Attributes
    ----------
    name : the word by which it is asked for.
    title : its heading.
    function : `function(material, theme, **options) -> (Figure, Dataset)`.
    needs : (measure, convention) pairs without which it cannot be drawn.
    phases : whether it shows the phases found.
    source : arXiv id and figure it redraws.
    caption : template; {set}, {inputs}, {interval}, {level}, the options' names and what the
        function puts into its Dataset's attributes are filled in.
    optional : pairs that are drawn where the store holds them.
    command : of a figure whose measures no store holds, the command that draws it.
    extra : whether it shows what is captured only on request; unless it is asked for by name, it is
        then left out without a word.
    kind : the kind of store it is of, by the root's attribute `kind`: of a training series, which says
        none, or for instance "toy".
    every_set : measures, some of `needs`, that are shown of every set of inputs that has them; the
        others of one set.
    all_sets : whether it shows every set of inputs that has anything it draws.
    """

    name: str
    title: str
    function: Callable[..., tuple[Figure, xr.Dataset]]
    needs: tuple[tuple[str, str], ...]
    phases: bool
    source: str
    caption: str
    optional: tuple[tuple[str, str], ...] = ()
    command: str = ""
    extra: bool = False
    kind: str = "series"
    every_set: tuple[str, ...] = ()
    all_sets: bool = False
