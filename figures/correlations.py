"""The table of correlations between geometry and scores, drawn with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.axes import shortened
from figures.row import FigureRow
from figures.select import Material
from figures.style import WIDTH, Theme

_NAMES = {"rankme": "RankMe", "alpha_req": "α-ReQ"}
_ROW = 0.21  # inches
_LABELS = 1.0  # inches left of the intervals
_PLOT = 2.3
# Variable, title, place in inches from the right edge of the intervals, how a number is written.
_COLUMNS = (
    ("value", "r or ρ", 0.52, "{:+.3f}"),
    ("n", "n", 0.84, "{:.0f}"),
    ("p", "p", 1.44, "p"),
    ("effective_n", "n eff.", 1.86, "{:.1f}"),
    ("p_effective", "p eff.", 2.42, "p"),
    ("p_surrogate", "p surr.", 2.94, "{:.3f}"),
    ("differences", "of Δ", 3.4, "{:+.2f}"),
)


def draw_correlations(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw each correlation with its interval, and write its n and p-values beside it.

    Parameters
    ----------
    material : score_correlation (measure, score, branch, coefficient).

    Returns
    -------
    The figure and a Dataset of one row a correlation.

    Raises
    ------
    ValueError
        If every correlation is NaN.

    Notes
    -----
    After arXiv 2509.23024, Table 9. Memory: the measure.
    """
    data = material.measures["score_correlation"].compute()
    rows = _rows(data)
    if rows.sizes["row"] == 0:
        raise ValueError("every correlation is NaN: fewer than three checkpoints have both numbers")
    groups = _groups(rows)
    lines = rows.sizes["row"] + len(groups)
    below, above = 0.75, 0.32
    tall = lines * _ROW + below + above
    figure = Figure(figsize=(WIDTH, tall))
    axes = figure.add_axes((_LABELS / WIDTH, below / tall, _PLOT / WIDTH, lines * _ROW / tall))
    height = lines - 1
    for name, members in groups.items():
        heading: dict[str, Any] = {"ha": "left", "weight": "bold", "bbox": _patch(theme)}
        _write(axes, -_LABELS + 0.12, height, shortened(name, WIDTH - 0.3), **heading)
        for number in members:
            height -= 1
            _draw_row(axes, rows.isel(row=number), height, theme)
        height -= 1
    axes.set_xlim(-1, 1)
    axes.set_ylim(-0.6, lines - 0.4)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.set_xlabel("correlation over checkpoints")
    for _, title, offset, _ in _COLUMNS:
        _write(axes, _PLOT + offset, lines - 0.1, title, color=theme.muted)
    figure.legend(handles=_handles(theme), loc="lower center", ncols=2, columnspacing=1.6)
    return figure, rows


def _rows(data: xr.Dataset) -> xr.Dataset:
    """One row a correlation that is a number, scores together."""
    stacked = data.stack(row=("branch", "score", "measure", "coefficient")).reset_index("row")
    for variable in stacked.data_vars.values():
        variable.attrs = {"units": "1"}
    return stacked.isel(row=np.flatnonzero(np.isfinite(stacked["value"].values)))


def _groups(rows: xr.Dataset) -> dict[str, list[int]]:
    """Numbers of the rows of each score, of several branches also of each branch."""
    several = len(set(rows["branch"].values)) > 1
    groups: dict[str, list[int]] = {}
    for number in range(rows.sizes["row"]):
        score, branch = (str(rows[name].values[number]) for name in ("score", "branch"))
        groups.setdefault(f"{score}, {branch}" if several else score, []).append(number)
    return groups


def _draw_row(axes: Axes, row: xr.Dataset, height: int, theme: Theme) -> None:
    style = _style(str(row["coefficient"].item()), theme)
    lower, upper, value = (float(row[name]) for name in ("lower", "upper", "value"))
    axes.plot([lower, upper], [height, height], color=style["color"], linewidth=1.4)
    axes.plot([value], [height], linestyle="none", **style)
    measure = str(row["measure"].item())
    _write(axes, -0.1, height, shortened(_NAMES.get(measure, measure), _LABELS - 0.2))
    for name, _, place, form in _COLUMNS:
        number = float(row[name])
        text = _p_text(number) if form == "p" else form.format(number).replace("-", "−")
        _write(axes, _PLOT + place, height, "–" if np.isnan(number) else text)


def _write(axes: Axes, inches: float, height: float, text: str, **style: Any) -> None:
    """Write so many inches from the left edge of the intervals."""
    style = {"ha": "right", "va": "center", "fontsize": 8, **style}
    across = axes.get_yaxis_transform()
    axes.text(inches / _PLOT, height, text, transform=across, clip_on=False, **style)


def _patch(theme: Theme) -> dict[str, Any]:
    """Background of a heading: it runs over the grid."""
    return {"facecolor": theme.page, "edgecolor": "none", "pad": 1.0}


def _p_text(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}".replace("e-0", "e−").replace("e-", "e−")


def _style(coefficient: str, theme: Theme) -> dict[str, Any]:
    if coefficient == "pearson":
        return {"color": theme.category(0), "marker": "o", "markersize": 5}
    colour = theme.category(1)
    return {"color": colour, "marker": "s", "markersize": 5, "markerfacecolor": theme.page}


def _handles(theme: Theme) -> list[Line2D]:
    return [
        Line2D([], [], label=label, **_style(name, theme))
        for name, label in (("pearson", "Pearson's r"), ("spearman", "Spearman's ρ"))
    ]


ROW = FigureRow(
    name="correlations",
    title="Do geometry and scores go together?",
    function=draw_correlations,
    needs=(("score_correlation", "li2025"),),
    phases=False,
    extra=True,
    source="arXiv 2509.23024, Table 9",
    caption=(
        "Correlation of RankMe and α-ReQ of the final layer with accuracies over the checkpoints of one"
        " run, step 0 left out. Bars: {level} intervals ({interval}). p: two-sided t test, as the paper"
        " prints it; checkpoints of one run are not independent, so it is too small. n eff., p eff.: with"
        " the number of independent checkpoints that two first-order autoregressions are worth. p surr.:"
        " share of phase-randomised curves that correlate as strongly. Of Δ: correlation of the changes"
        " from checkpoint to checkpoint. Inputs of the geometry: {inputs}."
    ),
)
