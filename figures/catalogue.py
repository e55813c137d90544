"""The table of figures: one function and one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from figures.heads import draw_heads
from figures.layers import draw_layers
from figures.phases import draw_phases
from figures.profile import draw_profile
from figures.select import Material, gather
from figures.spectra import draw_spectra
from figures.style import styled, theme_named


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
    """

    name: str
    title: str
    function: Callable[..., tuple[Figure, xr.Dataset]]
    needs: tuple[tuple[str, str], ...]
    phases: bool
    source: str
    caption: str
    optional: tuple[tuple[str, str], ...] = ()


_GEOMETRY = (("rankme", "li2025"), ("alpha_req", "li2025"))

FIGURES: dict[str, FigureRow] = {
    row.name: row
    for row in (
        FigureRow(
            name="phases",
            title="Training phases",
            function=draw_phases,
            needs=_GEOMETRY,
            phases=True,
            source="arXiv 2509.23024, figure 2",
            caption=(
                "{panels} of layer {layer}, and mean loss where measured, against tokens (log"
                " axis; step 0 left of the break). Bands: {level} intervals ({interval}); they show"
                " probe noise of one training run, not the spread between seeds. Shading:"
                " segments of the fit; diamonds with bars: boundaries and their intervals."
                " {notes}Inputs: {inputs}."
            ),
            optional=(("loss", "surprisal"),),
        ),
        FigureRow(
            name="layers",
            title="Layers through training",
            function=draw_layers,
            needs=_GEOMETRY,
            phases=False,
            source="arXiv 2509.23024, figure 7",
            caption=(
                "{panels} of every layer at every checkpoint; the"
                " layer after the final norm is set apart. Cells reach halfway to the"
                " neighbouring checkpoints; a cell left empty has no number. {notes}Inputs: {inputs}."
            ),
        ),
        FigureRow(
            name="profile",
            title="One checkpoint, layer by layer",
            function=draw_profile,
            needs=(("rankme", "li2025"),),
            phases=False,
            source="the measures of arXiv 2509.23024 and arXiv 2303.06296, over depth",
            caption=(
                "{panels} against depth, at {which}. The layer after the final norm is set apart."
                " Bands and its bar: {level} intervals ({interval}). {notes}Inputs: {inputs}."
            ),
            optional=(("alpha_req", "li2025"), ("head_entropy", "zhai2023")),
        ),
        FigureRow(
            name="eigenspectra",
            title="Eigenspectra",
            function=draw_spectra,
            needs=(("eigenspectrum", "centered"),),
            phases=False,
            source="arXiv 2509.23024, section 2 (the spectra behind figure 2)",
            caption=(
                "Eigenvalues of the centred covariance of layer {layer}, divided by their sum,"
                " against rank, one line a checkpoint. The band marks the ranks on which α-ReQ is"
                " fitted. Shares below 1e-9 are out of view. Inputs: {inputs}."
            ),
        ),
        FigureRow(
            name="heads",
            title="Attention entropy of heads",
            function=draw_heads,
            needs=(("head_entropy", "zhai2023"),),
            phases=False,
            source="arXiv 2303.06296, figure 1; arXiv 2501.03489, figure 3",
            caption=("Mean entropy of the attention rows of each head. {panels} Inputs: {inputs}."),
        ),
    )
}


def draw(
    tree: xr.DataTree,
    name: str,
    *,
    set: str | None = None,
    theme: str = "light",
    conventions: Mapping[str, str] | None = None,
    **options: Any,
) -> tuple[Figure, xr.Dataset]:
    """Draw one figure of the catalogue from a store's tree.

    Parameters
    ----------
    tree : an open store: measures under /measures/NAME/CONVENTION/SET, phases under /phases.
    name : a key of `FIGURES`.
    set : the set of inputs; the first that has every needed measure by default.
    theme : "light" or "dark".
    conventions : measure to convention where another than the row's is wanted.
    options : passed to the figure's function.

    Returns
    -------
    The Figure and a Dataset of exactly what it shows. The Dataset's attributes hold the figure's
    name, title, caption, source, set and theme.

    Raises
    ------
    ValueError
        If there is no such figure, theme, layer or step.
    MissingMeasure
        If the tree lacks a measure the figure needs.
    """
    if name not in FIGURES:
        raise ValueError(f"name is {name!r}; give one of {', '.join(FIGURES)}")
    row = FIGURES[name]
    chosen = theme_named(theme)
    other = conventions or {}
    needs = [(m, other.get(m, c)) for m, c in row.needs]
    optional = [(m, other.get(m, c)) for m, c in row.optional]
    material = gather(tree, needs, optional=optional, phases=row.phases, wanted=set)
    with styled(chosen):
        figure, table = row.function(material, chosen, **options)
        # Ticks are made late: make them now, while the style holds.
        figure.draw_without_rendering()
    caption = _caption(row, material, table.attrs, options)
    table.attrs = {
        "figure": name,
        "title": row.title,
        "source": row.source,
        "set": material.set,
        "theme": theme,
        "caption": caption,
    }
    return figure, table


def _caption(
    row: FigureRow, material: Material, told: Mapping[Any, Any], options: Mapping[str, Any]
) -> str:
    """Fill the row's template from the first needed measure; what is unknown says so."""
    attrs = material.measures[row.needs[0][0]].attrs
    level = attrs.get("level")
    known = {
        **told,
        "layer": "final",
        "set": material.set,
        "inputs": attrs.get("inputs", f"set {material.set}"),
        "interval": attrs.get("interval", "method not stated"),
        "level": f"{100 * float(level):g} %" if level is not None else "stated",
        **options,
    }
    fields = [field for _, field, _, _ in Formatter().parse(row.caption) if field]
    return row.caption.format(**{field: known.get(field, "not stated") for field in fields})
