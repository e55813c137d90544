"""The layer maps: each cell is its number, the final layer stands apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm

from figures import draw
from figures.layers import _edges


def meshes(figure, label):
    rows = [axes for axes in figure.axes if axes.get_ylabel() == label]
    return [
        [m for axes in figure.axes if axes.get_position().y0 == row.get_position().y0
         for m in axes.collections if isinstance(m, QuadMesh) and "bar" not in str(axes.get_label())]
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("branches", [("main",), ("main", "seed1")])
def test_cells_are_the_table(drawn, branches):
    figure, table = drawn("layers", len(branches))
    for branch in branches:
        label = "layer" if len(branches) == 1 else f"layer ({branch})"
        rows = table.isel(checkpoint=np.flatnonzero(table["branch"].values == branch))
        seen = rows["tokens"].values > 0
        for name, cells in zip(("rankme", "alpha_req"), meshes(figure, label), strict=True):
            values = rows[name].transpose("layer", "checkpoint").values
            blocks = [(s, part) for s in (~seen, seen) for part in (slice(0, 5), slice(5, 6))]
            wanted = {values[layers][:, steps].tobytes() for steps, layers in blocks}
            assert {np.asarray(mesh.get_array()).tobytes() for mesh in cells} == wanted
            assert all(isinstance(m.norm, LogNorm) == (name == "rankme") for m in cells)


def test_the_table_is_the_tree(tree, drawn):
    _, table = drawn("layers")
    for name in ("rankme", "alpha_req"):
        np.testing.assert_array_equal(table[name], tree[f"measures/{name}/li2025/sotu"]["value"])


def test_the_final_layer_is_set_apart(drawn):
    figure, _ = drawn("layers")
    heights = sorted(
        (mesh.get_coordinates()[0, 0, 1], mesh.get_coordinates()[-1, 0, 1])
        for mesh in meshes(figure, "layer")[0]
    )
    lower, upper = heights[0], heights[-1]
    assert upper[0] > lower[1]
    assert upper[1] - upper[0] == pytest.approx(1)


def test_a_cell_without_a_number_is_empty(tree, put):
    node = tree["measures/rankme/li2025/sotu"].to_dataset().copy(deep=True)
    node["value"][3, 2] = np.nan
    figure, table = draw(put(tree, "measures/rankme/li2025/sotu", node), "layers")
    masked = sum(int(np.isnan(np.asarray(m.get_array())).sum()) for m in meshes(figure, "layer")[0])
    assert masked == 1
    assert np.isnan(table["rankme"].values[3, 2])


def test_a_measure_that_is_nan_everywhere_is_left_out(tree, put, drawn):
    smaller = tree
    for name, other, words in (
        ("alpha_req", "rankme", "RankMe (logarithmic colours) of every layer"),
        ("rankme", "alpha_req", "α-ReQ of every layer"),
    ):
        path = f"measures/{name}/li2025/sotu"
        node = tree[path].to_dataset()
        empty = node.assign(value=node["value"] * np.nan)
        figure, table = draw(put(tree, path, empty), "layers")
        assert list(table.data_vars) == [other]
        assert len(meshes(figure, "layer")) == 1
        assert table.attrs["caption"].startswith(words)
        smaller = put(smaller, path, empty)
    assert " and α-ReQ of every" in drawn("layers")[1].attrs["caption"]
    with pytest.raises(ValueError, match="rankme and alpha_req are NaN everywhere"):
        draw(smaller, "layers")


@given(st.sets(st.integers(1, 10**12), min_size=1, max_size=30))
def test_every_checkpoint_is_inside_its_cell(tokens):
    ordered = np.array(sorted(tokens), dtype=float)
    edges = _edges(ordered)
    assert (edges[:-1] < ordered).all()
    assert (ordered < edges[1:]).all()
    if ordered.size > 1:
        np.testing.assert_allclose(edges[1:-1] ** 2, ordered[1:] * ordered[:-1], rtol=1e-9)
