"""Head entropy: the maps at their steps, the curves, the ceiling of uniform attention."""

import itertools

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh

from figures import draw

NODE = "measures/head_entropy/zhai2023/sotu"


def maps(figure):
    """Title to the cells of each map."""
    return {
        axes.get_title(loc="left"): np.asarray(axes.collections[0].get_array())
        for axes in figure.axes
        if axes.get_xlabel() == "head" and isinstance(axes.collections[0], QuadMesh)
    }


def test_maps_are_the_chosen_steps(tree):
    figure, table = draw(tree, "heads", steps=[0, 16, 1500])
    node = tree[NODE]
    shown = maps(figure)
    assert list(shown) == ["step 0", "step 16", "step 1500"]
    for number, (title, cells) in enumerate(shown.items()):
        row = int(np.flatnonzero(node["step"].values == int(title.split()[1]))[0])
        np.testing.assert_array_equal(cells.reshape(4, 4), node["value"].values[row])
        np.testing.assert_array_equal(table["map"].values[number], node["value"].values[row])


def test_six_maps_from_first_to_last_by_default(drawn):
    titles = list(maps(drawn("heads")[0]))
    steps = [int(title.split()[1]) for title in titles]
    assert len(steps) == 6
    assert (steps[0], steps[-1]) == (0, 1500)
    gaps = np.diff(np.log(steps[1:]))
    assert gaps.max() - gaps.min() < 0.5


def test_curves_are_heads_and_the_mean_of_each_block(tree, drawn):
    figure, table = drawn("heads")
    values = tree[NODE]["value"].values
    (log,) = [axes for axes in figure.axes if axes.get_xlabel() == "tokens seen"]
    for index in range(4):
        (mean,) = [line for line in log.lines if line.get_label() == f"block {index + 1}"]
        expected = sum(values[:, index, head] for head in range(4)) / 4
        np.testing.assert_allclose(mean.get_ydata(), expected[1:], rtol=1e-12)
        np.testing.assert_allclose(table["block_mean"].values[:, index], expected, rtol=1e-12)
        np.testing.assert_array_equal(mean.get_xdata(), tree[NODE]["tokens"].values[1:])
    thin = [line for line in log.lines if line.get_linewidth() == 0.6]
    drawn = np.stack([line.get_ydata() for line in thin], axis=1)
    np.testing.assert_array_equal(drawn, values[1:].reshape(-1, 16))


def test_a_dead_head_is_not_averaged_away(tree, put):
    node = tree[NODE].to_dataset().copy(deep=True)
    node["value"][12, 2, 1] = np.nan
    _, table = draw(put(tree, NODE, node), "heads")
    assert np.isnan(table["block_mean"].values[12, 2])
    assert np.isfinite(table["block_mean"].values[12, [0, 1, 3]]).all()


def test_the_ceiling_is_the_mean_of_ln_visible(tree, put, drawn):
    figure, _ = drawn("heads")
    (log,) = [axes for axes in figure.axes if axes.get_xlabel() == "tokens seen"]
    (ceiling,) = {
        line.get_ydata()[0]
        for line in log.lines
        if len(line.get_xdata()) == 2 and line.get_linestyle() == "--"
    }
    assert ceiling == pytest.approx(np.mean(np.log(np.arange(1, 129))), rel=1e-12)
    node = tree[NODE].to_dataset()
    del node.attrs["length"]
    figure, _ = draw(put(tree, NODE, node), "heads")
    assert not any("uniform" in text.get_text() for axes in figure.axes for text in axes.texts)


def test_branches_have_their_own_curves(drawn):
    figure, table = drawn("heads", 2)
    logs = [axes for axes in figure.axes if axes.get_xlabel() == "tokens seen"]
    for axes, branch in zip(logs, ("main", "seed1"), strict=True):
        tokens = table["tokens"].values[table["branch"].values == branch]
        (mean,) = [line for line in axes.lines if line.get_label() == "block 1"]
        np.testing.assert_array_equal(mean.get_xdata(), tokens[tokens > 0])


def test_many_heads_become_one_image_in_the_vector_file(tree, drawn, monkeypatch):
    few = [line for axes in drawn("heads")[0].axes for line in axes.lines]
    assert not any(line.get_rasterized() for line in few)
    monkeypatch.setattr("figures.heads._MANY_LINES", 15)
    figure, _ = draw(tree, "heads")
    (log,) = [axes for axes in figure.axes if axes.get_xlabel() == "tokens seen"]
    assert all(line.get_rasterized() for line in log.lines if line.get_linewidth() == 0.6)


def test_a_step_that_was_not_measured_is_refused(tree, put):
    with pytest.raises(
        ValueError, match="steps holds 64, not measured in branch main; the nearest is 54"
    ):
        draw(tree, "heads", steps=[16, 64])
    node = tree[NODE].to_dataset()
    with pytest.raises(ValueError, match="head_entropy is NaN"):
        draw(put(tree, NODE, node.assign(value=node["value"] * np.nan)), "heads")


def test_one_checkpoint_is_one_map_with_blocks_across(lone):
    figure, table = draw(lone, "heads")
    axes, bar = figure.axes
    values = lone[NODE]["value"].values[0]
    cells = np.asarray(axes.collections[0].get_array()).reshape(4, 4)
    np.testing.assert_array_equal(cells, values.T)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("block", "head")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3", "4"]
    assert axes.get_title(loc="left") == "model-135M.Q4"
    assert bar.get_ylabel() == "entropy [nats]"
    assert list(table.data_vars) == ["map"]
    np.testing.assert_array_equal(table["map"].values, values[None])
    assert "Below" not in table.attrs["caption"]
    assert "One map a checkpoint" in table.attrs["caption"]


@pytest.mark.parametrize("shape", [(4, 4), (30, 9), (80, 64)])
def test_the_cells_of_a_lone_map_are_square_and_on_the_page(lone, put, shape):
    node = lone[NODE].to_dataset()
    coords = {name: node[name] for name in ("checkpoint", "step", "tokens", "branch")}
    value = np.random.default_rng(0).uniform(0, 5, (1, *shape))
    wide = xr.Dataset(
        {"value": (("checkpoint", "block", "head"), value)},
        {**coords, "block": np.arange(1, shape[0] + 1), "head": np.arange(shape[1])},
        node.attrs,
    )
    figure, _ = draw(put(lone, NODE, wide), "heads")
    axes, bar = figure.axes
    box = axes.get_position()
    width, height = box.width * figure.get_figwidth(), box.height * figure.get_figheight()
    assert width / shape[0] == pytest.approx(height / shape[1], rel=1e-6)
    assert width / shape[0] > 0.06
    assert bar.get_position().x1 < 1
    boxes = [t.get_window_extent() for t in axes.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_only_branches_with_two_later_checkpoints_have_curves(forked, at_steps):
    nodes = at_steps(forked, 0, 16, 1500).to_dict()
    figure, table = draw(xr.DataTree.from_dict(nodes), "heads")
    assert len([axes for axes in figure.axes if axes.get_xlabel() == "tokens seen"]) == 1
    assert set(table["branch"].values) == {"main"}
    assert table["head_entropy"].sizes["checkpoint"] == 3
    assert list(table["chosen"].values) == [
        "main/step0", "main/step16", "main/step1500", "seed1/step0", "seed1/step16"
    ]  # fmt: skip
    assert "Below: each head" in table.attrs["caption"]
