"""RankMe forms against the kernels, events against curves drawn by hand, counts of seeds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.spectrum import RANKME_CONVENTIONS, eigenvalues, rankme
from runs.models.toy import SEEDS, STEPS, TASKS, Task, descend, initialise
from runs.models.toy_measures import (
    FORMS,
    HEADLINE,
    count_seeds,
    events_of,
    fork_step,
    measure_toy,
    singular_values,
)


@pytest.fixture(scope="module")
def measured() -> dict[str, xr.Dataset]:
    return measure_toy(
        [TASKS["skewed"], TASKS["uniform"], TASKS["wide"]], seeds=2, steps=30, learning_rate=0.25
    )


@pytest.fixture(scope="module")
def full() -> xr.Dataset:
    """The events of the skewed and the uniform task as the command trains them."""
    tasks = [TASKS["skewed"], TASKS["uniform"]]
    found = measure_toy(tasks, seeds=SEEDS, steps=STEPS, learning_rate=0.25)
    return found[f"toy_events/{HEADLINE}"]


def test_every_form_is_that_of_the_kernel(measured):
    paths = descend(*initialise(TASKS["wide"], "gaussian", seeds=2), TASKS["wide"], steps=30)
    for form in FORMS:
        value = measured[f"toy_rankme/{form}"]["value"].sel(task="wide", start="gaussian")
        spectrum = eigenvalues(paths.features, centered=RANKME_CONVENTIONS[form].centered)
        np.testing.assert_allclose(value, rankme(spectrum, convention=form), rtol=1e-9)


def test_singular_values_of_known_clouds():
    rng = np.random.default_rng(0)
    u = np.linalg.qr(rng.normal(size=(6, 2)))[0]
    v = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    np.testing.assert_allclose(singular_values(u * [3.0, 0.5] @ v, centered=False), [3.0, 0.5])
    moved = np.array([[5.0, 1], [5, -1], [5, 1], [5, -1]])
    np.testing.assert_allclose(singular_values(moved, centered=True), [2.0, 0.0], atol=1e-15)


def test_paths_are_kept_every_fourth_step_and_padded(measured):
    paths = measured["toy_paths/parameters"]
    np.testing.assert_array_equal(paths["step"], np.arange(0, 31, 4))
    for name in ("skewed", "uniform", "wide"):
        task = TASKS[name]
        own = descend(*initialise(task, "constructed", seeds=2), task, steps=30)
        for kept, whole, dims in (
            ("features", own.features, ("sample", "component")),
            ("weights", own.weights, ("component", "class")),
        ):
            found = paths[kept].sel(task=name, start="constructed")
            found = found.dropna(dims[0], how="all").dropna(dims[1], how="all")
            found = found.transpose("seed", "step", *dims)
            np.testing.assert_array_equal(found, whole[:, ::4].astype(np.float32))


def test_no_number_is_missing_but_what_a_task_does_not_have(measured):
    for name, data in measured.items():
        if "value" in data:
            assert np.isfinite(data["value"].values).all(), name
            assert {"unit", "source", "inputs", "measure", "convention"} <= {*data.attrs}


@pytest.mark.parametrize(
    ("curve", "flags", "places"),
    [
        # fell, rose, declined, dropped; dip, peak, drop from, drop to
        ([3, 2, 1, 4, 5, 2, 3], (1, 1, 1, 1), (2, 4, 4, 5)),
        ([3, 2, 1, 4, 3, 6, 7], (1, 1, 0, 1), (2, 6, 3, 4)),
        ([1, 2, 3, 4, 5, 6, 7], (0, 1, 0, 0), (0, 6, None, None)),
        ([7, 6, 5, 4, 3, 2, 1], (0, 0, 0, 0), (0, 0, None, None)),
        # The first of two equal peaks is the peak: nothing rose to it.
        ([5, 1, 2, 1, 2, 1, 5], (0, 0, 0, 0), (0, 0, None, None)),
        ([2, 2, 2, 2, 2, 2, 2], (0, 0, 0, 0), (0, 0, None, None)),
    ],
)
def test_events_of_curves_drawn_by_hand(curve, flags, places):
    values = xr.DataArray(np.array(curve, float), dims="step", coords={"step": np.arange(7) * 10})
    events = events_of(values)
    found = tuple(int(events[name]) for name in ("fell", "rose", "declined", "dropped"))
    assert found == flags
    for name, place in zip(("dip_step", "peak_step", "drop_step", "drop_end"), places, strict=True):
        if place is None:
            assert np.isnan(float(events[name]))
        else:
            assert int(events[name]) == 10 * place


@given(
    curve=st.lists(st.integers(0, 20), min_size=2, max_size=25),
    margin=st.sampled_from([0.5, 1.5, 4.5]),
)
@settings(max_examples=40, deadline=None)
def test_the_largest_drop_is_that_of_every_pair(curve, margin):
    values = xr.DataArray(
        np.array(curve, float), dims="step", coords={"step": np.arange(len(curve))}
    )
    events = events_of(values, margin=margin)
    peak = int(np.argmax(curve))
    dip = int(np.argmin(curve[: peak + 1]))
    pairs = [
        curve[i] - curve[j]
        for i in range(dip, len(curve))
        for j in range(i, len(curve))
        if curve[i] - curve[dip] > margin
    ]
    assert float(events["drop"]) == max(pairs, default=0)
    if float(events["drop"]) > 0:
        i, j = int(events["drop_step"]), int(events["drop_end"])
        assert i < j
        assert curve[i] - curve[j] == max(pairs)
    shifted = events_of(values + 100.0, margin=margin)
    for name in ("fell", "rose", "declined", "dropped", "peak_step", "dip_step"):
        assert shifted[name].equals(events[name])


def test_classes_part_where_their_distance_grows_fastest():
    task = Task("any", (1, 1, 1, 1), 2, "cross_entropy", "")
    steps = np.arange(101.0)
    apart = np.stack([1 / (1 + np.exp(-(steps - 60) / 5)), np.ones(101)])
    features = np.zeros((2, 101, 4, 2))
    features[:, :, 3, 0] = apart
    found = fork_step(features, task)
    assert abs(found[0] - 60) <= 1
    assert np.isnan(found[1])


def test_counts_are_of_seeds():
    n = 5
    flags = {
        name: ("seed", np.arange(n) < count)
        for name, count in (("fell", 2), ("rose", 5), ("declined", 3), ("dropped", 4))
    }
    numbers = {
        name: ("seed", np.arange(n, dtype=float)) for name in ("peak", "low", "drop", "peak_step")
    }
    events = xr.Dataset({**flags, **numbers, "fork_step": ("seed", [np.nan, 7, np.nan, 9, 8])})
    counts = count_seeds(events)
    found = [int(counts[name]) for name in ("fell", "rose", "declined", "all_three", "dropped")]
    assert found == [2, 5, 3, 2, 4]
    assert float(counts["fork_step"]) == 8
    assert int(counts["forked"]) == 3
    none = count_seeds(events.assign(fork_step=events["fork_step"] * np.nan))
    assert np.isnan(float(none["fork_step"]))


def test_the_skewed_toy_dips_peaks_and_declines(full):
    skewed = full.sel(task="skewed", start="constructed")
    both = (skewed["dip"] < skewed["peak"]) & (skewed["peak"] - skewed["low"] > 1e-3)
    assert int(both.sum()) >= 18
    # In this order: the decline begins before the rare classes part fastest, and ends after.
    order = (skewed["dip_step"] < skewed["peak_step"]) & (skewed["peak_step"] < skewed["fork_step"])
    assert int((order & (skewed["fork_step"] < skewed["low_step"])).sum()) >= 18


def test_the_dip_is_of_the_uncentred_form_alone():
    task = TASKS["skewed"]
    paths = descend(*initialise(task, "constructed"), task, steps=300)
    for form in FORMS:
        sigma = singular_values(paths.features, centered=RANKME_CONVENTIONS[form].centered)
        values = xr.DataArray(
            rankme(sigma**2, convention=form),
            dims=("seed", "step"),
            coords={"step": np.arange(301)},
        )
        fell = events_of(values)["fell"]
        assert bool((fell == (not RANKME_CONVENTIONS[form].centered)).all())


def test_nothing_to_train_is_refused():
    for seeds, steps in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match="at least 1 of each"):
            measure_toy(seeds=seeds, steps=steps, learning_rate=0.25)
