"""Figures of modalities in conflict: what is drawn is the tree, and what does not cross has no mark."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.special import expit

from figures import draw
from figures.catalogue import FIGURES
from figures.modality_panels import FEWEST, told
from figures.modality_training import noises
from probes.modality import REASONS
from tests.runs.modality_measured import measured_tree

DRAWN = (
    *("modality_entropy", "modality_following", "modality_curves", "modality_strata"),
    *("modality_plane", "modality_training", "modality_oscillation", "modality_layers"),
    "modality_contest",
)


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return measured_tree(24, 2)


def measured(tree: xr.DataTree, name: str) -> xr.Dataset:
    return tree[f"measures/{name}/scenes"].to_dataset()


def last(data: xr.Dataset) -> xr.Dataset:
    return data.isel(checkpoint=[3, 7])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_is_drawn_in_both_themes(tree, name, theme):
    figure, table = draw(tree, name, theme=theme)
    assert figure.axes
    assert table.data_vars
    assert "{" not in table.attrs["caption"]
    assert "not stated" not in table.attrs["caption"]
    assert FIGURES[name].extra


def test_the_plane_is_the_curve_in_fixed_bins(tree):
    figure, table = draw(tree, "modality_plane")
    data = measured(tree, "following_curve/fixed")
    wanted = data["value"].where(data["cases"] >= FEWEST)
    np.testing.assert_array_equal(table["follows_text"], wanted)
    (axes,) = (a for a in figure.axes if a.get_label() == "seed1")
    np.testing.assert_array_equal(
        np.ma.filled(axes.collections[0].get_array(), np.nan), wanted.values[4:].T
    )
    marks = next(line for line in axes.lines if line.get_marker() == "D")
    point = measured(tree, "balance_point/logistic")["value"].values[4:]
    np.testing.assert_array_equal(marks.get_ydata(), point)


def test_curves_cross_one_half_at_their_balance_point(tree):
    figure, table = draw(tree, "modality_curves")
    point = last(measured(tree, "balance_point/logistic"))
    np.testing.assert_array_equal(table["balance_value"], point["value"])
    (axes,) = (a for a in figure.axes if a.get_label() == "all")
    smooth = [line for line in axes.lines if len(line.get_xdata()) == 201]
    for line, one in zip(smooth, point["value"].values, strict=True):
        assert np.interp(0.5, line.get_ydata()[::-1], line.get_xdata()[::-1]) == pytest.approx(
            one, abs=1e-2
        )
    slope = float(point["slope"][0])
    x = smooth[0].get_xdata()
    np.testing.assert_allclose(
        smooth[0].get_ydata(), expit(4 * slope * (x - float(point["value"][0])))
    )


def test_what_does_not_cross_is_said_and_not_drawn(tree, put):
    data = measured(tree, "balance_point/logistic").copy(deep=True)
    for name in ("value", "lower", "upper", "slope"):
        data[name][7] = np.nan
    data["reason"][7], data["extrapolated"][7] = REASONS.index("above"), 3.25
    changed = put(tree, "measures/balance_point/logistic/scenes", data)
    figure, table = draw(changed, "modality_curves")
    said = "seed1: not crossed (above; the fit would cross at 3.25, outside the data)"
    assert said in table.attrs["caption"]
    (axes,) = (a for a in figure.axes if a.get_label() == "all")
    assert len([line for line in axes.lines if len(line.get_xdata()) == 201]) == 1
    assert told(data.isel(checkpoint=0)).startswith(f"{float(data['value'][0]):.2f} [")
    draw(changed, "modality_plane")
    draw(changed, "modality_training")


def test_bars_are_switches_with_their_null(tree):
    figure, table = draw(tree, "modality_oscillation")
    for where, name in (("near", "near"), ("clear", "clear"), ("irrelevant", "irrelevant")):
        data = last(measured(tree, f"oscillation/{name}"))
        np.testing.assert_array_equal(table["value"].sel(where=where), data["value"])
    axes = figure.axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    wanted = table["value"].sel(leading="vocabulary", depth="all").values.ravel()
    np.testing.assert_allclose(heights, wanted)
    assert axes.get_ylim()[1] >= max(bar.get_height() for a in figure.axes for bar in a.patches)


def test_layers_show_the_last_checkpoint_of_each_seed(tree):
    _, table = draw(tree, "modality_layers")
    data = last(measured(tree, "logit_difference/by_delta"))
    wanted = data["value"].where(data["cases"] >= FEWEST)
    np.testing.assert_array_equal(table["logit_difference"], wanted)


def test_text_and_image_contend_by_tier(tree):
    figure, table = draw(tree, "modality_contest")
    data = last(measured(tree, "logit_difference/by_tiers"))
    assert table["visual_tier"].values.tolist() == [0, 2, 5]
    assert table["text_tier"].values.tolist() == [0, 2, 4, 5]
    wanted = data["value"].sel(visual_tier=[0, 2, 5], text_tier=[0, 2, 4, 5])
    np.testing.assert_array_equal(table["logit_difference"], wanted)
    assert (wanted.sel(layer=wanted["layer"][-1], text_tier=0, visual_tier=5) > 0).all()
    # The panel in the middle of the second row: four curves over a line at 0.
    curves = [line.get_ydata() for line in figure.axes[4].lines[1:]]
    one = wanted.where(data["cases"] >= FEWEST).isel(checkpoint=1).sel(visual_tier=2)
    np.testing.assert_allclose(curves, one.transpose("text_tier", "layer"))


def test_strata_count_the_cells_that_fall(tree):
    _, table = draw(tree, "modality_strata")
    rho = table["spearman"].where(table["spearman_cases"] >= 12).values
    for seed, one in enumerate(rho):
        known = one[np.isfinite(one)]
        assert f"seed{seed}: {(known < 0).sum()} of {known.size}" in table.attrs["caption"]


def test_noise_between_seeds_is_apart_from_the_probes():
    values, errors = np.array([0.1, 0.2, 0.4, 0.4, 0.9]), np.array([0.03, 0.04, 0.0, 0.01, 0.1])
    data = xr.Dataset(
        {
            "value": ("checkpoint", values),
            "standard_error": ("checkpoint", errors),
            "lower": ("checkpoint", values - 0.1),
            "upper": ("checkpoint", values + 0.1),
            "step": ("checkpoint", [1, 1, 5, 5, 9]),
            "branch": ("checkpoint", ["a", "b", "a", "b", "a"]),
        }
    ).set_coords(["step", "branch"])
    found = noises(data)
    assert found["step"].values.tolist() == [1, 5, 9]
    np.testing.assert_allclose(found["training"], [np.std([0.1, 0.2], ddof=1), 0, np.nan])
    np.testing.assert_allclose(found["probe"][0], np.sqrt((0.03**2 + 0.04**2) / 2))
    assert np.isnan(found["probe"][2])
    width = noises(data.drop_vars("standard_error"))
    np.testing.assert_allclose(width["probe"][:2], 0.2 / 3.92)


def test_one_seed_has_no_panel_of_noise(tree):
    nodes = {
        path: data.isel(checkpoint=slice(4)) if "checkpoint" in data.dims else data
        for path, data in tree.to_dict().items()
        if not path.startswith("/sets")
    }
    figure, table = draw(xr.DataTree.from_dict(nodes), "modality_training")
    assert "noise\n(1 s.d.)" not in [a.get_ylabel() for a in figure.axes]
    assert table["training_noise_balance_point"].isnull().all()
