"""Causes of following: what is drawn is what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from figures import draw

RECOVERY = "measures/modality_recovery/ratio_of_sums"
STEERED = "measures/steered_following/top1"


def titled(figure, start):
    return [a for a in figure.axes if a.get_title(loc="left").startswith(start)]


def line(axes, label):
    (found,) = (x for x in axes.lines if str(x.get_label()) == label)
    return found.get_ydata()


def test_the_last_checkpoint_and_the_course_are_the_tree(tree, drawn):
    figure, table = drawn("modality_cause")
    data = tree[f"{RECOVERY}/sotu"].to_dataset()
    data = data.isel(checkpoint=data["branch"].values == "main")
    last = data["value"].isel(checkpoint=-1)
    panels = titled(figure, "easy")
    assert len(panels) == 2
    for axes, direction in zip(panels, last["direction"].values, strict=True):
        for site in last["site"].values:
            np.testing.assert_array_equal(
                line(axes, site), last.sel(direction=direction, site=site)
            )
    (course,) = (a for a in figure.axes if a.get_xscale() == "log")
    middle = data["value"].sel(site="answer", layer=2)
    seen = middle["tokens"].values > 0
    for direction, label in (("text_into_vision", "easy text's states into easy image"),):
        np.testing.assert_array_equal(line(course, label), middle.sel(direction=direction)[seen])
    np.testing.assert_array_equal(table["answer_recovery"], middle.transpose("checkpoint", ...))
    assert "layer 2 over training" in table.attrs["caption"]


def test_steering_stands_before_the_range_of_random_directions(tree, drawn):
    figure, table = drawn("modality_cause")
    data = tree[f"{STEERED}/sotu"]["value"]
    last = data.isel(checkpoint=np.flatnonzero(data["branch"].values == "main")[-1])
    panels = titled(figure, "steered at layer")
    assert [int(a.get_title(loc="left").split()[-1]) for a in panels] == last[
        "layer"
    ].values.tolist()
    for axes, layer in zip(panels, last["layer"].values, strict=True):
        fitted = last.sel(layer=layer, direction="fitted")
        np.testing.assert_array_equal(line(axes, "from image to text"), fitted)
        grey = axes.collections[0].get_paths()[0].vertices[:, 1]
        random = last.sel(layer=layer).drop_sel(direction="fitted")
        assert grey.min() == random.min()
        assert grey.max() == random.max()
    assert table["random_following"].dims == ("control", "steered_layer", "strength")
    assert "difference of mean states" in table.attrs["caption"]


def test_without_steering_it_says_nothing_of_it(tree, drop, put):
    figure, table = draw(drop(tree, STEERED), "modality_cause")
    assert not titled(figure, "steered")
    assert "steer" not in table.attrs["caption"]
    unsteered = tree[f"{STEERED}/sotu"].to_dataset()
    nothing = unsteered.copy(data={k: np.full(v.shape, np.nan) for k, v in unsteered.items()})
    figure, table = draw(put(tree, f"{STEERED}/sotu", nothing), "modality_cause")
    assert not titled(figure, "steered")


def test_one_checkpoint_has_no_course(lone):
    figure, table = draw(lone, "modality_cause")
    assert "answer_recovery" not in table
    assert not any(a.get_xscale() == "log" for a in figure.axes)


def test_an_unknown_branch_is_refused(tree):
    with pytest.raises(ValueError, match="branch is 'x'; give one of main"):
        draw(tree, "modality_cause", branch="x")
