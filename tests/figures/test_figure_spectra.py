"""Eigenspectra: shares of the sum, the fit range and the colours of steps."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from figures import draw
from figures.style import LIGHT


def curves(axes):
    return {line.get_label(): line for line in axes.lines if line.get_label().startswith("step ")}


def test_curves_are_shares_of_the_sum(tree, drawn):
    figure, table = drawn("eigenspectra")
    spectrum = tree["measures/eigenspectrum/centered/sotu"]["value"].isel(layer=5).values
    expected = spectrum / np.array([row.sum() for row in spectrum])[:, None]
    np.testing.assert_allclose(table["share"].values, expected, rtol=1e-14)
    lines = curves(figure.axes[0])
    assert list(lines) == [f"step {step}" for step in table["step"].values]
    for row, line in zip(table["share"].values, lines.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), row)
        np.testing.assert_array_equal(line.get_xdata(), table["rank"].values)


def test_the_fit_range_is_marked(tree):
    for ranks in ((12, 100), (5, 50)):
        axes = draw(tree, "eigenspectra", ranks=ranks)[0].axes[0]
        (band,) = [p for p in axes.patches if p.get_label() == "_fit range"]
        assert (band.get_x(), band.get_x() + band.get_width()) == ranks
        assert any(f"{ranks[0]}–{ranks[1]}" in text.get_text() for text in axes.texts)


def test_step_zero_is_grey_and_the_others_follow_the_step(drawn):
    lines = curves(drawn("eigenspectra")[0].axes[0])
    assert to_hex(lines["step 0"].get_color()) == LIGHT.muted
    colours = LIGHT.line_colours()
    assert to_hex(lines["step 1"].get_color()) == to_hex(colours(0.0))
    assert to_hex(lines["step 1500"].get_color()) == to_hex(colours(1.0))
    assert len({to_hex(line.get_color()) for line in lines.values()}) > 30


def test_each_branch_has_its_own_axes(drawn):
    figure, table = drawn("eigenspectra", 2)
    for branch in ("main", "seed1"):
        (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left") == branch]
        steps = table["step"].values[table["branch"].values == branch]
        assert list(curves(axes)) == [f"step {step}" for step in steps]


def wide(tree, put, values):
    node = tree["measures/eigenspectrum/centered/sotu"].to_dataset()
    few = node.isel(checkpoint=[0, 1, 9], layer=[5]).drop_dims("rank")
    data = few.assign(value=(("checkpoint", "layer", "rank"), values))
    data = data.assign_coords(rank=np.arange(1, values.shape[-1] + 1))
    return put(tree, "measures/eigenspectrum/centered/sotu", data)


def test_wide_models_are_thinned_but_divided_by_the_whole_sum(tree, put):
    values = np.broadcast_to(1 / np.arange(1, 4097), (3, 1, 4096)).copy()
    _, table = draw(wide(tree, put, values), "eigenspectra")
    ranks = table["rank"].values
    assert ranks.size < 400
    assert set(range(1, 129)) <= set(ranks.tolist())
    assert ranks[-1] == 4096
    harmonic = sum(1 / i for i in range(1, 4097))
    np.testing.assert_allclose(table["share"].values, 1 / ranks / harmonic + np.zeros((3, 1)))


def test_zeros_are_not_on_the_log_axis_and_nan_is_not_summed_away(tree, put):
    values = np.ones((3, 1, 150))
    values[1, 0, 140:] = 0
    values[2, 0, 7] = np.nan
    figure, table = draw(wide(tree, put, values), "eigenspectra")
    lines = list(curves(figure.axes[0]).values())
    ranks = table["rank"].values
    assert np.isnan(lines[1].get_ydata()[ranks > 140]).all()
    assert (table["share"].values[1][ranks > 140] == 0).all()
    assert np.isnan(table["share"].values[2]).all()


def test_a_spectrum_of_one_layer_needs_no_layer(tree, put):
    node = tree["measures/eigenspectrum/centered/sotu"].to_dataset()
    flat: xr.Dataset = node.isel(layer=5, drop=True)
    _, table = draw(put(tree, "measures/eigenspectrum/centered/sotu", flat), "eigenspectra")
    assert table["share"].dims == ("checkpoint", "rank")
    with pytest.raises(ValueError, match="layer is 9"):
        draw(tree, "eigenspectra", layer=9)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_lone_checkpoint_is_a_named_line_and_not_a_baseline(lone):
    (axes,) = draw(lone, "eigenspectra")[0].axes  # no colour bar
    (line,) = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert legend(axes) == ["model-135M.Q4"]
    assert line.get_linestyle() == "-"
    assert to_hex(line.get_color()) == LIGHT.category(0).lower()


def test_a_lone_later_checkpoint_is_named_by_its_step(tree, at_steps):
    (axes,) = draw(at_steps(tree, 1500), "eigenspectra")[0].axes
    assert legend(axes) == ["step 1500"]


def test_the_beginning_and_one_later_step_need_no_colour_bar(tree, at_steps):
    (axes,) = draw(at_steps(tree, 0, 1500), "eigenspectra")[0].axes
    assert legend(axes) == ["step 0", "step 1500"]
    start, later = curves(axes).values()
    assert (start.get_linestyle(), later.get_linestyle()) == ("--", "-")


def test_a_spectrum_that_ends_within_the_fit_range_says_so(tree, put):
    values = np.where(np.arange(1, 129) <= 63, 1.0, 0.0) * np.ones((3, 1, 1))
    axes = draw(wide(tree, put, values), "eigenspectra")[0].axes[0]
    assert any("12–100;\nthere are 63" in text.get_text() for text in axes.texts)
    values[1, 0, :110] = 1.0
    axes = draw(wide(tree, put, values), "eigenspectra")[0].axes[0]
    assert not any("there are" in text.get_text() for text in axes.texts)
