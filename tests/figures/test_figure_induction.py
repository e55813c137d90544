"""Induction and life-lines of heads: what is drawn is the tree, and emergence is its first step."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from figures import draw
from figures.head_lives import lives
from figures.report import page_figures

DRAWN = ("induction", "head_lives")


def test_the_maps_and_curves_are_the_tree(tree, drawn):
    figure, table = drawn("induction")
    value = tree["measures/induction_score/valid_rows/sotu"]["value"]
    np.testing.assert_array_equal(table["induction_score"], value)
    (curves,) = (a for a in figure.axes if a.get_xscale() == "log" and len(a.lines) > 10)
    seen = value.values[value["tokens"].values > 0].reshape(-1, 16)
    found = [line for line in curves.lines if len(line.get_xdata()) > 2]
    assert len(found) == 16
    for line, wanted in zip(found, seen.T, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), wanted)
    maps = [a for a in figure.axes if a.get_title(loc="left").startswith("step")]
    for axes in maps:
        step = int(axes.get_title(loc="left").split()[1])
        wanted = value.values[value["step"].values == step][0]
        np.testing.assert_array_equal(axes.collections[0].get_array(), wanted)
    assert len(maps) == 6


def test_random_groups_are_drawn_by_their_mean_and_range(tree, drawn):
    figure, table = drawn("induction")
    (panel,) = (
        a for a in figure.axes
        if a.get_xscale() == "log" and "random" in [str(x.get_label()) for x in a.lines]
    )  # fmt: skip
    lines = {str(line.get_label()): line.get_ydata() for line in panel.lines}
    data = tree["measures/induction_ablation/zero/sotu"]["value"].sel(copy=2)
    data = data.isel(checkpoint=data["tokens"].values > 0)
    np.testing.assert_allclose(lines["strongest"], data.sel(group="strongest"))
    np.testing.assert_allclose(lines["random"], data[:, 2:].mean("group"))
    assert table["ablation_value"].dims == ("checkpoint", "group")


def test_without_the_optional_measures_the_score_stands_alone(tree, drop):
    fewer = drop(tree, "measures/repeated_loss", "measures/induction_ablation")
    figure, table = draw(fewer, "induction")
    assert set(table.data_vars) == {"induction_score"}
    assert "loss of each copy" not in table.attrs["caption"]
    assert sum(a.get_xscale() == "log" for a in figure.axes) == 1


def test_one_checkpoint_has_its_map_and_every_draw(lone):
    figure, table = draw(lone, "induction")
    (axes,) = (a for a in figure.axes if a.get_title(loc="left") == "model-135M.Q4")
    value = lone["measures/induction_score/valid_rows/sotu"]["value"].values[0]
    np.testing.assert_array_equal(axes.collections[0].get_array(), value.T)
    (strip,) = (a for a in figure.axes if "second copy" in a.get_xlabel())
    assert len(strip.lines[2].get_xdata()) == 4
    assert "each of the draws" in table.attrs["caption"]
    figure, _ = draw(lone, "head_lives")
    (axes,) = (a for a in figure.axes if a.get_title(loc="left") == "model-135M.Q4")
    assert axes.get_xlabel() == "block"


@pytest.mark.parametrize("name", DRAWN)
def test_text_stays_on_the_page(drawn, name):
    figure, _ = drawn(name, 2)
    width, height = figure.get_size_inches() * figure.dpi
    for axes in figure.axes:
        for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
            if text.get_text():
                box = text.get_window_extent()
                assert box.x0 >= -1
                assert box.x1 <= width + 1
                assert box.y0 >= -1
                assert box.y1 <= height + 1


@pytest.mark.parametrize("name", DRAWN)
def test_axes_do_not_overlap(drawn, name):
    figure, _ = drawn(name, 2)
    boxes = [axes.get_position() for axes in figure.axes]
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            high = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert wide < 1e-6 or high < 1e-6


def test_a_study_draws_each_of_its_models(study):
    for name in DRAWN:
        figure, table = draw(study, name)
        text = [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text"))]
        assert any("small" in t for t in text)
        assert any("deep" in t for t in text)
        assert "{" not in table.attrs["caption"]


def test_life_is_the_behaviour_with_most_attention():
    scores = np.full((4, 1, 1, 6), 0.05)
    scores[2, ..., 0] = 0.4
    scores[3, ..., 0] = 0.5  # more to the first token
    scores[0, ..., 1] = 0.3  # at the threshold is above it
    scores[1, ..., 2] = 0.29
    scores[2, ..., 5] = np.nan
    uniform = np.array([0.5, 0.99, 0.95, 0.2, 0.9, 0.95])[None, None]
    dims = ("checkpoint", "block", "head")
    found = lives(
        xr.DataArray(scores, dims=("behaviour", *dims)), xr.DataArray(uniform, dims=dims), 0.3
    )
    np.testing.assert_array_equal(found.values.ravel(), [3, 0, 4, 5, 4, np.nan])


def test_emergence_is_the_first_step_of_the_measure(tree, drawn):
    _, table = drawn("head_lives", 2)
    data = tree["measures/head_emergence/above_0.3/sotu"]
    assert table["training_line"].values.tolist() == ["main", "seed1"]
    steps = data["step"].values
    value = data["value"].transpose("checkpoint", "behaviour", "block", "head").values
    found = table["emergence"].sel(training_line="main").values
    lower = table["emergence_lower"].sel(training_line="main").values
    state = table["emergence_state"].sel(training_line="main").values
    for place in np.ndindex(found.shape):
        above = value[(slice(None), *place)] == 1
        if not above.any():
            assert np.isnan(found[place])
            assert state[place] == 0
            continue
        assert found[place] == steps[above][0]
        assert state[place] == (1 if above[0] else 2)
        # The probability is 0.4 one checkpoint before it, which is more than a tail.
        before = max(int(np.flatnonzero(above)[0]) - 1, 0)
        assert lower[place] == steps[before]
    assert (state > 0).sum() == 5
    assert "main: previous token 1, duplicate token 1, induction 2" in table.attrs["caption"]


def test_a_group_shares_a_step(drawn):
    _, table = drawn("head_lives")
    part = table.isel(training_line=0)
    group = part["group"].values
    assert ((group >= 0) == (part["emergence_state"].values > 0)).all()
    for number in range(int(group.max()) + 1):
        mine = group == number
        assert (
            part["emergence_lower"].values[mine].max() <= part["emergence_upper"].values[mine].min()
        )


def test_the_rows_are_the_table(drawn):
    figure, table = drawn("head_lives")
    (axes,) = (a for a in figure.axes if a.get_label() == "lives main")
    life = table["life"].values
    drawn_codes = axes.collections[0].get_array().reshape(16, -1)
    np.testing.assert_array_equal(drawn_codes, life.reshape(len(life), 16).T)
    assert axes.get_yticklabels()[0].get_text() == "1.0"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first block is above


def test_a_report_of_a_store_without_repeated_tokens_does_not_miss_them(tree):
    nodes = {p: d for p, d in tree.to_dict().items() if not p.startswith("/measures/")}
    nodes |= {p: tree[p].to_dataset() for p in ("/measures/head_entropy/zhai2023/sotu",)}
    drawn, missing = page_figures(xr.DataTree.from_dict(nodes))
    assert "heads" in drawn
    assert "layers" in missing
    assert not {*DRAWN} & {*drawn, *missing}
