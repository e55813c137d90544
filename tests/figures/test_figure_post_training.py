"""Post-training: stages apart, starts by step, pass@k of the last checkpoint."""

import numpy as np
import pytest
import xarray as xr

from figures import draw
from figures.select import NothingToCompare


def renamed(tree: xr.DataTree, names: dict[str, str]) -> xr.DataTree:
    nodes = tree.to_dict()
    for path, data in nodes.items():
        if "branch" in data.coords and path.startswith("/measures/"):
            old = data["branch"].values.astype(str)
            new = np.array([names.get(b, b) for b in old])
            nodes[path] = data.assign_coords(branch=("checkpoint", new))
    return xr.DataTree.from_dict(nodes)


def test_stages_stand_apart_and_no_line_joins_them(forked):
    tree = renamed(forked, {"seed1": "sft"})
    figure, table = draw(tree, "post_training")
    stages = figure.axes[0]
    drawn = [line for line in stages.lines if line.get_marker() not in ("None", None, "")]
    assert len(drawn) == 2
    assert max(drawn[0].get_xdata()) < 1 < min(drawn[1].get_xdata())
    sft = table.isel(checkpoint=np.flatnonzero(table["branch"].values == "sft"))
    np.testing.assert_allclose(drawn[1].get_ydata(), sft["rankme"].dropna("checkpoint"))
    assert "sft" in table.attrs["caption"]
    assert [t.get_text() for t in stages.texts] == ["pretraining", "sft"]


def test_pass_at_k_is_that_of_the_last_checkpoint(forked):
    figure, table = draw(renamed(forked, {"seed1": "rlvr"}), "post_training")
    lines = {line.get_color(): line for line in figure.axes[-1].lines}
    assert len(lines) == 2
    for branch, line in zip(("main", "rlvr"), lines.values(), strict=True):
        rows = np.flatnonzero(table["branch"].values == branch)
        last = table.isel(checkpoint=rows[np.argmax(table["tokens"].values[rows])])
        np.testing.assert_allclose(line.get_ydata(), last["pass_at_k_sotu"])


def test_starts_are_placed_by_their_step(forked):
    nodes = renamed(forked, {"seed1": "sft-from-181"}).to_dict()
    for path, data in nodes.items():
        if path.startswith("/measures/") and "branch" in data.coords:
            last = np.flatnonzero((data["branch"] == "main").values)[-3:]
            branch = data["branch"].values.astype(object)
            branch[last] = "sft"
            nodes[path] = data.assign_coords(branch=("checkpoint", branch.astype(str)))
    figure, table = draw(xr.DataTree.from_dict(nodes), "post_training")
    line = figure.axes[1].lines[0]
    main = table["step"].values[table["branch"].values == "main"]
    assert line.get_xdata().tolist() == [181, main.max()]
    for branch, value in zip(("sft-from-181", "sft"), line.get_ydata(), strict=True):
        rows = np.flatnonzero(table["branch"].values == branch)
        last = table.isel(checkpoint=rows[np.argmax(table["tokens"].values[rows])])
        assert value == pytest.approx(float(last["answer_loss_sotu"]))


def test_a_single_line_has_no_post_training(tree):
    with pytest.raises(NothingToCompare, match="needs a branch beside `main`"):
        draw(tree, "post_training")
