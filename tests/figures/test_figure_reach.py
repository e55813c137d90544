"""Sinks, massive activations and context: what is plotted is what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from figures import draw
from figures.blocks import spread_checkpoints

CONTEXT = "measures/entropy_by_position/zhang2024_paper/sotu"
SCALED = "measures/scaled_entropy_by_position/zhang2024_paper/sotu"


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def test_context_draws_blocks_and_uniform_attention(tree, drop):
    figure, table = draw(drop(tree, SCALED.split("/sotu")[0]), "context", steps=[0, 1500])
    data = tree[CONTEXT].to_dataset()
    assert titles(figure) == ["step 0", "step 1500"]
    axes = next(a for a in figure.axes if a.get_title(loc="left") == "step 1500")
    lines = {line.get_label(): line for line in axes.lines}
    last = data.isel(checkpoint=-1)
    np.testing.assert_array_equal(lines["block 3"].get_ydata(), last["value"].sel(block=3))
    np.testing.assert_allclose(lines["block 3"].get_xdata(), data["position_bin"].values + 1)
    np.testing.assert_allclose(lines["uniform"].get_ydata(), np.log(data["position_bin"] + 1))
    assert axes.get_xscale() == "log"
    assert table["entropy"].sizes == {"chosen": 2, "block": 4, "position_bin": 88}
    assert "scaled_entropy" not in table
    assert "RoPE" not in table.attrs["caption"]
    with pytest.raises(ValueError, match="steps holds 64, not measured in branch main"):
        draw(tree, "context", steps=[64])


def test_context_shows_other_readings_where_they_were_made(tree, put):
    figure, table = draw(tree, "context")
    assert titles(figure)[-4:] == ["as trained", "logits scaled", "other RoPE base", "both"]
    np.testing.assert_array_equal(
        table["scaled_entropy"].isel(last=0), tree[SCALED]["value"].isel(checkpoint=-1)
    )
    assert "RoPE" in table.attrs["caption"]
    data = tree[SCALED].to_dataset()
    part = put(tree, SCALED, data.isel(condition=[0, 1]).assign_attrs(data.attrs))
    assert titles(draw(part, "context")[0])[-2:] == ["as trained", "logits scaled"]


def test_sinks_mark_heads_above_the_threshold(tree, lone):
    figure, table = draw(tree, "sinks")
    mass = tree["measures/sink_mass/by_key/sotu"]["value"].sel(key=1)
    np.testing.assert_array_equal(table["importance"], mass)
    final = next(a for a in figure.axes if a.get_title(loc="left") == "step 1500")
    (dots,) = final.lines
    rate = tree["measures/sink_rate/gu2025/sotu"]["value"].isel(checkpoint=-1).values
    assert rate.any()
    up, across = np.nonzero(rate)
    np.testing.assert_array_equal(dots.get_xdata(), across + 0.5)
    np.testing.assert_array_equal(dots.get_ydata(), up + 0.5)
    cells = np.asarray(final.collections[0].get_array()).reshape(4, 4)
    np.testing.assert_array_equal(cells, mass.isel(checkpoint=-1))
    assert final.collections[0].norm.vmax >= 0.3
    curves = [line for a in figure.axes for line in a.lines if line.get_label() == "sink rate"]
    curve = max(curves, key=lambda line: len(line.get_xdata()))
    share = tree["measures/model_sink_rate/gu2025/sotu"]["value"]
    np.testing.assert_array_equal(curve.get_ydata(), share[share["tokens"] > 0])
    figure, table = draw(lone, "sinks")
    assert "Below" not in table.attrs["caption"]
    assert figure.axes[0].get_xlabel() == "block"


def test_massive_activations_beside_their_criterion(tree, lone):
    figure, table = draw(tree, "massive")
    profile, course = figure.axes[0], figure.axes[1]
    lines = {line.get_label(): line for line in profile.lines}
    last = tree["measures/largest_activation/sun2024/sotu"]["value"].isel(checkpoint=-1)
    np.testing.assert_array_equal(lines["largest 2"].get_ydata(), last.sel(largest=2))
    np.testing.assert_allclose(lines["1000 medians"].get_ydata(), 300)
    assert any((np.asarray(line.get_ydata()) == 100).all() for line in profile.lines)
    ratio = tree["measures/massive_ratio/geometric/sotu"]["value"]
    curve = next(line for line in course.lines if line.get_label() == "final")
    np.testing.assert_array_equal(curve.get_ydata(), ratio[ratio["tokens"] > 0, -1])
    assert "Right" in table.attrs["caption"]
    figure, table = draw(lone, "massive")
    assert len(figure.axes) == 1
    assert "Right" not in table.attrs["caption"]


def test_chosen_checkpoints_are_spread(tree):
    part = tree[CONTEXT].to_dataset()
    steps = part["step"].values
    assert steps[spread_checkpoints(part, 4, within=100)].tolist() == [0, 16, 152, 1500]
    assert steps[spread_checkpoints(part, 2)].tolist() == [0, 1500]
    assert len(spread_checkpoints(part.isel(checkpoint=slice(3)), 4)) == 3
