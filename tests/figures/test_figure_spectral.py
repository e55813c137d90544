"""Bands and dispersion: what is plotted is what was measured, with its intervals."""

import numpy as np
import pytest

from figures import draw
from figures.select import TooFewCheckpoints, with_course


def line(axes, label):
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


def panel(figure, title):
    """The log axes below a panel's title, in the order the panels were made."""
    titles = [text.get_text() for text in figure.texts]
    logs = [axes for axes in figure.axes if axes.get_xscale() == "log"]
    return logs[titles.index(title)]


@pytest.fixture
def narrow(tree, put):
    """The tree of a model with 128 features: two bands have no ranks."""
    path = "measures/band_alpha/centered/sotu"
    data = tree[path].to_dataset()
    there = data["band"].isin(["1-10", "11-100"])
    return put(tree, path, data.where(there).assign_attrs(data.attrs))


def test_every_band_has_its_line(tree):
    figure, table = draw(tree, "bands")
    assert table["band"].values.tolist() == ["1-10", "11-100", "101-500", "512+"]
    assert "for want of ranks" not in table.attrs["caption"]
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert words[:4] == [f"α, ranks {b}" for b in ("1–10", "11–100", "101–500", "512 and up")]


def test_bands_are_drawn_by_band_and_by_k(narrow):
    tree = narrow
    figure, table = draw(tree, "bands")
    alpha = tree["measures/band_alpha/centered/sotu"].to_dataset()["value"].isel(layer=-1)
    rest = tree["measures/rankme_without_top/li2025/sotu"].to_dataset()["value"].isel(layer=-1)
    whole = tree["measures/rankme/li2025/sotu"].to_dataset()["value"].isel(layer=-1)
    assert table["band"].values.tolist() == ["1-10", "11-100"]
    assert table["removed"].values.tolist() == [0, 1, 2, 8, 32]
    np.testing.assert_array_equal(table["band_alpha"], alpha.isel(band=[0, 1]))
    np.testing.assert_array_equal(table["rankme_without_top"].sel(removed=[1, 2, 8, 32]), rest)
    np.testing.assert_array_equal(table["rankme_without_top"].sel(removed=0), whole)
    assert table["rankme_without_top"].attrs["units"] == "directions"
    upper, lower = [axes for axes in figure.axes if axes.get_xscale() == "log"]
    seen = table["tokens"].values > 0
    np.testing.assert_array_equal(
        line(upper, "11-100").get_ydata(), alpha.sel(band="11-100").values[seen]
    )
    np.testing.assert_array_equal(line(lower, "8").get_ydata(), rest.sel(removed=8).values[seen])
    assert "bands of ranks 101-500, 512+" in table.attrs["caption"]
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert words[:2] == ["α, ranks 1–10", "α, ranks 11–100"]
    assert words[2:] == ["RankMe", *(f"without top {k}" for k in (1, 2, 8, 32))]


def test_bands_do_without_rankme_and_at_another_layer(tree, drop):
    _, table = draw(drop(tree, "measures/rankme/"), "bands", layer=2)
    assert table["removed"].values.tolist() == [1, 2, 8, 32]
    wanted = tree["measures/rankme_without_top/li2025/sotu"].to_dataset()["value"].isel(layer=2)
    np.testing.assert_array_equal(table["rankme_without_top"], wanted)
    assert "Layer 2," in table.attrs["caption"]


def test_a_cloud_without_ranks_has_no_bands(tree, put):
    path = "measures/band_alpha/centered/sotu"
    empty = tree[path].to_dataset().map(lambda v: v * np.nan, keep_attrs=True)
    with pytest.raises(ValueError, match="too few ranks"):
        draw(put(tree, path, empty.assign_attrs(tree[path].attrs)), "bands")


def test_dispersion_draws_what_there_is(tree):
    figure, table = draw(tree, "dispersion")
    for name, title in (
        ("participation_ratio", "participation ratio [directions]"),
        ("stable_rank", "stable rank [directions]"),
        ("condition_number", "condition number λ₁ / λᵣ"),
        ("anisotropy", "mean cosine of two points"),
    ):
        measured = tree[f"measures/{name}"].children
        (convention,) = measured
        data = tree[f"measures/{name}/{convention}/sotu"].to_dataset().isel(layer=-1)
        np.testing.assert_array_equal(table[name], data["value"])
        np.testing.assert_array_equal(table[f"{name}_lower"], data["lower"])
        drawn = line(panel(figure, title), "main")
        np.testing.assert_array_equal(
            drawn.get_ydata(), data["value"].values[data["tokens"].values > 0]
        )
    assert "intrinsic_dimension" not in table
    assert "r is 127, the last rank" in table.attrs["caption"]


def test_branches_and_models_are_told_apart(forked, study):
    for source, lines in (
        (forked, {"main", "seed1"}),
        (study, {"small", "deep · main", "deep · sft"}),
    ):
        figure, _ = draw(source, "dispersion")
        (legend,) = figure.legends
        assert {text.get_text() for text in legend.get_texts()} == lines
        figure, _ = draw(source, "bands")
        assert lines <= {text.get_text() for text in figure.texts}


def test_one_checkpoint_has_no_course(lone, forked, at_steps, study):
    for name in ("bands", "dispersion"):
        with pytest.raises(TooFewCheckpoints):
            draw(lone, name)
    data = study["measures/anisotropy/ethayarajh2019/sotu"].to_dataset()
    names = data["line"].values.astype(str)
    few = data.isel(checkpoint=np.flatnonzero((names != "small") | (data["step"].values == 16)))
    kept, absent = with_course(few)
    assert absent == ["small"]
    assert set(kept["line"].values.astype(str)) == {"deep · main", "deep · sft"}
    assert with_course(data)[1] == []
