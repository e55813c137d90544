"""The profile: one checkpoint's numbers over depth, and what is left out of it."""

import itertools

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from figures import draw
from figures.style import LIGHT

RANKME = "measures/rankme/li2025/sotu"
ALPHA = "measures/alpha_req/li2025/sotu"
HEADS = "measures/head_entropy/zhai2023/sotu"


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def nan(tree, put, path):
    node = tree[path].to_dataset()
    return put(tree, path, node.map(lambda values: values * np.nan, keep_attrs=True))


def test_the_last_checkpoint_is_drawn(tree, drawn):
    figure, table = drawn("profile")
    assert table["step"].values.tolist() == [1500]
    for axes, path in zip(figure.axes, (RANKME, ALPHA), strict=False):
        node = tree[path].isel(checkpoint=-1)
        (line,) = lines(axes, "value")
        (final,) = lines(axes, "final")
        np.testing.assert_array_equal(line.get_ydata(), node["value"].values[:5])
        np.testing.assert_array_equal(line.get_xdata(), np.arange(5))
        assert final.get_ydata().tolist() == [float(node["value"].values[5])]
        assert final.get_xdata()[0] > 5
    assert figure.axes[0].get_title(loc="left") == "step 1500"
    assert figure.axes[0].get_yscale() == "log"


def test_bands_and_the_final_bar_are_the_intervals(tree, drawn):
    axes = drawn("profile")[0].axes[0]
    node = tree[RANKME].isel(checkpoint=-1)
    (band,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
    heights = set(band.get_paths()[0].vertices[:, 1])
    for name in ("lower", "upper"):
        assert set(node[name].values[:5]) <= heights
        assert not set(node[name].values[5:]) & heights
    (bar,) = [c for c in axes.collections if not isinstance(c, PolyCollection)]
    ends = bar.get_segments()[0][:, 1]
    assert ends.tolist() == [float(node[n].values[5]) for n in ("lower", "upper")]


def test_heads_stand_at_their_block_with_their_mean_and_ceiling(tree, drawn):
    axes = drawn("profile")[0].axes[2]
    values = tree[HEADS]["value"].values[-1]
    dots = np.stack([line.get_ydata() for line in lines(axes, "heads")], axis=1)
    np.testing.assert_array_equal(dots, values)
    (mean,) = lines(axes, "mean")
    np.testing.assert_array_equal(mean.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(mean.get_ydata(), [sum(row) / 4 for row in values], rtol=1e-12)
    (ceiling,) = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert ceiling == pytest.approx(np.mean(np.log(np.arange(1, 129))), rel=1e-12)


def test_the_table_is_what_is_plotted(tree, drawn):
    table = drawn("profile")[1]
    assert set(table.data_vars) == {
        "rankme", "rankme_lower", "rankme_upper", "alpha_req", "alpha_req_lower",
        "alpha_req_upper", "head_entropy", "block_mean",
    }  # fmt: skip
    for name, path in (("rankme", RANKME), ("alpha_req", ALPHA), ("head_entropy", HEADS)):
        np.testing.assert_array_equal(table[name].values, tree[path]["value"].values[-1:])
    np.testing.assert_array_equal(table["rankme_lower"].values, tree[RANKME]["lower"].values[-1:])
    assert table["head_entropy"].attrs["units"] == "nats"


def test_a_step_can_be_asked_for(tree, forked):
    table = draw(tree, "profile", step=16)[1]
    assert table["step"].values.tolist() == [16]
    assert "against depth, at step 16." in table.attrs["caption"]
    # 800 is the last step of one branch and no step of the other.
    figure, table = draw(forked, "profile", step=800)
    assert table["checkpoint"].values.tolist() == ["seed1/step800"]
    assert "at seed1, step 800." in table.attrs["caption"]
    (line,) = lines(figure.axes[0], "value")
    assert to_hex(line.get_color()) == LIGHT.category(1).lower()
    with pytest.raises(ValueError, match="step is 63, which was not measured; the nearest is 54"):
        draw(tree, "profile", step=63)


def test_branches_have_a_colour_each_and_a_legend(drawn):
    figure, table = drawn("profile", 2)
    assert table["step"].values.tolist() == [1500, 800]
    for axes in figure.axes[:2]:
        colours = [to_hex(line.get_color()) for line in lines(axes, "value")]
        assert colours == [LIGHT.category(number).lower() for number in (0, 1)]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "main, step 1500",
        "seed1, step 800",
    ]


def test_a_released_model_goes_by_its_name_and_alpha_is_left_out(lone):
    figure, table = draw(lone, "profile")
    assert figure.axes[0].get_title(loc="left") == "model-135M.Q4"
    assert [axes.get_ylabel() for axes in figure.axes] == ["RankMe", "attention entropy [nats]"]
    assert "alpha_req" not in table
    caption = table.attrs["caption"]
    assert "at model-135M.Q4." in caption
    assert "α-ReQ is left out: it is NaN at every layer." in caption


def test_rankme_alone_is_enough_and_without_it_there_is_nothing(tree, put, drop):
    figure, table = draw(drop(tree, ALPHA, HEADS), "profile")
    assert len(figure.axes) == 1
    assert set(table.data_vars) == {"rankme", "rankme_lower", "rankme_upper"}
    for word in ("attention", "ln(T!)", "left out"):
        assert word not in table.attrs["caption"]
    with pytest.raises(ValueError, match="rankme is NaN at every layer of step 1500"):
        draw(nan(tree, put, RANKME), "profile")


def test_the_ceiling_is_not_told_where_the_length_is_unknown(tree, put):
    node = tree[HEADS].to_dataset()
    node.attrs = {k: v for k, v in node.attrs.items() if k != "length"}
    figure, table = draw(put(tree, HEADS, node), "profile")
    assert not figure.axes[2].texts
    assert "dashed" not in table.attrs["caption"]


def test_a_dead_head_is_not_averaged_away(tree, put):
    node = tree[HEADS].to_dataset().copy(deep=True)
    node["value"][-1, 2, 1] = np.nan
    figure, table = draw(put(tree, HEADS, node), "profile")
    (mean,) = lines(figure.axes[2], "mean")
    assert np.isnan(mean.get_ydata()).tolist() == [False, False, True, False]
    np.testing.assert_array_equal(table["block_mean"].values[0], mean.get_ydata())


@pytest.mark.parametrize("blocks", [4, 30, 126])
def test_layer_names_do_not_run_into_one_another(tree, put, drop, blocks):
    names = ["embedding", *(str(i) for i in range(1, blocks + 1)), "final"]
    node = tree[RANKME].to_dataset().isel(checkpoint=[-1])
    deep = xr.Dataset(
        {"value": (("checkpoint", "layer"), np.linspace(20, 40, blocks + 2)[None])},
        {
            **{name: node[name] for name in ("checkpoint", "step", "tokens", "branch")},
            "layer": np.arange(blocks + 2),
            "layer_name": ("layer", names),
        },
        node.attrs,
    )
    figure, _ = draw(put(drop(tree, ALPHA, HEADS), RANKME, deep), "profile")
    labels = figure.axes[0].get_xticklabels()
    shown = [label.get_text() for label in labels]
    assert (shown[0], shown[-1]) == ("embedding", "final")
    assert len(shown) >= 6
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    inside = [t for t in figure.axes[0].yaxis.get_ticklabels() if t.get_text()]
    assert len(inside) >= 3
