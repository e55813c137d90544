"""Correlation against scipy, closed forms and the numbers a paper prints."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.correlation import (
    correlation,
    effective_count,
    implied_n,
    p_value,
    phase_randomised,
)

# arXiv 2509.23024, Table 9: SciQ accuracy against α-ReQ and RankMe; r and its printed p.
PYTHIA = [
    (0.810, 1.50e-5), (-0.759, 1.04e-4), (0.668, 1.29e-3), (-0.713, 4.18e-4), (0.694, 6.88e-4),
    (-0.635, 2.63e-3), (0.837, 4.20e-6), (-0.885, 2.19e-7), (0.836, 4.42e-6), (-0.839, 3.79e-6),
]  # fmt: skip
OLMO = [(0.540, 4.920e-7), (-0.616, 3.201e-9)]


def pair(n: int, seed: int, *, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=n)
    return tuple(share * common + (1 - share) * rng.normal(size=n) for _ in range(2))


@settings(deadline=None)
@given(st.integers(4, 60), st.integers(0, 500))
def test_value_and_p_are_scipys(n, seed):
    x, y = pair(n, seed)
    for method, reference in (
        ("pearson", scipy.stats.pearsonr),
        ("spearman", scipy.stats.spearmanr),
    ):
        found = correlation(x, y, method=method, surrogates=0)
        wanted = reference(x, y)
        np.testing.assert_allclose(found.value, wanted.statistic, atol=1e-12)
        np.testing.assert_allclose(found.p, wanted.pvalue, rtol=1e-7, atol=1e-14)
        assert found.n == n


def test_the_interval_of_pearson_is_scipys():
    x, y = pair(25, 1)
    found = correlation(x, y, level=0.9)
    wanted = scipy.stats.pearsonr(x, y).confidence_interval(0.9)
    np.testing.assert_allclose([found.lower, found.upper], wanted, rtol=1e-12)


def test_the_interval_of_spearman_covers_as_it_says():
    # Bivariate normal: ρ_S = 6/π asin(ρ/2).
    rho, n, rng = 0.6, 30, np.random.default_rng(0)
    truth = 6 / np.pi * np.arcsin(rho / 2)
    covered = 0
    for _ in range(500):
        x, e = rng.normal(size=(2, n))
        found = correlation(x, rho * x + np.sqrt(1 - rho**2) * e, method="spearman", surrogates=0)
        covered += found.lower <= truth <= found.upper
    assert 0.925 <= covered / 500 <= 0.975


def test_spearman_ranks_ties_and_follows_any_monotone_map():
    x, y = pair(40, 2)
    x = np.round(x, 1)
    found = correlation(x, y, method="spearman", surrogates=0)
    np.testing.assert_allclose(found.value, scipy.stats.spearmanr(x, y).statistic, atol=1e-12)
    bent = correlation(np.exp(x), y**3, method="spearman", surrogates=0)
    np.testing.assert_allclose([bent.value, bent.p], [found.value, found.p], rtol=1e-10)


@pytest.mark.parametrize(("rows", "n"), [(PYTHIA, 20), (OLMO, 76)])
def test_the_papers_p_values_are_of_n_checkpoints(rows, n):
    for r, p in rows:
        # r is printed to three digits: p lies between those of its two ends, at n and at no other n.
        low, high = (p_value(abs(r) + half, n) for half in (5e-4, -5e-4))
        assert low <= p <= high
        assert not p_value(abs(r) + 5e-4, n - 1) <= p <= p_value(abs(r) - 5e-4, n - 1)
        assert not p_value(abs(r) + 5e-4, n + 1) <= p <= p_value(abs(r) - 5e-4, n + 1)
        assert round(implied_n(r, p)) == n


@settings(deadline=None)
@given(st.floats(0.05, 0.95), st.integers(3, 400))
def test_implied_n_undoes_p(r, n):
    p = p_value(r, n)
    if p > 1e-280:
        np.testing.assert_allclose(implied_n(-r, p), n, rtol=1e-6)


def test_implied_n_knows_what_has_no_answer():
    for r, p in ((0.0, 0.1), (1.0, 0.1), (0.5, 0.0), (0.5, 1.0), (float("nan"), 0.1)):
        assert np.isnan(implied_n(r, p))


@settings(deadline=None)
@given(st.integers(0, 300), st.floats(-50, 50), st.floats(0.1, 9))
def test_pearson_ignores_place_and_scale_and_is_symmetric(seed, shift, scale):
    x, y = pair(15, seed)
    one, other = (correlation(*c, surrogates=0) for c in ((x, y), (y * scale + shift, x)))
    np.testing.assert_allclose(one[:7], other[:7], rtol=1e-6)
    flipped = correlation(x, -y, surrogates=0)
    np.testing.assert_allclose(flipped.value, -one.value, rtol=1e-12)
    np.testing.assert_allclose([-flipped.upper, -flipped.lower], [one.lower, one.upper])


def test_perfect_constant_missing_and_short_curves():
    x = np.arange(6.0)
    perfect = correlation(x, 2 * x + 1)
    assert (perfect.value, perfect.lower, perfect.upper, perfect.p) == (1.0, 1.0, 1.0, 0.0)
    assert np.isnan(correlation(x, np.ones(6)).value)
    assert np.isnan(correlation(x, np.array([0, 1, 2, np.nan, 4, 5])).value)
    assert np.isnan(correlation(x[:2], x[:2]).p)
    three = correlation(np.array([0.0, 1.0, 5.0]), np.array([0.0, 2.0, 3.0]))
    assert np.isfinite(three.p)
    assert np.isnan(three.lower)
    with pytest.raises(ValueError, match="pearson, spearman"):
        correlation(x, x, method="kendall")
    with pytest.raises(ValueError, match="one length"):
        correlation(x, x[:5])


def autoregression(n: int, a: float, rng: np.random.Generator) -> np.ndarray:
    x = rng.normal(size=n + 100)
    for i in range(1, x.size):
        x[i] += a * x[i - 1]
    return x[100:]


def test_effective_count_in_closed_form():
    alternating = np.tile([1.0, -1.0], 5)  # lag-1: −9/10, and 10 · 0.19/1.81 is below 2
    assert effective_count(alternating, alternating) == 2
    ramp = np.arange(4.0) - 1.5  # lag-1: (−1.5·−.5 + −.5·.5 + .5·1.5)/5 = 0.25
    np.testing.assert_allclose(effective_count(ramp, ramp), 4 * (1 - 1 / 16) / (1 + 1 / 16))
    # A product below 0 takes nothing away.
    assert effective_count(np.tile([1.0, -1.0], 2), ramp) == 4
    assert np.isnan(effective_count(ramp, np.zeros(4)))


def test_unrelated_smooth_curves_fool_the_plain_p_and_the_others_less():
    rng = np.random.default_rng(5)
    plain = effective = surrogate = 0
    for seed in range(200):
        x, y = (autoregression(60, 0.9, rng) for _ in range(2))
        found = correlation(x, y, surrogates=200, seed=seed)
        plain += found.p < 0.05
        effective += found.p_effective < 0.05
        surrogate += found.p_surrogate < 0.05
    assert plain > 50  # of 200, where 10 are promised
    assert effective < 30
    assert surrogate < 30


def test_a_common_drift_is_not_in_the_differences():
    rng = np.random.default_rng(3)
    drift = np.linspace(0, 30, 40)
    x, y = (drift + rng.normal(size=40) for _ in range(2))
    found = correlation(x, y)
    assert found.value > 0.98
    assert abs(found.differences) < 0.4
    wanted = scipy.stats.pearsonr(np.diff(x), np.diff(y))
    np.testing.assert_allclose(
        [found.differences, found.p_differences], [wanted.statistic, wanted.pvalue], rtol=1e-9
    )


@settings(deadline=None)
@given(st.integers(4, 41), st.integers(0, 100))
def test_surrogates_keep_mean_and_spectrum(n, seed):
    x = np.random.default_rng(seed).normal(size=n).cumsum()
    made = phase_randomised(x, 5, seed=seed)
    np.testing.assert_allclose(made.mean(axis=1), x.mean(), atol=1e-9)
    wanted = np.abs(np.fft.rfft(x))
    np.testing.assert_allclose(np.abs(np.fft.rfft(made)), np.tile(wanted, (5, 1)), atol=1e-8)
    assert np.ptp(made, axis=0).max() > 1e-6
