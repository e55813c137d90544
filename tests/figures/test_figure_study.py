"""Figures of two models of different depth, one of which has two branches."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from figures import FIGURES, draw
from figures.axes import shortened
from figures.lines import legend_rows, line_looks
from figures.report import render
from figures.save import csv_text, tidy
from figures.style import LIGHT, THEMES
from runs.study import assemble

# Of one store: correlations are kept a store, one line is ablated or patched at a time, stages need
# branches.
ALONE = ("correlations", "eigen_ablation", "modality_cause", "post_training")
SERIES = [
    n for n, row in FIGURES.items() if row.kind == "series" and not row.command and n not in ALONE
]
LINES = ["small", "deep · main", "deep · sft"]


@pytest.fixture(scope="module")
def with_released(tree, lone):
    return assemble({"trained": tree, "released": lone})


def texts(figure):
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible()]


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_every_figure_draws_two_models(study, name, theme):
    figure, table = draw(study, name, theme=theme)
    assert matplotlib.colors.to_hex(figure.get_facecolor()) == THEMES[theme].page
    assert set(table["model"].values) == {"small", "deep"}
    assert "not stated" not in table.attrs["caption"]
    said = texts(figure)
    assert all(any(line in text for text in said) for line in LINES)


def overlaps(figure, words):
    figure.draw_without_rendering()
    boxes = [
        (t.get_text(), t.get_window_extent())
        for t in figure.findobj(Text)
        if t.get_visible() and any(word in t.get_text() for word in words)
    ]
    assert len(boxes) >= len(words)
    return [
        (a, b)
        for i, (a, one) in enumerate(boxes)
        for b, other in boxes[i + 1 :]
        if one.overlaps(other)
    ]


@pytest.mark.parametrize("name", SERIES)
def test_names_stay_apart_and_on_the_page_however_long(tree, study, name):
    long = "a model with quite a name, learning rate 3e-3, batch size 1024, seed"
    named = assemble({f"{long} 1": tree, f"{long} 2": study["models/deep"]})
    figure, _ = draw(named, name)
    assert overlaps(figure, ["a model", "step"]) == []
    page = figure.bbox
    for text in figure.findobj(Text):
        if "a model" in text.get_text():
            box = text.get_window_extent()
            assert page.x0 <= box.x0
            assert box.x1 <= page.x1


def test_a_model_has_one_colour_and_its_branches_differ_in_dashes(study):
    looks = line_looks([study["measures/rankme/li2025/sotu"].to_dataset()], LIGHT)
    assert list(looks) == LINES
    assert looks["deep · main"].colour == looks["deep · sft"].colour != looks["small"].colour
    assert looks["deep · main"].dashes != looks["deep · sft"].dashes
    assert looks["deep · sft"].face == LIGHT.page


def test_models_beyond_the_palette_have_other_marks(tree):
    many = assemble({f"m{i}": tree for i in range(8)})
    looks = line_looks([many["measures/loss/surprisal/sotu"].to_dataset()], LIGHT)
    assert len({(look.colour, look.marker) for look in looks.values()}) == 8


@pytest.mark.parametrize("name", ["phases", "layers", "profile", "heads"])
def test_the_numbers_are_those_of_each_model(study, name):
    _, table = draw(study, name)
    for model in ("small", "deep"):
        _, alone = draw(study[f"models/{model}"], name)
        part = table.isel(checkpoint=table["model"].values == model)
        variables = [v for v in alone.data_vars if "checkpoint" in alone[v].dims]
        assert variables
        for variable in variables:
            found = part[variable].values
            np.testing.assert_array_equal(found[np.isfinite(found)], alone[variable].values.ravel())


def test_the_strip_has_a_row_for_every_line_and_no_boundary_crosses_the_curves(study):
    figure, table = draw(study, "phases")
    strips = {
        collection.get_label().split("/")[0]
        for axes in figure.axes
        for collection in axes.collections
        if "/" in str(collection.get_label())
    }
    assert strips == {f"_{line}" for line in LINES}
    assert set(table["segment_branch"].values) == set(LINES)
    rank = next(a for a in figure.axes if a.get_ylabel().startswith("RankMe"))
    assert not [p for p in rank.patches if str(p.get_label()).startswith("_")]


def test_depth_is_relative_only_if_models_differ_in_it(study, tree):
    assert "depth: block / number of blocks" in texts(draw(study, "profile")[0])
    same = draw(assemble({"a": tree, "b": tree}), "profile")[0]
    assert "layer" in texts(same)
    figure, table = draw(study, "profile")
    rank = next(a for a in figure.axes if a.get_ylabel().startswith("RankMe"))
    places = [line.get_xdata() for line in rank.lines if line.get_label() == "value"]
    np.testing.assert_allclose(places[0], np.arange(5) / 4)
    np.testing.assert_allclose(places[1], np.arange(7) / 6)
    assert table.sizes["layer"] == 8


def test_padding_is_no_number_in_the_table(study):
    _, table = draw(study, "profile")
    rows = tidy(table)
    assert "nan" not in rows["value"].values
    ranks = rows[rows["variable"] == "rankme"].groupby("model").size()
    assert ranks.to_dict() == {"small": 6, "deep": 16}
    assert csv_text(table).startswith("variable,value,unit,model,branch,")
    assert isinstance(rows, pd.DataFrame)


def test_a_released_model_is_a_level_not_a_start(with_released):
    figure, table = draw(with_released, "phases")
    assert "released (tokens not known)" in texts(figure)
    assert "tokens are not known" in table.attrs["caption"]
    loss = next(a for a in figure.axes if a.get_ylabel().startswith("loss"))
    (level,) = (line for line in loss.lines if line.get_label() == "released")
    wanted = with_released["measures/loss/surprisal/sotu"]["value"].values[-1]
    assert set(level.get_ydata()) == {wanted}
    assert list(level.get_xdata()) == [0, 1]
    _, table = draw(with_released, "layers")
    assert set(table["model"].values) == {"trained"}
    assert "Without released" in table.attrs["caption"]


def test_models_with_inputs_of_other_length_have_their_own_uniform_line(tree, put):
    path = "measures/head_entropy/zhai2023/sotu"
    longer = put(tree, path, tree[path].to_dataset().assign_attrs(length=1024))
    both = assemble({"short": tree, "long": longer})
    for name in ("heads", "profile"):
        figure, _ = draw(both, name)
        uniform = [text for text in texts(figure) if text.startswith("uniform")]
        assert [text[-4:] for text in sorted(uniform)] == ["3.88", "5.94"]
    assert "own uniform attention" in draw(both, "heads")[1].attrs["caption"]


def test_the_set_of_most_models_is_drawn(tree, put):
    more = tree
    for measure in ("rankme", "alpha_req"):
        node = tree[f"measures/{measure}/li2025/sotu"].to_dataset()
        more = put(more, f"measures/{measure}/li2025/aaa", node)
    both = assemble({"a": more, "b": tree})
    assert draw(more, "layers")[1].attrs["set"] == "aaa"
    assert draw(both, "layers")[1].attrs["set"] == "sotu"


@pytest.mark.slow
def test_the_report_tells_of_every_model(study):
    html = render(study, commands=[], versions={})
    for line in LINES:
        assert f"<h3>{line}</h3>" in html
    assert "report of 2 models" in html
    assert html.count("Identity digest") == 2
    assert "Recipe of small" in html
    assert {f'id="figure-{name}"' in html for name in SERIES} == {True}
    # One failed checkpoint in every line, and the padding of the shallow model is not counted as NaN.
    assert "Checkpoint deep · sft/step 64 is failed" in html
    spoilt = re.findall(r"<li>(\w+)/[^<]*values are NaN", html)
    # Training runs have no loss before their first update, nor γ without σReparam.
    # Few solved cases have no histogram and are not steered; a class may be short.
    allowed = {"collapse", "regularisation", "relative", "steered", "logit", "word"}
    assert {name.split("_")[0] for name in spoilt} <= allowed


def test_names_are_cut_in_the_middle():
    assert shortened("short", 3.0) == "short"
    cut = shortened("a" * 40 + "b" * 40, 2.0)
    assert len(cut) <= 2.0 / 0.066
    assert cut.startswith("aaa")
    assert cut.endswith("bbb")
    assert "…" in cut
    assert legend_rows(["x"] * 6) == (4, 2)
    assert legend_rows(["x" * 60] * 3) == (1, 3)
