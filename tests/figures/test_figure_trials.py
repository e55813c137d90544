"""The figures of short training runs show the numbers of the store and count its seeds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from figures import draw, figures_of

EVENTS = "measures/collapse_events/share_of_uniform/sotu"


def test_a_column_is_a_learning_rate_and_a_line_a_seed(tree):
    figure, table = draw(tree, "collapse")
    assert len(figure.axes) == 4 * 5
    entropy = tree["measures/collapse_entropy/zhai2023/sotu/value"]
    lowest = figure.axes[2 * 5 + 4]
    for variant in range(4):
        seeds, median = lowest.lines[3 * variant : 3 * variant + 2], lowest.lines[3 * variant + 2]
        expected = entropy.isel(variant=variant, learning_rate=4).mean("head").min("block")
        for seed, line in enumerate(seeds):
            np.testing.assert_array_equal(line.get_ydata(), expected.isel(seed=seed))
        np.testing.assert_allclose(median.get_ydata(), expected.mean("seed"))  # of two, the mean
    assert table["lowest"].attrs["units"] == "nats"


def test_the_caption_counts_the_seeds_that_collapsed(tree, put):
    events = tree[EVENTS].to_dataset(inherit=False).copy(deep=True)
    events["collapsed"][:] = False
    events["collapsed"].loc[{"variant": "baseline", "learning_rate": [0.03, 0.1]}] = [
        [True, False],
        [True, True],
    ]
    events["finished"].loc[{"variant": "sigma_code", "learning_rate": 0.1, "seed": 1}] = False
    _, table = draw(put(tree, EVENTS, events), "collapse")
    caption = table.attrs["caption"]
    assert "at 0.001, 0.003, 0.01, 0.03, 0.1: baseline 0, 0, 0, 1, 2; sigma_code 0, 0" in caption
    assert "sigma_code 0, 0, 0, 0, 0 (1 runs stopped at a loss that is no number)" in caption


def test_some_learning_rates_on_request(tree):
    figure, table = draw(tree, "collapse", learning_rates=[0.003, 0.1])
    assert len(figure.axes) == 8
    assert table["learning_rate"].values.tolist() == [0.003, 0.1]
    with pytest.raises(ValueError, match=r"learning rate 0.2 is not there; give some of 0.001"):
        draw(tree, "collapse", learning_rates=[0.2])


def test_a_run_that_stopped_leaves_a_gap(tree, put):
    path = "measures/collapse_loss/train/sotu"
    loss = tree[path].to_dataset(inherit=False).copy(deep=True)
    loss["value"].loc[{"variant": "baseline", "learning_rate": 0.1, "step": slice(8, None)}] = (
        np.nan
    )
    figure, _ = draw(put(tree, path, loss), "collapse")
    line = figure.axes[4].lines[2].get_ydata()
    assert np.isfinite(line[1])
    assert np.isnan(line[-1])


def test_entropy_by_architecture_and_regulariser(tree):
    figure, table = draw(tree, "entropy_regularised")
    assert len(figure.axes) == 4 * 5
    node = tree["measures/regularisation_entropy/zhai2023/sotu/value"]
    cell = node.sel(architecture="relu", regulariser="jha2025_paper").mean("head")
    lines = figure.axes[2 * 5 + 3].lines
    np.testing.assert_array_equal(lines[0].get_ydata(), cell.isel(block=0, seed=0))
    loss = tree["measures/regularisation_loss/held_out/sotu/value"].isel(step=-1)
    shown = figure.axes[2 * 5 + 3].texts[0].get_text()
    median = float(loss.sel(architecture="relu", regulariser="jha2025_paper").median())
    assert shown == f"loss {median:.2f}"
    assert table.sizes["block"] == 4


def test_thresholds_and_bands(tree):
    figure, table = draw(tree, "entropy_thresholds", architecture="gelu", seed=1)
    theta = tree["measures/regularisation_threshold/share/sotu/value"].isel(step=-1)
    mine = theta.sel(architecture="gelu", seed=1, regulariser="jha2025_code")
    np.testing.assert_array_equal(table["threshold"].sel(regulariser="jha2025_code"), mine)
    bands = tree["measures/regularisation_bands/observed_max/sotu/value"]
    heights = np.array([bar.get_height() for bar in figure.axes[-1].patches]).reshape(4, 7)
    np.testing.assert_allclose(heights, 100 * bands.mean("seed").T)
    np.testing.assert_allclose(heights.sum(0), 100)
    with pytest.raises(ValueError, match="architecture is sm; give one of ln_gelu"):
        draw(tree, "entropy_thresholds", architecture="sm")
    with pytest.raises(ValueError, match="seed is 7; give one of 0, 1"):
        draw(tree, "entropy_thresholds", seed=7)


def test_a_store_has_the_figures_of_its_kind():
    assert figures_of(xr.DataTree(xr.Dataset(attrs={"kind": "collapse"}))) == ["collapse"]
    assert figures_of(xr.DataTree(xr.Dataset(attrs={"kind": "regularisation"}))) == [
        "entropy_regularised",
        "entropy_thresholds",
    ]
