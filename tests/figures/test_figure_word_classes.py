"""Figures of word classes: what is drawn is the tree, and marks stand at the steps of the kernel."""

from __future__ import annotations

import numpy as np
import pytest

from figures import draw
from figures.save import csv_text
from figures.word_class_baselines import _apart
from figures.word_class_steps import class_steps, spread, steps_by_line, told_steps
from probes.class_emergence import class_emergence

DRAWN = ("word_class_maps", "word_class_curves", "word_class_confusion", "word_class_emergence")
CLASSES = ["NOUN", "VERB", "ADJ", "ADV", "DET", "PRON", "ADP", "CONJ"]
SEPARATION = "measures/word_class_separation/one_vs_rest/sotu"


def final(tree, path=SEPARATION):
    return tree[path].to_dataset().isel(layer=-1).sel(word_class=CLASSES)


# Maps.


def test_every_point_is_where_the_measure_has_it(tree, drawn):
    figure, table = drawn("word_class_maps")
    data = tree["measures/word_class_map/classical/sotu"]["value"]
    assert table["word_class"].values.tolist() == CLASSES  # not those that the set has not
    for axes in figure.axes:
        _, row, column = axes.get_label().split()
        one = table.isel(checkpoint=int(row), layer=int(column))
        wanted = data.sel(checkpoint=one["checkpoint"], layer=one["layer"])
        lines = {str(line.get_label()): line for line in axes.lines}
        for name in CLASSES:
            np.testing.assert_array_equal(
                np.stack(lines[f"_{name}"].get_data(), axis=1), wanted.sel(word_class=name)
            )
        assert axes.texts[0].get_text() == f"stress {float(one['stress']):.2f}"
    assert len(figure.axes) == 16
    assert table["step"].values[[0, -1]].tolist() == [0, 1500]
    assert table["layer_name"].values.tolist() == ["embedding", "2", "4", "final"]


def test_classes_differ_in_mark_as_well_as_in_colour(drawn):
    figure, _ = drawn("word_class_maps")
    lines = figure.axes[0].lines
    assert len({(str(line.get_color()), line.get_marker()) for line in lines}) == 8
    assert len({line.get_marker() for line in lines}) == 8


@pytest.mark.parametrize(("convention", "said"), [("smacof", "SMACOF"), ("tsne", "t-SNE")])
def test_another_method_is_named(tree, convention, said):
    figure, table = draw(tree, "word_class_maps", conventions={"word_class_map": convention})
    assert f"by {said}" in table.attrs["caption"] or said in table.attrs["caption"]
    assert any(axes.texts for axes in figure.axes) == (convention == "smacof")


# Curves.


def test_curves_and_levels_are_the_measures(tree, drawn):
    figure, table = drawn("word_class_curves")
    probe = tree["measures/word_class_probe/linear/sotu"]["value"]
    np.testing.assert_array_equal(table["word_class_probe"], probe)
    (left,) = (a for a in figure.axes if a.get_ylabel() == "balanced\naccuracy")
    lines = {str(line.get_label()): line.get_ydata() for line in left.lines}
    for step in (0, 1, 1500):
        wanted = probe.values[probe["step"].values == step][0]
        np.testing.assert_array_equal(lines[f"_step {step}"], wanted)
    for name, value in (("majority", 0.125), ("P(c | w₉)", 0.36), ("P(c | c₈, c₉)", 0.33)):
        assert lines[f"_level {name}"][0] == value
    assert table["baseline_accuracy"].sel(baseline="class_given_word_9") == 0.36
    assert table["reference_code"].sel(code="uniform") == pytest.approx(3)
    texts = [t.get_text() for a in figure.axes for t in a.texts]
    assert {"majority 0.12", "P(c | w₉) 0.36", "P(c | c₈, c₉) 0.33", "uniform code 3.00"} <= {
        *texts
    }


def test_over_training_a_layer_is_a_line(tree, drawn):
    figure, _ = drawn("word_class_curves")
    gdv = tree["measures/gdv_scaled/word_10/sotu"]["value"]
    seen = gdv.isel(checkpoint=gdv["tokens"].values > 0)
    panels = [a for a in figure.axes if a.get_xscale() == "log"]
    lines = {str(line.get_label()): line.get_ydata() for line in panels[0].lines}
    np.testing.assert_array_equal(lines["_final"], seen.isel(layer=-1))
    np.testing.assert_array_equal(lines["_embedding"], seen.isel(layer=0))
    assert len(panels) == 4
    # Both columns of a row have one scale.
    assert panels[0].get_ylim() == figure.axes[0].get_ylim()


def test_without_baselines_and_probes_gdv_stands_alone(tree, drop):
    fewer = drop(
        tree, *(f"measures/word_class_{n}" for n in ("probe", "selectivity", "codelength"))
    )
    figure, table = draw(fewer, "word_class_curves")
    assert {n for n in table.data_vars if "lower" not in n and "upper" not in n} == {"gdv_scaled"}
    assert "counting words" not in table.attrs["caption"]
    assert sum(a.get_xscale() == "log" for a in figure.axes) == 1


