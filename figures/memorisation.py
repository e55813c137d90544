"""Memorisation over training: the training text's likelihood of passages beside the model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import MaxNLocator

from figures import axes as shared
from figures.lines import Look, key, legend_rows, line_looks, step_axis_of
from figures.row import FigureRow
from figures.select import (
    Material,
    at_layer,
    by_branch,
    has_numbers,
    merge_tables,
    require_series,
)
from figures.style import WIDTH, Theme

_HEIGHTS = {"memorisation": 1.35, "alpha_req": 1.0, "ngram_divergence": 1.2, "ngram_agreement": 1.2}
_LABELS = {
    "memorisation": "Spearman ρ",
    "alpha_req": "α-ReQ",
    "ngram_divergence": "KL [nats]",
    "ngram_agreement": "top-1 agreement",
}
_TOLD = {
    "memorisation": "Spearman's ρ between passages' ∞-gram likelihood and the model's",
    "alpha_req": "α-ReQ of the final layer",
    "ngram_divergence": "KL(n-gram ‖ model)",
    "ngram_agreement": "share of contexts in which both prefer the same next token",
}
_BY_ORDER = ("ngram_divergence", "ngram_agreement")
_TABLE = 1.15  # inches of the bars of suffix lengths
_UNBOUNDED = 1 << 20  # a bin that ends here or later is open


def draw_memorisation(
    material: Material, theme: Theme, *, order: int = 2
) -> tuple[Figure, xr.Dataset]:
    """Draw ρ and, where they are measured, α, n-grams beside the model, and suffix lengths.

    Parameters
    ----------
    material : memorisation (checkpoint); optionally alpha_req (checkpoint, layer), ngram_divergence and
        ngram_agreement (checkpoint, order), suffix_length (suffix_bin).
    order : the n-gram shown where there are several branches or models; of one branch all are.

    Returns
    -------
    The figure and a Dataset of what it shows.

    Raises
    ------
    TooFewCheckpoints
        If no branch has two checkpoints.
    ValueError
        If ρ is NaN everywhere, or there is no such order.

    Notes
    -----
    After arXiv 2509.23024, figure 3A and table 7. Memory: the measures, α of one layer.
    """
    require_series(material.measures["memorisation"])
    shown = {
        name: at_layer(material.measures[name], "final").compute()
        for name in _HEIGHTS
        if name in material.measures
    }
    if not has_numbers(shown["memorisation"]["value"]):
        raise ValueError("memorisation is NaN everywhere; there is nothing to draw")
    shown = {name: data for name, data in shown.items() if has_numbers(data["value"])}
    looks = line_looks(shown.values(), theme)
    alone = len(looks) == 1
    if not alone:
        shown = {n: _at_order(d, order) if n in _BY_ORDER else d for n, d in shown.items()}
    colours = _order_colours(shown, theme)
    bars = material.measures.get("suffix_length")
    figure, panels, below = _layout(shown, looks, colours, bars=bars is not None)
    for panel, (name, data) in zip(panels, shown.items(), strict=True):
        for line, part in by_branch(data):
            if "order" not in part.dims:
                shared.draw_curve(panel, part, looks[line].style, line)
                continue
            for number in part["order"].values.tolist():
                look = replace(looks[line], colour=colours[number])
                shared.draw_curve(panel, part.sel(order=number), look.style, f"{number}-gram")
        panel.left.set_ylabel(_LABELS[name])
        panel.left.yaxis.set_major_locator(MaxNLocator(4))
    if shown["memorisation"]["value"].min() < 0:
        for axes in panels[0].all:
            axes.axhline(0, color=theme.muted, linewidth=0.8)
    tokens = np.concatenate([data["tokens"].values for data in shown.values()]).astype(float)
    shared.token_axis(panels, tokens)
    label, first = step_axis_of(shown["memorisation"])
    steps, seen = (first[name].values.astype(float) for name in ("step", "tokens"))
    shared.step_ticks(panels[0], steps, seen, label=label)
    _legends(figure, panels, looks, colours)
    if bars is not None and below is not None:
        _draw_bars(below, bars, theme)
    table = _table(shown, bars)
    table.attrs.update(_told(shown, bars, order if not alone else None))
    return figure, table


def _at_order(data: xr.Dataset, order: int) -> xr.Dataset:
    known = data["order"].values.tolist()
    if order not in known:
        raise ValueError(f"order is {order}; give one of {', '.join(map(str, known))}")
    return data.sel(order=order, drop=True)


def _order_colours(shown: Mapping[str, xr.Dataset], theme: Theme) -> dict[int, str]:
    """Colour of each order: a ramp from light to dark, as they go from few words to many."""
    orders = [d["order"].values.tolist() for d in shown.values() if "order" in d.dims]
    if not orders:
        return {}
    ramp = theme.line_colours()
    places = np.linspace(0.95, 0.0, len(orders[0]))
    return {n: to_hex(ramp(p)) for n, p in zip(orders[0], places, strict=True)}


def _layout(
    shown: Mapping[str, xr.Dataset],
    looks: Mapping[str, Look],
    colours: Mapping[int, str],
    *,
    bars: bool,
) -> tuple[Figure, list[shared.Panel], Axes | None]:
    heights = [_HEIGHTS[name] for name in shown]
    legend = 0.19 * legend_rows(list(looks))[1] if len(looks) > 1 else 0.0
    legend += 0.19 * bool(colours)
    below, above = 0.52 + legend, 0.5
    under = _TABLE + 0.62 if bars else 0.0
    tall = sum(heights) * 1.12 + below + above + under
    figure = Figure(figsize=(WIDTH, tall))
    left, right = 0.72 / WIDTH, 1 - 0.12 / WIDTH
    grid = GridSpec(
        1, 1, figure, left=left, right=right, bottom=(below + under) / tall, top=1 - above / tall
    )
    zero = any(bool((data["tokens"].values == 0).any()) for data in shown.values())
    panels = shared.stacked_panels(figure, grid[0], heights, zero=zero)
    if not bars:
        return figure, panels, None
    place = (left, 0.48 / tall, right - left, _TABLE / tall)
    return figure, panels, figure.add_axes(place, label="suffixes")


def _legends(
    figure: Figure,
    panels: list[shared.Panel],
    looks: Mapping[str, Look],
    colours: Mapping[int, str],
) -> None:
    """Below the curves: the orders of n-grams, or the lines where there are several."""
    handles = [key(Look(colour), f"{order}-gram") for order, colour in colours.items()]
    if len(looks) > 1:
        handles += [key(look, line) for line, look in looks.items()]
    if not handles:
        return
    place = panels[-1].log.get_position()
    columns = len(handles) if colours else legend_rows(list(looks))[0]
    figure.legend(
        handles=handles, loc="upper center", ncols=columns, columnspacing=1.6, handlelength=2.4,
        bbox_to_anchor=(0.5, place.y0 - 0.42 / figure.get_figheight()), borderaxespad=0,
    )  # fmt: skip


def bin_names(upto: np.ndarray) -> list[str]:
    """What each column of the table is called, from the longest suffix in it: ≤3, 4, …, >8."""
    names = []
    for i, last in enumerate(upto.tolist()):
        first = int(upto[i - 1]) + 1 if i else 0
        if i == 0:
            names.append(f"≤{last}")
        elif last >= _UNBOUNDED:
            names.append(f">{first - 1}")
        else:
            names.append(str(last) if first == last else f"{first}–{last}")
    return names


def _draw_bars(axes: Axes, bars: xr.Dataset, theme: Theme) -> None:
    share = 100 * bars["value"].values
    places = np.arange(len(share))
    axes.bar(places, share, width=0.62, color=theme.category(0))
    ends = [bars[end].values * 100 if end in bars else share for end in ("lower", "upper")]
    axes.vlines(places, ends[0], ends[1], color=theme.ink, linewidth=1.1)
    for place, value, top in zip(places, share, ends[1], strict=True):
        if np.isfinite(value):
            height = np.nanmax([value, top])
            axes.annotate(
                f"{value:.2f} %", (place, height), (0, 2), textcoords="offset points",
                ha="center", va="bottom", fontsize=8,
            )  # fmt: skip
    axes.set_xticks(places, bin_names(bars["suffix_bin"].values))
    axes.set_xlabel("∞-gram suffix length [tokens]")
    axes.set_ylabel("share [%]")
    axes.grid(axis="x", visible=False)
    axes.set_ylim(0, 1.22 * float(np.nanmax(np.concatenate([share, ends[1]]))))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _table(shown: Mapping[str, xr.Dataset], bars: xr.Dataset | None) -> xr.Dataset:
    parts = []
    for name, data in shown.items():
        kept = [n for n in ("value", "lower", "upper") if n in data]
        names = {n: name if n == "value" else f"{name}_{n}" for n in kept}
        part = data[kept].rename(names).drop_vars(["layer", "layer_name", "depth"], errors="ignore")
        for variable in part.data_vars.values():
            variable.attrs = {"units": str(data.attrs.get("unit", "1"))}
        parts.append(part)
    table = merge_tables(parts)
    if bars is None:
        return table
    names = {n: f"suffix_{n}" for n in ("value", "lower", "upper") if n in bars}
    added = bars[list(names)].compute().rename(names)
    for variable in added.data_vars.values():
        variable.attrs = {"units": "1"}
    return table.merge(added.assign_coords(suffix_bin=bin_names(bars["suffix_bin"].values)))


def _told(
    shown: Mapping[str, xr.Dataset], bars: xr.Dataset | None, order: int | None
) -> dict[str, str]:
    panels = "; ".join(_TOLD[name] for name in shown)
    notes = ""
    if any(name in shown for name in _BY_ORDER):
        notes = "An n-gram backs off to the longest context the text holds. "
        notes += f"n = {order}. " if order is not None else ""
    if bars is not None:
        notes += "Bars: share of tokens by the longest suffix of their context in that text. "
    convention = str(shown["memorisation"].attrs.get("convention", "not stated"))
    return {"panels": panels, "notes": notes, "zeros": convention}


ROW = FigureRow(
    name="memorisation",
    title="Memorisation through training",
    function=draw_memorisation,
    needs=(("memorisation", "li2025_code"),),
    optional=(
        ("alpha_req", "li2025"),
        ("ngram_divergence", "backoff"),
        ("ngram_agreement", "backoff"),
        ("suffix_length", "li2025"),
    ),
    phases=False,
    source="arXiv 2509.23024, figure 3A and table 7",
    caption=(
        "{panels}. The training text speaks through its ∞-gram; tokens of probability 0 are handled as"
        " `{zeros}` says. {notes}Bands and bars are {level} intervals ({interval} for ρ; clustered by"
        " group elsewhere, α's own). Inputs: {inputs}."
    ),
    extra=True,
)
