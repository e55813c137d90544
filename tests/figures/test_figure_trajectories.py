"""The figure of token trajectories: every layer's curve is its row of the tree."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from figures import draw
from figures.style import LIGHT

NEEDS = {"curvature": "differences", "sentence_entropy": "skean2025"}


def log_axes(figure):
    return [a for a in figure.axes if a.get_xscale() == "log" and a.lines]


def path(name):
    return f"measures/{name}/{NEEDS[name]}/sotu"


def layers(axes):
    return [line for line in axes.lines if not line.get_label().startswith("_")]


def test_curves_are_the_tree(tree, drawn):
    figure, table = drawn("trajectories")
    for axes, name in zip(log_axes(figure), NEEDS, strict=True):
        node = tree[path(name)].to_dataset()
        seen = node["tokens"].values > 0
        curves = layers(axes)
        assert [c.get_label() for c in curves] == node["layer_name"].values.tolist()
        for i, curve in enumerate(curves):
            np.testing.assert_array_equal(curve.get_ydata(), node["value"].values[seen, i])
            np.testing.assert_array_equal(curve.get_xdata(), node["tokens"].values[seen])
        bands = [c for c in axes.collections if isinstance(c, PolyCollection)]
        assert len(bands) == len(curves)
        np.testing.assert_array_equal(table[name], node["value"])
        np.testing.assert_array_equal(table[f"{name}_upper"], node["upper"])


def test_the_final_layer_is_told_apart(drawn):
    figure, _ = drawn("trajectories")
    for axes in log_axes(figure):
        *others, final = layers(axes)
        assert final.get_label() == "final"
        assert to_hex(final.get_color()) == LIGHT.category(3).lower()
        assert final.get_linestyle() == "--"
        colours = [to_hex(line.get_color()) for line in others]
        assert len(set(colours)) == len(others)
        assert to_hex(final.get_color()) not in colours
    assert figure.legends[0].get_texts()[0].get_text() == "after the final norm"


def test_references_stand_at_independent_states_and_ln_t(drawn):
    bend, entropy = log_axes(drawn("trajectories")[0])
    for axes, height in ((bend, 2 * np.pi / 3), (entropy, np.log(128))):
        marks = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
        assert any(np.isclose(mark, height) for mark in marks)
        assert axes.get_ylim()[0] < height < axes.get_ylim()[1]


def test_another_reading_of_curvature_has_no_such_reference(tree, put):
    node = tree[path("curvature")].to_dataset().assign_attrs(convention="states")
    figure, _ = draw(
        put(tree, "measures/curvature/states/sotu", node),
        "trajectories",
        conventions={"curvature": "states"},
    )
    words = [text.get_text() for text in log_axes(figure)[0].texts]
    assert not any("independent" in word for word in words)


def test_branches_have_panels_of_their_own(forked, drawn):
    figure, table = drawn("trajectories", 2)
    assert len(log_axes(figure)) == 4
    assert set(table["branch"].values) == {"main", "seed1"}
    said = [text.get_text() for text in figure.texts]
    assert said == ["main", "seed1"]


def test_a_measure_without_a_number_is_left_out(tree, put):
    smaller = tree
    for name, other in (("curvature", "sentence_entropy"), ("sentence_entropy", "curvature")):
        node = tree[path(name)].to_dataset()
        empty = node.map(lambda values: values * np.nan, keep_attrs=True)
        figure, table = draw(put(tree, path(name), empty), "trajectories")
        assert len(log_axes(figure)) == 1
        assert other in table
        assert name not in table
        smaller = put(smaller, path(name), empty)
    with pytest.raises(ValueError, match="NaN everywhere"):
        draw(smaller, "trajectories")


def test_a_branch_of_one_checkpoint_is_named_and_left_out(forked, put):
    changed = forked
    for name in NEEDS:
        node = forked[path(name)].to_dataset()
        branch = node["branch"].values
        keep = (branch == "main") | (np.cumsum(branch == "seed1") == 1)
        changed = put(changed, path(name), node.isel(checkpoint=keep))
    _, table = draw(changed, "trajectories")
    assert set(table["branch"].values) == {"main"}
    assert "Without seed1: one checkpoint has no course." in table.attrs["caption"]