def test_of_several_branches_the_last_checkpoints_are_drawn(forked, drawn):
    figure, _ = drawn("word_class_curves", 2)
    gdv = forked["measures/gdv_scaled/word_10/sotu"]["value"]
    lines = {str(line.get_label()): line.get_ydata() for line in figure.axes[0].lines}
    for branch, step in (("main", 1500), ("seed1", 800)):
        at = (gdv["branch"].values == branch) & (gdv["step"].values == step)
        np.testing.assert_array_equal(lines[f"_{branch}, step {step}"], gdv.values[at][0])
    assert "_main, step 0" in lines


def test_a_lone_checkpoint_has_layers_only(lone):
    figure, table = draw(lone, "word_class_curves")
    assert not any(a.get_xscale() == "log" for a in figure.axes)
    assert "over training" not in table.attrs["caption"]


@pytest.mark.parametrize("least", [0.05, 0.2])
def test_names_of_levels_are_kept_apart(least):
    found = _apart([0.1, 0.11, 0.12, 0.6], least)
    assert (np.diff(found) >= least - 1e-6).all()
    assert found[1] == pytest.approx(0.11, abs=0.02 + least)


# Confusion.


def test_shares_of_a_class_sum_to_one(tree, drawn):
    figure, table = drawn("word_class_confusion")
    np.testing.assert_allclose(table["share"].sum("cluster"), 1)
    data = tree["measures/word_class_confusion/kmeans/sotu"]["value"].isel(layer=-1)
    last = data.isel(checkpoint=-1).sel(word_class=CLASSES, cluster=CLASSES).values
    cells = figure.axes[1].collections[0].get_array().reshape(8, 8)
    np.testing.assert_allclose(cells, last / last.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(table["agreement"][-1], np.diag(cells).mean())
    assert [a.get_title(loc="left") for a in figure.axes[:2]] == ["step 0", "step 1500"]


# Emergence.


def test_steps_of_a_class_are_the_kernel_s(tree):
    part = final(tree)
    found = class_steps(part)
    steps = part["step"].values
    for name in CLASSES[:7]:
        one = part.sel(word_class=name)
        wanted = class_emergence(one["value"].values, one["standard_error"].values)
        own = found.sel(word_class=name)
        assert own["first"] == steps[wanted.first]
        assert own["lower"] == steps[wanted.lower]
        assert own["upper"] == steps[wanted.upper]
        assert own["rise"] == wanted.rise
        assert own["lower"] <= own["first"] <= own["upper"]
        assert own["separated"] == 1
    flat = found.sel(word_class="CONJ")
    assert flat["separated"] == 0
    assert np.isnan([flat["first"], flat["lower"], flat["upper"]]).all()
    assert flat["group"] == -1
    # Made to rise halfway at these steps.
    order = [CLASSES[i] for i in np.argsort(found["first"].values[:7])]
    assert order == ["DET", "NOUN", "PRON", "VERB", "ADP", "ADJ", "ADV"]


def test_a_class_that_was_not_measured_is_not_one_that_did_not_rise(tree):
    data = tree[SEPARATION].to_dataset().isel(layer=-1)
    found = class_steps(data)
    assert np.isnan(found["separated"].sel(word_class="NUM"))
    assert "NUM" not in told_steps(steps_by_line(data))


def test_intervals_of_classes_in_a_group_share_a_checkpoint(tree):
    found = class_steps(final(tree))
    for number in range(int(found["group"].max()) + 1):
        mine = found.isel(word_class=found["group"].values == number)
        assert mine["lower_row"].max() <= mine["upper_row"].min()


def test_the_spread_is_between_lines_and_not_of_the_probe(forked):
    steps = steps_by_line(final(forked))
    between = spread(steps).isel(line_model=0)
    assert steps["training_line"].values.tolist() == ["main", "seed1"]
    for name in CLASSES[:7]:
        first = steps["first"].sel(word_class=name).values
        one = between.sel(word_class=name)
        assert one["lowest"] == first.min()
        assert one["highest"] == first.max()
        assert one["median"] == np.median(first)
        assert one["emerged"] == one["lines"] == 2
        assert first[0] < first[1]  # the other seed was made to be later
    assert between["emerged"].sel(word_class="CONJ") == 0
    assert np.isnan(between["median"].sel(word_class="CONJ"))
    assert "no rise: CONJ" in told_steps(steps)


def test_marks_stand_at_the_steps_of_the_table(tree, drawn):
    figure, table = drawn("word_class_emergence")
    charts = [a for a in figure.axes if any(x.get_label() == "_first" for x in a.lines)]
    marks = {
        round(float(x.get_ydata()[0]), 6): x.get_xdata()[0]
        for a in charts for x in a.lines if x.get_label() == "_first"
    }  # fmt: skip
    assert len(marks) == 7
    steps = table["emergence"].isel(training_line=0)
    wanted = sorted(float(v) * 2048 for v in steps.values if np.isfinite(v))
    assert [marks[place] for place in sorted(marks)] == wanted  # earliest above
    (chart,) = charts
    whole = [x for x in chart.lines if x.get_label() == "_interval"]
    lower, upper = (table[f"emergence_{end}"].isel(training_line=0) for end in ("lower", "upper"))
    found = sorted(tuple(float(v) for v in x.get_xdata()) for x in whole)
    expected = sorted(
        (float(a) * 2048, float(b) * 2048)
        for a, b in zip(lower.values, upper.values, strict=True)
        if np.isfinite(a)
    )
    np.testing.assert_allclose(found, expected)
    assert "DET from step" in table.attrs["caption"]
    assert "Several lines" not in table.attrs["caption"]


def test_noise_of_probe_and_of_training_are_drawn_apart(forked, drawn):
    figure, table = drawn("word_class_emergence", 2)
    (chart,) = (a for a in figure.axes if any(x.get_label() == "_median" for x in a.lines))
    first = [x for x in chart.lines if x.get_label() == "_first"]
    middle = [x for x in chart.lines if x.get_label() == "_median"]
    assert len(first) == 14
    assert len(middle) == 7
    heights = {float(x.get_ydata()[0]) for x in first}
    assert not heights & {float(x.get_ydata()[0]) for x in middle}
    between = table["median_step"].isel(line_model=0)
    wanted = sorted(2048 * float(v) for v in between.values if np.isfinite(v))
    np.testing.assert_allclose(sorted(float(x.get_xdata()[0]) for x in middle), wanted)
    assert "noise of training" in table.attrs["caption"]
    np.testing.assert_array_equal(
        table["lowest_step"].isel(line_model=0), table["emergence"].min("training_line")
    )
    # Curves of several lines have no bands: those would be taken for the spread between them.
    (curves,) = (
        a for a in figure.axes
        if a.get_xscale() == "log" and any("main/DET" in str(x.get_label()) for x in a.lines)
    )  # fmt: skip
    assert not curves.collections


def test_a_threshold_for_all_is_an_option(tree):
    _, table = draw(tree, "word_class_emergence", threshold=0.6)
    steps = table["emergence"].isel(training_line=0)
    assert (steps.sel(word_class=["NOUN", "VERB"]) == 0).all()
    assert "is at least 0.6 for good" in table.attrs["caption"]


def test_loss_and_phases_are_there_if_they_were_measured(tree, drawn, drop):
    figure, table = drawn("word_class_emergence")
    loss = tree["measures/loss/surprisal/sotu"]["value"]
    np.testing.assert_array_equal(table["loss"], loss)
    assert any(t.get_text() == "warm-up" for a in figure.axes for t in a.texts)
    bare, table = draw(drop(tree, "measures/loss", "phases"), "word_class_emergence")
    assert "loss" not in table
    assert not any(t.get_text() == "warm-up" for a in bare.axes for t in a.texts)


def test_one_checkpoint_has_no_course(lone):
    with pytest.raises(ValueError, match="two or more checkpoints"):
        draw(lone, "word_class_emergence")


# All of them.


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stays_on_the_page(drawn, name, theme):
    figure, table = drawn(name, 2, theme)
    width, height = figure.get_size_inches() * figure.dpi
    labels = [t for a in figure.axes for t in (a.xaxis.label, a.yaxis.label, a.title, *a.texts)]
    for text in (*labels, *figure.texts, *(t for x in figure.legends for t in x.get_texts())):
        if text.get_text():
            box = text.get_window_extent()
            assert box.x0 >= -1
            assert box.x1 <= width + 1
            assert box.y0 >= -1
            assert box.y1 <= height + 1
    assert "{" not in table.attrs["caption"]
    assert "not stated" not in table.attrs["caption"]
    assert all(table[v].attrs.get("units") for v in table.data_vars)


@pytest.mark.parametrize("name", DRAWN)
def test_axes_do_not_overlap(drawn, name):
    figure, _ = drawn(name, 2)
    boxes = [axes.get_position() for axes in figure.axes]
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            high = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert wide < 1e-6 or high < 1e-6


@pytest.mark.parametrize("name", DRAWN)
def test_the_table_is_written_as_text(drawn, name):
    _, table = drawn(name, 2)
    lines = csv_text(table).splitlines()
    assert len(lines) > 10
    for variable in map(str, table.data_vars):
        assert any(variable in line for line in lines)


@pytest.mark.parametrize("name", DRAWN)
def test_a_study_names_its_models(study, name):
    figure, table = draw(study, name)
    text = " ".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))
    assert "small" in text
    assert "deep" in text
    assert "{" not in table.attrs["caption"]
