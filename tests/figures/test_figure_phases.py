"""The phase diagram shows the numbers of the tree, each where it belongs."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from figures import draw
from figures.style import LIGHT

PANELS = {"RankMe": "rankme", "α-ReQ": "alpha_req", "loss [nats]": "loss"}


def panels(figure):
    """Variable name to (axes of step 0, log axis)."""
    found = {}
    for axes in figure.axes:
        if axes.get_ylabel() in PANELS:
            right = [
                a
                for a in figure.axes
                if a is not axes and a.get_position().y0 == axes.get_position().y0
            ]
            found[PANELS[axes.get_ylabel()]] = (axes, right[0] if right else None)
    return found


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def spans(axes):
    return [p for p in axes.patches if isinstance(p, Rectangle) and p.get_label().startswith("_")]


@pytest.fixture(scope="module")
def single(drawn):
    return drawn("phases")


@pytest.fixture(scope="module")
def double(drawn):
    return drawn("phases", 2)


def test_the_lines_are_the_table(double):
    figure, table = double
    for name, (zero, log) in panels(figure).items():
        for branch in ("main", "seed1"):
            rows = table.isel(checkpoint=np.flatnonzero(table["branch"].values == branch))
            seen = rows["tokens"].values > 0
            (line,) = lines(log, branch)
            np.testing.assert_array_equal(line.get_xdata(), rows["tokens"].values[seen])
            np.testing.assert_array_equal(line.get_ydata(), rows[name].values[seen])
            (start,) = lines(zero, branch)
            np.testing.assert_array_equal(start.get_ydata(), rows[name].values[~seen])


def test_the_table_is_the_final_layer_of_the_tree(single, tree):
    _, table = single
    for name, path in (("rankme", "rankme/li2025"), ("alpha_req", "alpha_req/li2025")):
        node = tree[f"measures/{path}/sotu"]
        for part, variable in (
            ("value", name),
            ("lower", f"{name}_lower"),
            ("upper", f"{name}_upper"),
        ):
            np.testing.assert_array_equal(table[variable].values, node[part].isel(layer=5).values)
    np.testing.assert_array_equal(
        table["step"].values, tree["measures/loss/surprisal/sotu"]["step"].values
    )


def test_bands_are_the_intervals(single):
    figure, table = single
    seen = table["tokens"].values > 0
    for name, (_, log) in panels(figure).items():
        corners = {tuple(point) for point in log.collections[0].get_paths()[0].vertices.tolist()}
        for end in ("lower", "upper"):
            places = zip(
                table["tokens"].values[seen], table[f"{name}_{end}"].values[seen], strict=True
            )
            assert {(float(x), float(y)) for x, y in places} <= corners


def test_step_zero_is_not_on_the_log_axis(single):
    figure, _ = single
    for zero, log in panels(figure).values():
        assert log.get_xscale() == "log"
        assert log.get_xlim()[0] > 0
        assert all((np.asarray(line.get_xdata()) > 0).all() for line in lines(log, "main"))
        assert zero.get_xscale() == "linear"
        (start,) = lines(zero, "main")
        assert list(start.get_xdata()) == [0.0]
        assert zero.get_position().x1 < log.get_position().x0


def test_without_step_zero_there_is_no_break(tree, put):
    smaller = tree
    for path in ("rankme/li2025", "alpha_req/li2025", "loss/surprisal"):
        node = tree[f"measures/{path}/sotu"].to_dataset()
        smaller = put(smaller, f"measures/{path}/sotu", node.isel(checkpoint=slice(1, None)))
    figure, _ = draw(smaller, "phases")
    assert all(log is None for _, log in panels(figure).values())


def test_branches_are_never_joined(double):
    figure, table = double
    tokens = {
        branch: {float(t) for t in table["tokens"].values[table["branch"].values == branch]}
        for branch in ("main", "seed1")
    }
    for _, log in panels(figure).values():
        for branch in tokens:
            (line,) = lines(log, branch)
            assert (np.diff(line.get_xdata()) > 0).all()
            assert set(line.get_xdata()) <= tokens[branch]
            assert line.get_xdata()[-1] == max(tokens[branch])


def test_shading_is_the_segments(single, tree):
    figure, table = single
    node = tree["phases/sotu/main"]
    for _, log in panels(figure).values():
        found = [(p.get_x(), p.get_x() + p.get_width(), p.get_label()[1:]) for p in spans(log)]
        expected = list(
            zip(node["start"].values, node["end"].values, node["label"].values, strict=True)
        )
        assert len(found) == len(expected)
        for (x0, x1, label), (start, end, name) in zip(found, expected, strict=True):
            assert (x0, x1, label) == (start, end, name)
        colours = [p.get_facecolor()[:3] for p in spans(log)]
        assert colours == [to_rgb(LIGHT.phases[name]) for name in node["label"].values]
    assert list(table["phase_label"].values) == list(node["label"].values)
    words = [text.get_text().replace("\n", "") for axes in figure.axes for text in axes.texts]
    assert [w for w in words if w in LIGHT.phases] == list(node["label"].values)


def test_with_two_branches_only_the_ribbon_is_shaded(double, forked):
    figure, table = double
    assert not any(spans(log) for _, log in panels(figure).values())
    named = [
        c.get_label() for axes in figure.axes for c in axes.collections if "/" in str(c.get_label())
    ]
    segments = [
        f"_{branch}/{label}"
        for branch in ("main", "seed1")
        for label in forked[f"phases/sotu/{branch}"]["label"].values
    ]
    assert named == segments
    assert list(table["segment_branch"].values) == ["main"] * 3 + ["seed1"] * 3


def test_boundaries_and_their_intervals(single, tree):
    figure, table = single
    node = tree["phases/sotu/main"]
    intervals = [line for axes in figure.axes for line in lines(axes, "_interval")]
    found = [tuple(line.get_xdata()) for line in intervals]
    assert found == list(
        zip(node["boundary_lower"].values, node["boundary_upper"].values, strict=True)
    )
    for _, log in panels(figure).values():
        upright = [
            line.get_xdata()[0]
            for line in log.lines
            if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
        ]
        assert upright == list(node["boundary"].values)
    marks = [
        line.get_xdata()[0]
        for axes in figure.axes
        for k in ("break", "bend")
        for line in lines(axes, f"_{k}")
    ]
    assert marks == list(node["boundary"].values)
    np.testing.assert_array_equal(table["boundary"].values, node["boundary"].values)


def test_the_fit_is_drawn_in_the_measures_unit(single, tree):
    figure, table = single
    node = tree["phases/sotu/main"]
    shown = panels(figure)
    (line,) = lines(shown["rankme"][1], "_fit main")
    np.testing.assert_allclose(np.log(line.get_ydata()), node["fitted"].sel(curve="log_rankme"))
    np.testing.assert_array_equal(line.get_ydata(), table["rankme_fitted"].values)
    (line,) = lines(shown["alpha_req"][1], "_fit main")
    np.testing.assert_array_equal(line.get_ydata(), node["fitted"].sel(curve="alpha"))
    assert lines(shown["loss"][1], "_fit main") == []
    assert 0 not in table["fitted_tokens"].values


def test_a_nan_leaves_a_gap(tree, put):
    node = tree["measures/rankme/li2025/sotu"].to_dataset().copy(deep=True)
    node["value"][10, 5] = np.nan
    figure, table = draw(put(tree, "measures/rankme/li2025/sotu", node), "phases")
    (line,) = lines(panels(figure)["rankme"][1], "main")
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [9]
    assert np.isnan(table["rankme"].values[10])


def test_a_checkpoint_without_loss_keeps_its_place(tree, put):
    node = tree["measures/loss/surprisal/sotu"].to_dataset()
    some = node.isel(checkpoint=np.setdiff1d(np.arange(node.sizes["checkpoint"]), [0, 7]))
    _, table = draw(put(tree, "measures/loss/surprisal/sotu", some), "phases")
    np.testing.assert_array_equal(table["step"].values, node["step"].values)
    assert table["step"].dtype == np.int64
    assert np.flatnonzero(np.isnan(table["loss"].values)).tolist() == [0, 7]
    kept = np.delete(table["loss"].values, [0, 7])
    np.testing.assert_array_equal(kept, some["value"].values)


def test_loss_is_left_out_where_it_was_not_measured(tree, drop):
    figure, table = draw(drop(tree, "measures/loss"), "phases")
    assert list(panels(figure)) == ["rankme", "alpha_req"]
    assert "loss" not in table


def test_alpha_is_left_out_where_it_is_nan_everywhere(tree, put):
    path = "measures/alpha_req/li2025/sotu"
    node = tree[path].to_dataset()
    figure, table = draw(put(tree, path, node.assign(value=node["value"] * np.nan)), "phases")
    assert list(panels(figure)) == ["rankme", "loss"]
    assert "alpha_req" not in table
    assert table.attrs["caption"].startswith("RankMe of layer final")


def test_a_search_that_fitted_nothing_is_not_shown(tree, at_steps):
    figure, table = draw(at_steps(tree, 0, 1, 16, 181, 1500), "phases")
    assert not any(spans(log) for _, log in panels(figure).values())
    assert figure.legends == []
    assert "phase_label" not in table


def test_phases_of_another_layer_are_not_shown(tree):
    figure, table = draw(tree, "phases", layer=2)
    assert not any(spans(log) for _, log in panels(figure).values())
    assert "phase_label" not in table
    node = tree["measures/rankme/li2025/sotu"]["value"].sel(layer=2)
    np.testing.assert_array_equal(table["rankme"].values, node.values)
    assert "layer 2" in table.attrs["caption"]
    with pytest.raises(ValueError, match="embedding, 1, 2, 3, 4, final"):
        draw(tree, "phases", layer="middle")


def test_the_final_layer_by_number_still_shows_its_phases(tree):
    assert "phase_label" in draw(tree, "phases", layer=5)[1]
