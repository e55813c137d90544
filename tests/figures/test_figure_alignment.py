"""The maps of layers and the drift are the tree's numbers."""

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from figures import draw


def meshes(figure):
    return [
        m for axes in figure.axes for m in axes.collections
        if isinstance(m, QuadMesh) and "bar" not in str(axes.get_label())
    ]  # fmt: skip


def test_maps_are_the_checkpoints_asked_for(tree):
    figure, table = draw(tree, "alignment", steps=[0, 16, 1500])
    node = tree["measures/layer_cka/debiased/sotu"].to_dataset()
    for mesh, step in zip(meshes(figure), (0, 16, 1500), strict=True):
        row = int(np.flatnonzero(node["step"].values == step)[0])
        np.testing.assert_array_equal(mesh.get_array(), node["value"].values[row])
    titles = [axes.get_title(loc="left") for axes in figure.axes[:3]]
    assert titles == ["step 0", "step 16", "step 1500"]
    kept = np.isfinite(table["layer_cka"]).all(("layer", "other_layer"))
    assert table["step"].values[kept.values].tolist() == [0, 16, 1500]


def test_drift_is_the_tree(tree, drawn):
    figure, table = drawn("alignment")
    assert len(meshes(figure)) == 4
    for name, path in (
        ("drift_cka", "linear_cka/debiased_previous"),
        ("overlap", "principal_angles/previous"),
    ):
        wanted = tree[f"measures/{path}/sotu"]["value"]
        wanted = wanted if name == "drift_cka" else wanted.isel(layer=-1)
        found = table[name].transpose("checkpoint", ...)
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(table["random"].values[-1], np.array([1, 8, 32]) / 128)


def test_a_branch_on_request(forked):
    _, table = draw(forked, "alignment", branch="seed1")
    assert set(table["branch"].values) == {"seed1"}
    assert table.attrs["caption"].startswith("seed1. Above")
    with pytest.raises(ValueError, match="branch is 'seed2'; give one of main, seed1"):
        draw(forked, "alignment", branch="seed2")
    for steps in ([17], [], [0, 1, 2, 4, 8]):
        with pytest.raises(ValueError, match="give 1 to 4 of 0, 1, 2"):
            draw(forked, "alignment", steps=steps)


def test_a_study_shows_each_models_own_layers(study):
    for branch, layers in (("small", 6), ("deep · sft", 8)):
        figure, table = draw(study, "alignment", branch=branch)
        assert all(mesh.get_array().shape == (layers, layers) for mesh in meshes(figure))
        assert table.sizes["layer"] == table.sizes["other_layer"] == layers
    figure, table = draw(study, "alignment")
    shapes = [mesh.get_array().shape[0] for mesh in meshes(figure)]
    assert shapes == [6] * 4 + [8] * 8
    small = table.isel(checkpoint=table["model"].values == "small")
    assert np.isnan(small["drift_cka"].sel(layer=[5, 6])).all()  # blocks only the other has
    assert np.isfinite(small["drift_cka"].sel(layer=7)[1:]).all()
    assert table["layer_name"].values.tolist()[-1] == "final"
