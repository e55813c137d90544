"""Predictive geometry: every line is its row of the table, and the table is the tree."""

from itertools import pairwise

import numpy as np
import pytest

from figures import draw
from figures.catalogue import FIGURES
from figures.report import render

CURVES = {
    "rankme": "li2025", "fisher_rankme": "li2025", "effective_predictions": "von_neumann",
    "prediction_cka": "debiased", "dirichlet_energy": "relative",
}  # fmt: skip


def panels(figure, label):
    """The log axes whose row is labelled so: the y label stands on the axes of step 0."""
    left = [axes for axes in figure.axes if axes.get_ylabel() == label]
    rows = [axes.get_position().y0 for axes in left]
    return [
        axes for y in rows for axes in figure.axes
        if axes.get_position().y0 == y and axes.get_xscale() == "log"
    ]  # fmt: skip


def lines(axes):
    return {str(line.get_label()): line for line in axes.lines if len(line.get_xdata()) > 2}


def test_the_table_is_the_tree(tree, drawn):
    _, table = drawn("predictive")
    for name, convention in CURVES.items():
        value = tree[f"measures/{name}/{convention}/sotu"]["value"]
        if name == "rankme":
            value = value.isel(layer=-1)
        if name == "fisher_rankme":
            value = value.sel(pool="last")
        np.testing.assert_array_equal(table[name].values, value.values)
    assert (table["fisher_rankme_lower"] < table["fisher_rankme"]).all()


@pytest.mark.parametrize("count", [1, 2])
def test_every_line_is_its_row_of_the_table(drawn, count):
    figure, table = drawn("predictive", count)
    seen = table.isel(checkpoint=np.flatnonzero(table["tokens"].values > 0))
    for number, branch in enumerate(["main", "seed1"][:count]):
        mine = seen.isel(checkpoint=np.flatnonzero(seen["branch"].values == branch))
        found = lines(panels(figure, "effective\nnumber")[number])
        for name in ("rankme", "fisher_rankme", "effective_predictions"):
            np.testing.assert_array_equal(found[name].get_ydata(), mine[name])
            np.testing.assert_array_equal(found[name].get_xdata(), mine["tokens"])
        for label, name in (
            ("CKA with\npredictions", "prediction_cka"),
            ("Dirichlet energy\n(relative)", "dirichlet_energy"),
        ):
            found = lines(panels(figure, label)[number])
            for layer, layer_name in enumerate(mine["layer_name"].values):
                np.testing.assert_array_equal(
                    found[f"layer {layer_name}"].get_ydata(), mine[name].isel(layer=layer)
                )


def test_every_layer_is_seen_at_step_0(drawn):
    figure, table = drawn("predictive")
    (left,) = (a for a in figure.axes if a.get_ylabel() == "CKA with\npredictions")
    marks = [line for line in left.lines if str(line.get_label()).startswith("layer")]
    start = table["prediction_cka"].isel(checkpoint=0).values
    assert sorted(float(line.get_ydata()[0]) for line in marks) == sorted(start)
    assert all(line.get_marker() == "o" and line.get_markersize() == 4 for line in marks)


def test_a_report_of_a_store_without_it_does_not_miss_it(tree, drop, only):
    own = ("fisher_rankme", "effective_predictions", "prediction_cka", "dirichlet_energy")
    few = only(tree, "rankme", "alpha_req", "loss", "eigenspectrum", *own)
    smaller = drop(few, "measures/fisher_rankme")
    html = render(smaller, commands=[], versions={})
    assert "predictive" not in html.lower()
    html = render(drop(few, "measures/eigenspectrum"), commands=[], versions={})
    assert FIGURES["eigenspectra"].title in html.split("Not drawn:")[1].split("</p>")[0]
    assert "Predictive geometry" in html


def test_branches_are_named_above_their_panels_and_one_needs_no_name(drawn):
    two, _ = drawn("predictive", 2)
    heights = {t.get_text(): t.get_position()[1] for t in two.texts}
    tops = [axes.get_position().y1 for axes in panels(two, "effective\nnumber")]
    assert heights["main"] > tops[0] > heights["seed1"] > tops[1]
    assert not drawn("predictive")[0].texts


def test_panels_do_not_overlap(drawn):
    figure, _ = drawn("predictive", 2)
    boxes = sorted({(a.get_position().y0, a.get_position().y1) for a in figure.axes})
    assert len(boxes) == 6
    assert all(low[1] < high[0] for low, high in pairwise(boxes))


def test_the_only_pool_is_drawn(tree, put):
    path = "measures/fisher_rankme/li2025/sotu"
    alone = tree[path].to_dataset().sel(pool=["all"])
    _, table = draw(put(tree, path, alone), "predictive")
    np.testing.assert_array_equal(table["fisher_rankme"], alone["value"].isel(pool=0))
