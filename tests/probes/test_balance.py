"""Balance points: known crossings, what does not cross, and intervals that hold the truth."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from statsmodels.api import GLM, add_constant, families

from probes.balance import METHODS, REASONS, balance_point
from probes.balance_curves import (
    binned_crossing,
    equal_count_bins,
    falls,
    isotonic_crossing,
    logistic_crossings,
)

TRUTH = 0.2
DRAWS, LEAST = 100, 90


def chooser(seed, *, crossing=TRUTH, gain=2.5, spread=1.5, groups=120, each=6):
    """Choices of grouped cases; the group's own leaning is symmetric, so the crossing stays."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-1.8, 1.8, (groups, 1)) + rng.normal(0, 0.3, (groups, each))
    delta = np.clip(place, -2, 2)
    leaning = rng.normal(0, spread, (groups, 1))
    text = rng.random(delta.shape) < 1 / (1 + np.exp(gain * (delta - crossing) + leaning))
    return delta.ravel(), text.ravel().astype(float), np.repeat(np.arange(groups), each)


@cache
def covered(method: str, spread: float, grouped: bool) -> int:
    hits = 0
    for seed in range(DRAWS):
        delta, text, groups = chooser(seed, spread=spread)
        found = balance_point(
            delta, text, groups=groups if grouped else None, method=method, resamples=299, seed=seed
        )
        hits += found.crossed and found.lower <= TRUTH <= found.upper
    return hits


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 1.5])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.timeout(900)
def test_intervals_hold_the_truth(method, spread, capsys):
    hits = covered(method, spread, True)
    with capsys.disabled():
        print(f"\n{method}, spread of groups {spread:g}: {hits} of {DRAWS} intervals hold it")
    assert hits >= LEAST


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_intervals_without_groups_are_too_short_where_groups_lean(capsys):
    alone, grouped = covered("logistic", 1.5, False), covered("logistic", 1.5, True)
    with capsys.disabled():
        print(f"\nlogistic, groups ignored: {alone} of {DRAWS}, by group {grouped}")
    assert alone < LEAST <= grouped


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("crossing", [-0.8, 0.0, 0.9])
def test_known_crossings_are_found(method, crossing):
    delta, text, groups = chooser(3, crossing=crossing, spread=0, groups=600)
    found = balance_point(delta, text, groups=groups, method=method, resamples=99)
    assert found.crossed
    assert found.reason == ""
    assert found.value == pytest.approx(crossing, abs=0.15)
    assert found.lower < found.value < found.upper
    assert (found.cases, found.groups) == (3600, 600)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("crossing", "gain", "reason"),
    [(4.0, 1.0, "above"), (-4.0, 1.0, "below"), (0.1, -2.5, "inverted"), (0.0, 0.0, "flat")],
)
def test_what_does_not_cross_says_why(method, crossing, gain, reason):
    delta, text, groups = chooser(1, crossing=crossing, gain=gain, spread=0, groups=300)
    found = balance_point(delta, text, groups=groups, method=method, resamples=199)
    assert not found.crossed
    assert found.reason == reason
    assert np.isnan([found.value, found.lower, found.upper]).all()
    falls_beyond = method == "logistic" and reason in ("above", "below")
    assert np.isfinite(found.extrapolated) == falls_beyond
    if falls_beyond:
        assert abs(found.extrapolated) > 2
        assert np.sign(found.extrapolated) == np.sign(crossing)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("always", "reason"), [(1.0, "above"), (0.0, "below")])
def test_one_side_alone_is_no_balance(method, always, reason):
    delta = np.linspace(-2, 2, 60)
    found = balance_point(delta, np.full(60, always), method=method)
    assert (found.crossed, found.reason) == (False, reason)
    assert np.isnan(found.extrapolated)


