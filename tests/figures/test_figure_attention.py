"""Bands of heads and the diagram of bounds."""

from __future__ import annotations

import numpy as np
import pytest

from figures import draw

PATH = "measures/band_share/observed_max/sotu"


def bars(axes):
    """Heights of the bars of each band, lowest band first (band, checkpoint)."""
    return np.array([[bar.get_height() for bar in group] for group in axes.containers])


def test_bars_are_the_shares_and_fill_the_panel(drawn):
    figure, table = drawn("attention_bands")
    (axes,) = figure.axes
    np.testing.assert_allclose(bars(axes), table["band_share"].values.T)
    np.testing.assert_allclose(bars(axes).sum(0), 1)
    assert set(table.data_vars) == {"band_share", "lower", "upper"}
    assert "one bar a checkpoint" in table.attrs["caption"].lower()
    assert "the largest head entropy" in table.attrs["caption"]
    assert "last checkpoint" not in table.attrs["caption"]


def test_branches_have_panels_of_their_own_and_their_ends_side_by_side(drawn, forked):
    figure, table = drawn("attention_bands", 2)
    assert [axes.get_title("left") for axes in figure.axes] == ["main", "seed1", "last checkpoints"]
    shares = forked[PATH].to_dataset()
    ends = [int(np.flatnonzero(shares["branch"].values == name)[-1]) for name in ("main", "seed1")]
    np.testing.assert_allclose(bars(figure.axes[2]), shares["value"].values[ends])
    whiskers = figure.axes[2].collections[0].get_segments()
    np.testing.assert_allclose([s[0, 1] for s in whiskers], shares["lower"].values[ends[0]])
    np.testing.assert_allclose([s[1, 1] for s in whiskers], shares["upper"].values[ends[0]])
    assert "whiskers" in table.attrs["caption"]


def test_a_checkpoint_whose_head_failed_has_no_bar(tree, put):
    data = tree[PATH].to_dataset().copy(deep=True)
    data["value"][3] = np.nan
    figure, _ = draw(put(tree, PATH, data), "attention_bands")
    assert bars(figure.axes[0])[:, 3].tolist() == [0] * 4
    data["value"][:] = np.nan
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(put(tree, PATH, data), "attention_bands")


def test_other_references_are_drawn_and_named(tree, put):
    path = "measures/band_share/log_length/sotu"
    data = tree[PATH].to_dataset().assign_attrs(source="quarters of a reference: ln T")
    _, table = draw(
        put(tree, path, data), "attention_bands", conventions={"band_share": "log_length"}
    )
    assert "a reference: ln T." in table.attrs["caption"]


def test_a_study_shows_every_line(study):
    figure, _ = draw(study, "attention_bands")
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["small", "deep · main", "deep · sft", "last checkpoints"]
    assert [t.get_text() for t in figure.legends[1].get_texts()] == titles[:3]


def test_each_head_stands_on_the_line_between_its_bounds(drawn):
    figure, table = drawn("bound_diagram")
    panels = [axes for axes in figure.axes if axes.get_title("left").startswith("step")]
    assert len(panels) == table.sizes["chosen"] == 4
    assert set(table.data_vars) == {"entropy", "row_norm", "lower", "upper"}
    for index, axes in enumerate(panels):
        part = table.isel(chosen=index)
        dots = [line for line in axes.lines if line.get_label().startswith("_heads")]
        np.testing.assert_allclose([d.get_xdata() for d in dots], part["row_norm"].values)
        np.testing.assert_allclose([d.get_ydata() for d in dots], part["entropy"].values)
        spans = [np.array(c.get_segments()) for c in axes.collections]
        np.testing.assert_allclose([s[:, 0, 1] for s in spans], part["lower"].values)
        np.testing.assert_allclose([s[:, 1, 1] for s in spans], part["upper"].values)
        np.testing.assert_allclose([s[:, 0, 0] for s in spans], part["row_norm"].values)
        assert axes.get_ylim() == panels[0].get_ylim()
        assert axes.get_xlim() == panels[0].get_xlim()
    assert "ln(T!)/T" in table.attrs["caption"]


def test_steps_of_the_diagram_can_be_chosen(tree):
    _, table = draw(tree, "bound_diagram", steps=[1500, 16])
    assert table["step"].values.tolist() == [1500, 16]
    with pytest.raises(ValueError, match="steps holds 17, not measured"):
        draw(tree, "bound_diagram", steps=[17])


def test_heads_without_logits_and_heads_without_numbers(tree, put):
    path = "measures/row_norm/centered/sotu"
    data = tree[path].to_dataset()
    figure, _ = draw(put(tree, path, data * 0), "bound_diagram")
    assert figure.axes[0].get_xscale() == "linear"
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(put(tree, path, data * np.nan), "bound_diagram")


def test_a_released_model_has_one_panel(lone):
    figure, table = draw(lone, "bound_diagram")
    assert table.sizes["chosen"] == 1
    assert figure.axes[0].get_title("left") == "model-135M.Q4"
    figure, _ = draw(lone, "attention_bands")
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["model-135M.Q4"]


def test_a_model_of_many_heads_is_one_image(tree, put, study):
    names = ("head_entropy/zhai2023", "row_norm/centered", "entropy_lower_bound/row")
    for name in (*names, "entropy_upper_bound/row"):
        path = f"measures/{name}/sotu"
        data = tree[path].to_dataset()
        wide = data.isel(head=np.arange(64) % 4).assign_coords(head=np.arange(64))
        tree = put(tree, path, wide.assign_attrs(data.attrs))
    figure, _ = draw(tree, "bound_diagram")
    assert all(c.get_rasterized() for c in figure.axes[0].collections)
