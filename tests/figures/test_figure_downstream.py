"""Scores over training, correlations and eigen-ablation: what is drawn is what is stored."""

from __future__ import annotations

import numpy as np
import pytest

from figures import MissingMeasure, draw
from figures.report import render
from figures.select import TooFewCheckpoints

PATHS = [f"measures/{name}" for name in ("task_score", "published_score")]


def line(axes, label):
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


def score_axes(figure):
    return next(
        a for a in figure.axes if any("speech_cloze" in str(x.get_label()) for x in a.lines)
    )


def test_scores_are_the_stores_with_published_ones_beside(tree, drawn):
    figure, table = drawn("downstream")
    node = tree["measures/task_score/acc/sotu"].to_dataset()
    own = table["speech_cloze"].dropna("checkpoint")
    np.testing.assert_array_equal(own, node["value"].sel(task="speech_cloze"))
    there = table["sciq_published"].dropna("checkpoint")
    np.testing.assert_array_equal(
        there, tree["measures/published_score/pythia_v1/sotu"]["value"].sel(task="sciq")
    )
    labels = {str(one.get_label()) for axes in figure.axes for one in axes.lines}
    assert {"speech_cloze  main", "sciq  main", "sciq published main"} <= labels
    assert "published for pythia-1b" in table.attrs["caption"]
    assert "RankMe and α-ReQ of layer final" in table.attrs["caption"]


def test_geometry_has_axes_of_its_own(drawn):
    figure, table = drawn("downstream")
    for name, label in (("rankme", "RankMe"), ("alpha_req", "α-ReQ")):
        (row,) = {a.get_subplotspec().rowspan.start for a in figure.axes if a.get_ylabel() == label}
        axes = [a for a in figure.axes if a.get_subplotspec().rowspan.start == row]
        drawn_values = np.concatenate(
            [x.get_ydata() for a in axes for x in a.lines if x.get_label() == "main"]
        )
        np.testing.assert_allclose(np.sort(drawn_values), np.sort(table[name].dropna("checkpoint")))


def test_only_the_tasks_asked_for(tree, drop):
    _, table = draw(tree, "downstream", tasks=["sciq"])
    assert {"sciq", "sciq_published"} <= set(table)
    assert "speech_cloze" not in table
    with pytest.raises(ValueError, match="speech_cloze"):
        draw(tree, "downstream", tasks=["piqa"])
    alone = draw(drop(tree, PATHS[1]), "downstream")[1]
    assert "published" not in alone.attrs["caption"]
    assert "sciq_published" not in alone


def test_without_scores_it_says_how_to_get_them(tree, drop):
    with pytest.raises(MissingMeasure, match="lm_eval"):
        draw(drop(tree, *PATHS), "downstream")


def test_branches_differ_in_dashes_and_studies_are_drawn(drawn, study):
    figure, table = drawn("downstream", 2)
    axes = score_axes(figure)
    styles = {
        name: line(axes, f"speech_cloze  {name}").get_linestyle() for name in ("main", "seed1")
    }
    assert styles["main"] != styles["seed1"]
    assert set(table["branch"].values) == {"main", "seed1"}
    assert draw(study, "downstream")[1]["speech_cloze"].notnull().any()


def test_a_lone_checkpoint_has_no_training(lone):
    for name in ("downstream", "eigen_ablation"):
        with pytest.raises(TooFewCheckpoints):
            draw(lone, name)


def test_every_correlation_is_a_row_with_its_numbers(tree, drawn):
    figure, table = drawn("correlations")
    node = tree["measures/score_correlation/li2025/sotu"].to_dataset()
    assert table.sizes["row"] == node["value"].size == 8
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    for row in range(8):
        one = table.isel(row=row)
        keys = {n: one[n].item() for n in ("measure", "score", "branch", "coefficient")}
        assert float(one["value"]) == float(node["value"].sel(keys))
        assert f"{float(one['value']):+.3f}".replace("-", "−") in texts
    bars = {tuple(np.round(x.get_xdata(), 9)) for x in axes.lines if len(x.get_xdata()) == 2}
    ends = zip(table["lower"].values, table["upper"].values, strict=True)
    assert {tuple(np.round(pair, 9)) for pair in ends} <= bars


def test_a_correlation_that_is_nan_is_left_out(tree, put):
    path = "measures/score_correlation/li2025/sotu"
    node = tree[path].to_dataset()
    values = node["value"].values.copy()
    values[0] = np.nan
    half = put(tree, path, node.assign(value=(node["value"].dims, values)))
    assert set(draw(half, "correlations")[1]["measure"].values) == {"alpha_req"}
    with pytest.raises(ValueError, match="every correlation is NaN"):
        draw(put(tree, path, node.assign(value=node["value"] * np.nan)), "correlations")


def test_eigen_ablation_shows_every_condition_and_the_last_values(tree, drawn):
    figure, table = drawn("eigen_ablation")
    node = tree["measures/eigen_ablation_loss/surprisal/sotu"].to_dataset()
    np.testing.assert_array_equal(table["loss"], node["value"])
    assert table["sciq_accuracy"].dims == ("checkpoint", "condition")
    (legend,) = figure.legends
    scores = tree["measures/eigen_ablation_score/acc/sotu"]["value"]
    last = scores.isel(checkpoint=-1).sel(task="speech_cloze", condition="top50_retained").item()
    assert f"top 50 retained: {last:.3f}" in [text.get_text() for text in legend.get_texts()]
    assert "speech_cloze accuracy at the last checkpoint" in table.attrs["caption"]


def test_eigen_ablation_needs_no_tasks_and_shows_one_branch(tree, forked, drop):
    table = draw(drop(tree, "measures/eigen_ablation_score"), "eigen_ablation")[1]
    assert "next-token accuracy at the last" in table.attrs["caption"]
    assert set(draw(forked, "eigen_ablation", branch="seed1")[1]["branch"].values) == {"seed1"}
    with pytest.raises(ValueError, match="main, seed1"):
        draw(forked, "eigen_ablation", branch="seed2")


def test_a_report_of_a_store_without_scores_does_not_miss_them(tree, drop, only):
    kept = ("score_correlation", "eigen_ablation_loss")
    few = only(tree, "rankme", "alpha_req", "loss", "task_score", "published_score", *kept)
    smaller = drop(few, *PATHS, *(f"measures/{name}" for name in kept))
    html = render(smaller, commands=[], versions={})
    for name in ("downstream", "correlations", "eigen_ablation"):
        assert f"Figure {name} is not drawn" not in html
        assert f"figure-{name}" not in html