def test_too_little_to_say():
    few = balance_point([-1.0, 1.0], [1, 0])
    assert few.reason == "too few"
    one = balance_point(np.zeros(20), [1, 0] * 10)
    assert one.reason == "one value"
    lone = balance_point(np.linspace(-1, 1, 20), [1, 0] * 10, groups=np.zeros(20))
    assert lone.reason == "too few"
    nothing = balance_point(np.full(20, np.nan), np.ones(20))
    assert (nothing.reason, nothing.cases) == ("too few", 0)
    assert {few.reason, one.reason} <= set(REASONS)


@pytest.mark.parametrize("method", METHODS)
def test_separated_sides_meet_in_the_middle(method):
    delta = np.concatenate([np.linspace(-1, -0.1, 20), np.linspace(0.5, 1, 20)])
    found = balance_point(delta, delta < 0, method=method, resamples=49)
    assert found.crossed
    if method != "binned":
        assert found.reason == "separated"
        assert found.value == pytest.approx(0.2)
    assert -0.5 < found.lower <= found.value <= found.upper < 0.8


@pytest.mark.parametrize("method", METHODS)
def test_separated_the_wrong_way_is_inverted(method):
    delta = np.linspace(-1, 1, 40)
    assert balance_point(delta, delta > 0.1, method=method, resamples=99).reason == "inverted"


def test_the_logistic_curve_is_that_of_an_independent_fit():
    delta, text, groups = chooser(5)
    fit = GLM(text, add_constant(delta), family=families.Binomial()).fit()
    found = balance_point(delta, text, groups=groups, resamples=0)
    assert found.value == pytest.approx(-fit.params[0] / fit.params[1], rel=1e-6)
    assert found.slope == pytest.approx(fit.params[1] / 4, rel=1e-6)
    assert np.isnan([found.lower, found.upper]).all()


def test_weighted_draws_are_fits_to_the_cases_repeated():
    delta, text, _ = chooser(6, groups=30)
    order = np.argsort(delta)
    delta, text = delta[order], text[order]
    weights = np.random.default_rng(0).integers(0, 4, (3, delta.size)).astype(float)
    places, slopes = logistic_crossings(delta, text, weights)
    for w, place, slope in zip(weights.astype(int), places, slopes, strict=True):
        x, y = np.repeat(delta, w), np.repeat(text, w)
        fit = GLM(y, add_constant(x), family=families.Binomial()).fit()
        assert place == pytest.approx(-fit.params[0] / fit.params[1], rel=1e-6)
        assert slope == pytest.approx(fit.params[1] / 4, rel=1e-6)
        whole = np.ones(x.size)
        assert isotonic_crossing(delta, text, w.astype(float)) == pytest.approx(
            isotonic_crossing(x, y, whole)
        )


def test_nearly_separated_sides_have_a_finite_curve():
    delta = np.linspace(-1, 1, 200)
    text = (delta < 0.1).astype(float)
    text[109], text[110] = 0.0, 1.0
    found = balance_point(delta, text, resamples=99)
    assert found.reason == ""
    assert found.value == pytest.approx(0.1, abs=0.02)
    assert np.isfinite(found.slope)


def test_step_curves_cross_where_they_must():
    delta = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    one = np.ones(5)
    # Rates 1, 1, 0.5 (level), 0, 0: the middle of what is level.
    x = np.repeat(delta, 2)
    y = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0.0])
    assert isotonic_crossing(x, y, np.ones(10)) == 0.0
    assert isotonic_crossing(delta, np.array([1, 1, 1, 0, 0.0]), one) == 0.25
    # A violation is pooled: 1, then three of ⅔, then 0.
    assert isotonic_crossing(delta, np.array([1, 0, 1, 1, 0.0]), one) == pytest.approx(0.625)
    assert isotonic_crossing(delta, np.ones(5), one) == np.inf
    assert isotonic_crossing(delta, np.zeros(5), one) == -np.inf


