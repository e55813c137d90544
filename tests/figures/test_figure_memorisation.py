"""The figure of memorisation: what is drawn is what was measured."""

import numpy as np
import pytest

from figures import draw
from figures.memorisation import bin_names
from tests.figures.material.memorisation import SHARES, UPTO

AT = "measures/memorisation/li2025_code/sotu"


def named(figure, label):
    return next(axes for axes in figure.axes if axes.get_ylabel() == label)


def test_curves_and_bars_are_the_measures(tree, drawn):
    figure, table = drawn("memorisation")
    node = tree[AT]
    np.testing.assert_array_equal(table["memorisation"], node["value"])
    np.testing.assert_array_equal(table["memorisation_lower"], node["lower"])
    np.testing.assert_array_equal(
        table["ngram_divergence"], tree["measures/ngram_divergence/backoff/sotu"]["value"]
    )
    bars = named(figure, "share [%]").patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], 100 * SHARES)
    assert table["suffix_bin"].values.tolist() == ["≤3", "4", "5", "6", "7", "8", ">8"]
    np.testing.assert_allclose(table["suffix_value"], SHARES)
    log = [a for a in figure.axes if a.get_xscale() == "log"][2]
    curves = {line.get_label(): line for line in log.lines if "gram" in line.get_label()}
    seen = node["tokens"].values > 0
    for order in range(1, 6):
        wanted = table["ngram_divergence"].sel(order=order).values[seen]
        np.testing.assert_array_equal(curves[f"{order}-gram"].get_ydata(), wanted)
    assert len({line.get_color() for line in curves.values()}) == 5


def test_bins_are_named_by_their_ends():
    assert bin_names(UPTO) == ["≤3", "4", "5", "6", "7", "8", ">8"]
    assert bin_names(np.array([0, 2, 8, 2**31 - 1])) == ["≤0", "1–2", "3–8", ">8"]


def test_without_an_index_of_ngrams_there_are_fewer_panels(tree, drop):
    less = drop(tree, *(f"measures/{n}" for n in ("ngram_divergence", "ngram_agreement")))
    less = drop(less, "measures/suffix_length", "measures/alpha_req")
    figure, table = draw(less, "memorisation")
    assert list(table.data_vars) == ["memorisation", "memorisation_lower", "memorisation_upper"]
    assert not figure.legends
    assert "n-gram ‖" not in table.attrs["caption"]
    assert "Bars" not in table.attrs["caption"]


def test_several_branches_show_one_order(forked, drawn):
    table = drawn("memorisation", 2)[1]
    every = forked["measures/ngram_divergence/backoff/sotu"]["value"]
    np.testing.assert_array_equal(table["ngram_divergence"], every.sel(order=2))
    assert "n = 2." in table.attrs["caption"]
    _, other = draw(forked, "memorisation", order=5)
    np.testing.assert_array_equal(other["ngram_divergence"], every.sel(order=5))
    with pytest.raises(ValueError, match="order is 9; give one of 1, 2, 3, 4, 5"):
        draw(forked, "memorisation", order=9)


def test_the_handling_of_zeros_is_in_the_caption(tree, put):
    node = tree[AT].to_dataset()
    strict = put(tree, AT.replace("li2025_code", "strict"), node.assign_attrs(convention="strict"))
    _, table = draw(strict, "memorisation", conventions={"memorisation": "strict"})
    assert "`strict`" in table.attrs["caption"]


def test_nothing_to_draw_is_said(tree, put):
    nothing = tree[AT].to_dataset().map(lambda v: v * np.nan, keep_attrs=True)
    with pytest.raises(ValueError, match="NaN everywhere"):
        draw(put(tree, AT, nothing), "memorisation")
