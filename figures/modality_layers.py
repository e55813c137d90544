"""Which answer leads at each layer, by relative uncertainty."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from figures.axes import shortened
from figures.modality_panels import (
    FEWEST,
    delta_axis,
    diverging,
    last_of,
    last_table,
    shown_steps,
)
from figures.row import FigureRow
from figures.select import Material, layer_names
from figures.style import WIDTH, Theme

_ACROSS = 3
_LEFT, _RIGHT, _TOP, _FOOT, _APART = 0.75, 1.0, 0.3, 0.5, 0.5  # inches


def draw_modality_layers(material: Material, theme: Theme) -> tuple[Figure, xr.Dataset]:
    """Draw a map of layer × ΔH a line: logit of the text's answer less that of the image's.

    Parameters
    ----------
    material : logit_difference (checkpoint, layer, delta_bin).

    Returns
    -------
    The figure and a Dataset `logit_difference` of the last checkpoints; cells of fewer than 5 cases are
    NaN.

    Notes
    -----
    arXiv 2511.02243, Fig. 6a. Colours end at the 98th percentile of what is shown. Memory: the measure.
    """
    data = material.measures["logit_difference"].compute()
    lines = last_of(data)
    shown = {line: one["value"].where(one["cases"] >= FEWEST) for line, one in lines.items()}
    sizes = np.abs(np.concatenate([v.values.ravel() for v in shown.values()]))
    if not np.isfinite(sizes).any():
        raise ValueError(f"no bin of logit_difference has {FEWEST} cases; there is nothing to draw")
    most = float(np.nanpercentile(sizes, 98)) or 1.0
    norm = Normalize(-most, most)
    across = min(_ACROSS, len(lines))
    rows = -(-len(lines) // across)
    high = float(np.clip(0.2 * data.sizes["layer"], 1.2, 3.2))
    tall = _TOP + rows * high + (rows - 1) * _APART + _FOOT
    figure = Figure(figsize=(WIDTH, tall))
    wide = WIDTH - _LEFT - _RIGHT
    each = min((wide - 0.15 * (across - 1)) / across, 3.6)
    names = layer_names(data)
    kept = np.arange(0, len(names), max(1, -(-len(names) // 10)))
    for number, (line, values) in enumerate(shown.items()):
        row, column = divmod(number, across)
        bottom = tall - _TOP - (row + 1) * high - row * _APART
        place = ((_LEFT + column * (each + 0.15)) / WIDTH, bottom / tall, each / WIDTH, high / tall)
        axes = figure.add_axes(place, label=line)
        axes.pcolormesh(
            np.linspace(-2, 2, values.sizes["delta_bin"] + 1), np.arange(len(names) + 1) - 0.5,
            values.transpose("layer", "delta_bin").values, cmap=diverging(theme), norm=norm,
            rasterized=True,
        )  # fmt: skip
        axes.grid(False)
        axes.set_yticks(kept.tolist(), [names[i] for i in kept])
        axes.tick_params(labelleft=column == 0)
        delta_axis(axes, label=row == rows - 1 and column == (across - 1) // 2)
        if column == 0:
            axes.set_ylabel("layer")
        if len(shown) > 1:
            axes.set_title(shortened(line, each, size=9))
    side = figure.add_axes(
        (
            (_LEFT + across * (each + 0.15)) / WIDTH,
            (tall - _TOP - high) / tall,
            0.13 / WIDTH,
            high / tall,
        ),
        label="bar",
    )
    bar = figure.colorbar(ScalarMappable(norm, diverging(theme)), cax=side, extend="both")
    bar.set_label("logit difference\n← image   text →", fontsize=8)
    bar.outline.set_visible(False)
    table = last_table({"only": (data, {"value": "logit_difference", "cases": "cases"})})
    table["logit_difference"] = table["logit_difference"].where(table["cases"] >= FEWEST)
    table["logit_difference"].attrs = {"units": "1"}
    return figure, table.assign_attrs(steps=shown_steps(data, material.revisions))


ROW = FigureRow(
    name="modality_layers",
    title="Which answer leads in which layer",
    function=draw_modality_layers,
    needs=(("logit_difference", "by_delta"),),
    phases=False,
    source="arXiv 2511.02243, figure 6",
    caption=(
        "Logit of the text's answer less that of the image's at each layer (logit lens after the final"
        " norm), mean over conflicts solved in both modalities in bins of ΔH, {steps}; bins of fewer"
        " than 5 cases are blank. Inputs: {inputs}."
    ),
    extra=True,
)
