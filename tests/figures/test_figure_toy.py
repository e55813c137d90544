"""The toy's figures show the numbers of the store, and the caption counts its seeds."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

from figures import FIGURES, MissingMeasure, draw, figures_of
from figures.report import render

TOYS = {
    "toy": ["skewed"],
    "toy_controls": ["uniform", "wide"],
    "toy_squared_error": ["squared_uniform", "squared_skewed"],
}
EVENTS = "measures/toy_events/lambda_uncentered/sotu"


@pytest.fixture(scope="module")
def alone(tree):
    """A store that holds nothing but the toy."""
    nodes = {p: d for p, d in tree.to_dict().items() if p.startswith("/measures/toy")}
    told = ["Skewed: 3 of 3 <seeds>.", "Uniform: 0 of 3."]
    attrs = {"name": "toy", "kind": "toy", "told": told, "warnings": []}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **nodes})


@pytest.mark.parametrize(("name", "tasks"), TOYS.items())
def test_each_task_and_start_is_a_row_of_panels(tree, name, tasks):
    figure, table = draw(tree, name)
    assert len(figure.axes) == 2 * len(tasks) * 4
    assert table["task"].values.tolist() == tasks
    assert table["start"].values.tolist() == ["constructed", "gaussian"]


def test_the_lines_are_the_measured_numbers(tree):
    figure, table = draw(tree, "toy", seed=2)
    paths = tree["measures/toy_paths/parameters/sotu"]
    rankme = tree["measures/toy_rankme/lambda_uncentered/sotu/value"]
    kept = paths["step"].values
    for row, start in enumerate(("constructed", "gaussian")):
        weights, features, top, bottom = figure.axes[4 * row : 4 * row + 4]
        mine = rankme.sel(task="skewed", start=start, step=kept)
        for seed, line in enumerate(top.lines[:3]):
            np.testing.assert_array_equal(line.get_ydata(), mine.sel(seed=seed))
        # The pieces of the thick line, joined, are the whole curve of that seed.
        thick = [line for line in top.lines if line.get_linewidth() == 1.7]
        joined = np.concatenate([p.get_ydata()[int(i > 0) :] for i, p in enumerate(thick)])
        np.testing.assert_array_equal(joined, mine.sel(seed=2))
        path = paths["features"].sel(task="skewed", start=start, seed=2, sample=5)
        ends = {tuple(line.get_xydata()[0]) for line in features.lines if line.get_marker() == "o"}
        assert tuple(path.sel(component=[1, 2]).isel(step=-1).values.astype(float)) in ends
        assert sum(line.get_marker() == "x" for line in weights.lines) == 4
        assert sum(line.get_marker() == "x" for line in features.lines) == 6
        assert bottom.get_ylim()[0] == 0
    assert int(table["dip_step"].sel(task="skewed", start="constructed")) > 0


@pytest.mark.parametrize(("name", "tasks"), TOYS.items())
def test_the_caption_counts_the_seeds_of_the_store(tree, put, name, tasks):
    events = tree[EVENTS].to_dataset(inherit=False).copy(deep=True)
    for number, task in enumerate(tasks):
        for flag, value in (("fell", 1), ("rose", 3), ("declined", 0), ("dropped", 1 + number)):
            events[flag].loc[{"task": task}] = np.arange(3) < value
    figure, table = draw(put(tree, EVENTS, events), name)
    caption = table.attrs["caption"]
    found = re.findall(r"of (\d) seeds RankMe falls first in (\d).*?good or not, in (\d)", caption)
    assert found == [("3", "1", str(1 + number)) for number in range(len(tasks)) for _ in range(2)]
    headings = [t.get_text() for axes in figure.axes for t in axes.texts if "drop" in t.get_text()]
    assert headings == [
        f"drop after a rise: {1 + n} of 3 seeds" for n in range(len(tasks)) for _ in range(2)
    ]


def test_what_is_not_there_is_said(tree, put):
    with pytest.raises(ValueError, match="seed is 9; give one of 0 to 2"):
        draw(tree, "toy", seed=9)
    paths = tree["measures/toy_paths/parameters/sotu"].to_dataset(inherit=False)
    fewer = put(tree, "measures/toy_paths/parameters/sotu", paths.sel(task=["skewed", "uniform"]))
    draw(fewer, "toy")
    with pytest.raises(MissingMeasure, match="no task wide: run `phasescope toy`"):
        draw(fewer, "toy_controls")


def test_a_store_has_the_figures_of_its_kind(tree, alone):
    assert figures_of(alone) == list(TOYS)
    series = figures_of(tree)
    assert series[:2] == ["phases", "layers"]
    assert not {*TOYS} & {*series}
    assert {*TOYS, *series} <= {*FIGURES}


def test_the_report_of_a_store_without_checkpoints(alone):
    page = render(alone, commands=["phasescope toy"], versions={}, figures={})
    assert "no checkpoints of a language model" in page
    assert "3 of 3 &lt;seeds&gt;." in page
    for heading in ("phases", "numbers", "checkpoints"):
        assert f'id="{heading}"' not in page
        assert f"#{heading}" not in page
    assert "0 done" not in page
    assert "toy_singular_value" in page
    assert 'id="warnings"' not in page


def test_the_report_of_a_series_is_as_before(tree):
    page = render(tree, commands=["phasescope run RECIPE"], versions={}, figures={})
    for heading in ("summary", "phases", "numbers", "checkpoints", "definitions"):
        assert page.count(f'id="{heading}"') == page.count(f'href="#{heading}"') == 1
