"""Every boundary is drawn as what it is, and counted in the caption."""

import numpy as np

from figures import FIGURES, draw, figures_of


def marks(figure, marker, face=None):
    strips = figure.axes[1]
    return [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in strips.lines
        if line.get_marker() == marker
        and len(line.get_xdata())
        and (face is None or line.get_markerfacecolor() == face)
    ]


def test_boundaries_are_marked_by_what_they_are(drawn):
    figure, table = drawn("segmentation")
    at = {step: 2048.0 * step for step in (16, 54, 181)}
    assert [x for x, _ in marks(figure, "D", "#E69F00")] == [at[16]]
    assert [x for x, _ in marks(figure, "D", "#1c2126")] == [at[54]]
    assert {x for x, _ in marks(figure, "x")} == {at[181]}
    assert "runs 1 of 2 are, and 1 change points" in table.attrs["caption"]
    assert (table["tokens"] > 0).all()


def test_runs_fitted_together_are_not_counted(forked, put):
    path = "measures/segmentation/polypythias/sotu"
    node = forked[path].to_dataset()
    node = node.assign(pooled=("checkpoint", (node["branch"].values == "seed1").astype(float)))
    caption = draw(put(forked, path, node), "segmentation")[1].attrs["caption"]
    assert "runs 1 of 2 are, and 1 change points" in caption


def test_the_strip_shows_the_states(drawn):
    figure, table = drawn("segmentation", 2)
    strips = figure.axes[1]
    edges = [poly.get_paths()[0].get_extents() for poly in strips.collections]
    tokens = table["tokens"].values[table["branch"].values == "main"]
    own = [e for e in edges if e.y0 >= 1]  # the first run is the upper row
    assert [e.x0 for e in own] == [tokens[0], 16 * 2048, 181 * 2048]
    assert own[-1].x1 == tokens[-1]
    assert [t.get_text() for t in strips.get_yticklabels()] == ["main", "seed1"]
    widths = np.array([e.width for e in own])
    assert (widths > 0).all()


def test_it_is_no_figure_of_a_store(tree):
    assert "segmentation" in FIGURES
    assert "segmentation" not in figures_of(tree)
    assert set(figures_of(tree)) < set(FIGURES)
