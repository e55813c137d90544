"""The ledger's bars and sums are its table, and the table is the tree."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.patches import Rectangle

from figures import draw
from figures.select import TooFewCheckpoints


def bars(axes):
    return [p for p in axes.patches if isinstance(p, Rectangle)]


def test_bars_add_up_to_the_total_and_lie_between_checkpoints(drawn):
    figure, table = drawn("ledger")
    axes = figure.axes[0]
    tokens = table["tokens"].values.astype(float)
    found = {}
    for bar in bars(axes):
        key = round(float(bar.get_x() + bar.get_width()))
        found.setdefault(key, []).append(bar.get_height())
    assert sorted(found) == [round(t) for t in tokens[1:]]
    totals = [sum(found[round(t)]) for t in tokens[1:]]
    np.testing.assert_allclose(totals, table["total"].values[1:], atol=1e-12)
    starts = sorted({float(bar.get_x()) for bar in bars(axes)})
    np.testing.assert_allclose(starts[1:], tokens[1:-1])
    assert 0 < starts[0] < tokens[1]


def test_the_table_is_the_tree_and_its_sum_so_far(tree, drawn):
    _, table = drawn("ledger")
    node = tree["measures/entropy_ledger/li2025/sotu"].to_dataset()
    assert table["band"].values.tolist() == ["1", "2–10", "11–100"]  # the others have no direction
    wanted = node["value"].values[:, -1, :3]
    np.testing.assert_array_equal(table["change"].transpose("checkpoint", "band"), wanted)
    np.testing.assert_allclose(table["total"][1:], wanted[1:].sum(axis=1))
    so_far = table["change_so_far"].transpose("checkpoint", "band").values
    np.testing.assert_allclose(so_far[-1], wanted[1:].sum(axis=0))
    assert (so_far[0] == 0).all()


def test_a_layer_on_request_and_branches_apart(drawn, forked):
    figure, table = drawn("ledger", 2)
    assert len([a for a in figure.axes if a.get_ylabel() == "change [nats]"]) == 2
    first = table["change_so_far"].sel(checkpoint=["main/step0", "seed1/step0"])
    assert (first == 0).all()
    other = draw(forked, "ledger", layer="embedding")[1]
    assert "layer embedding" in other.attrs["caption"]
    assert not np.allclose(other["total"], table["total"], equal_nan=True)
    with pytest.raises(ValueError, match="layer is 'top'; give one of embedding"):
        draw(forked, "ledger", layer="top")


def test_what_cannot_be_drawn_is_said(tree, put, at_steps):
    path = "measures/entropy_ledger/li2025/sotu"
    node = tree[path].to_dataset()
    with pytest.raises(ValueError, match="NaN everywhere"):
        draw(put(tree, path, node.assign(value=node["value"] * np.nan)), "ledger")
    with pytest.raises(TooFewCheckpoints):
        draw(at_steps(tree, 16), "ledger")
    lazy = xr.DataTree.from_dict({p: d.chunk() for p, d in tree.to_dict().items()})
    assert draw(lazy, "ledger")[1]["total"].size