def test_a_binned_curve_that_crosses_thrice_takes_the_middle():
    rates = [0.8, 0.4, 0.6, 0.2]
    x = np.repeat(np.arange(4.0), 5)
    y = np.concatenate([np.arange(5) < 5 * r for r in rates]).astype(float)
    places = [0.75, 1.5, 2.25]
    assert binned_crossing(x, y, np.ones(20), 4) == pytest.approx(np.median(places))
    rising = binned_crossing(x, y[::-1].copy(), np.ones(20), 4)
    assert np.isnan(rising)
    # Below one half in the middle alone it comes back: no balance.
    back = np.concatenate([np.arange(5) < 5 * r for r in (0.8, 0.2, 0.2, 0.8)]).astype(float)
    assert binned_crossing(x, back, np.ones(20), 4) == np.inf


def test_bins_keep_equal_values_together_and_lose_no_case():
    delta = np.array([0.0] * 30 + [1.0] * 10 + [2.0] * 10)
    binned = equal_count_bins(delta, np.arange(50) % 2.0, bins=10)
    assert len(set(binned.delta.tolist())) == len(binned.delta)
    assert binned.weight.sum() == 50
    assert (binned.rate * binned.weight).sum() == pytest.approx(25)
    even = equal_count_bins(np.arange(100.0), np.zeros(100), bins=10)
    np.testing.assert_array_equal(even.weight, 10)


def test_what_falls_is_the_sign_of_the_fit():
    x = np.arange(4.0)
    y = np.array([1, 0, 1, 0.0])
    weights = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]], float)
    np.testing.assert_array_equal(falls(x, y, weights), [-1, 1, 0, -1])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="method is 'probit'"):
        balance_point([0.0], [1], method="probit")
    with pytest.raises(ValueError, match="not equally long"):
        balance_point([0.0, 1.0], [1])
    with pytest.raises(ValueError, match="follows_text is 1"):
        balance_point([0.0, 1.0], [1, 2])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(-1.2, 1.2),
    st.sampled_from(METHODS),
    st.sampled_from([0.5, 3.0, 40.0]),
)
@example(353, 1.125, "isotonic", 0.5)  # a block of the isotonic fit is one half but for rounding
def test_swapping_the_modalities_negates_the_point(seed, crossing, method, gain):
    delta, text, groups = chooser(seed, crossing=crossing, gain=gain, groups=40)
    one = balance_point(delta, text, groups=groups, method=method, resamples=0)
    other = balance_point(-delta, 1 - text, groups=groups, method=method, resamples=0)
    assert one.crossed == other.crossed
    swapped = {"above": "below", "below": "above"}
    assert other.reason == swapped.get(one.reason, one.reason)
    if one.crossed:
        assert other.value == pytest.approx(-one.value, abs=1e-6)
        assert other.slope == pytest.approx(one.slope, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 5), st.sampled_from(METHODS))
def test_another_unit_and_order_of_cases_change_nothing(seed, unit, method):
    delta, text, groups = chooser(seed, groups=40)
    one = balance_point(delta, text, groups=groups, method=method, resamples=20)
    order = np.random.default_rng(seed).permutation(delta.size)
    other = balance_point(
        unit * delta[order], text[order], groups=groups[order], method=method, resamples=20
    )
    assert other.crossed == one.crossed
    ours = np.array([one.value, one.lower, one.upper])
    theirs = np.array([other.value, other.lower, other.upper])
    np.testing.assert_allclose(theirs, unit * ours, rtol=1e-6, atol=1e-6)


def test_cases_that_follow_neither_are_left_out():
    delta, text, groups = chooser(8)
    more = np.concatenate([delta, np.linspace(-2, 2, 50)])
    outcome = np.concatenate([text, np.full(50, np.nan)])
    wider = np.concatenate([groups, np.arange(500, 550)])
    assert balance_point(more, outcome, groups=wider, resamples=50) == balance_point(
        delta, text, groups=groups, resamples=50
    )
