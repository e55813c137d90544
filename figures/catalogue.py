"""The table of figures: one function and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from figures import (
    alignment,
    attention_bands,
    bands,
    bound_diagram,
    collapse,
    context,
    correlations,
    datasets,
    dispersion,
    downstream,
    eigen_ablation,
    entropy_regularised,
    entropy_thresholds,
    head_lives,
    heads,
    induction,
    layers,
    ledger,
    massive,
    memorisation,
    modality_cause,
    modality_contest,
    modality_curves,
    modality_entropy,
    modality_following,
    modality_layers,
    modality_oscillation,
    modality_plane,
    modality_strata,
    modality_training,
    phases,
    post_training,
    predictive,
    profile,
    samples,
    segmentation,
    sinks,
    spectra,
    toy,
    toy_controls,
    toy_squared_error,
    trajectories,
    word_class_confusion,
    word_class_curves,
    word_class_emergence,
    word_class_maps,
)
from figures.row import FigureRow
from figures.select import Material, MissingMeasure, gather
from figures.style import styled, theme_named

# One figure a line: a new one is a file with a function and its `ROW`, and its name here.
_MODULES = (
    phases,
    layers,
    profile,
    spectra,
    heads,
    attention_bands,
    bound_diagram,
    ledger,
    alignment,
    segmentation,
    post_training,
    predictive,
    trajectories,
    toy,
    toy_controls,
    toy_squared_error,
    memorisation,
    downstream,
    correlations,
    eigen_ablation,
    samples,
    datasets,
    bands,
    dispersion,
    sinks,
    massive,
    context,
    induction,
    head_lives,
    collapse,
    entropy_regularised,
    entropy_thresholds,
    word_class_maps,
    word_class_curves,
    word_class_confusion,
    word_class_emergence,
    modality_entropy,
    modality_following,
    modality_curves,
    modality_strata,
    modality_plane,
    modality_training,
    modality_oscillation,
    modality_layers,
    modality_contest,
    modality_cause,
)

FIGURES: dict[str, FigureRow] = {module.ROW.name: module.ROW for module in _MODULES}


def figures_of(tree: xr.DataTree) -> list[str]:
    """Names of the figures that belong to a store or study of this kind, in order."""
    kind = tree.attrs.get("kind", "series")
    return [n for n, row in FIGURES.items() if row.kind == kind and not row.command]


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
    try:
        material = gather(
            tree,
            needs,
            optional=optional,
            phases=row.phases,
            wanted=set,
            every_set=row.every_set,
            all_sets=row.all_sets,
        )
    except MissingMeasure:
        if row.command:
            raise MissingMeasure(
                f"no store holds what `{name}` shows: run `{row.command}`"
            ) from None
        raise
    with styled(chosen):
        figure, table = row.function(material, chosen, **options)
        # Ticks are made late: make them now, while the style holds.
        figure.draw_without_rendering()
    caption = _caption(row, material, table.attrs, options) + _ratios(tree, material)
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


def _ratios(tree: xr.DataTree, material: Material) -> str:
    """Say where a study's models differ in samples a feature, below figures that depend on it."""
    if not any("N/d" in str(data.attrs.get("inputs", "")) for data in material.measures.values()):
        return ""
    told = [str(line) for line in tree.attrs.get("warnings", [])]
    return "".join(
        f" {line[0].upper()}{line[1:]}."
        for line in told
        if line.startswith(f"set {material.set}: N/d is ")
    )
