"""Spearman's ρ and its interval."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.rank_correlation import spearman

VALUES = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=5, max_size=30)


def normal_pairs(n: int, rho: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x, e = np.random.default_rng(seed).normal(size=(2, n))
    return x, rho * x + np.sqrt(1 - rho**2) * e


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_value_is_that_of_scipy_with_any_ties(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, float).T
    found = spearman(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(found.value)
    else:
        assert found.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
        assert not found.lower > found.value
        assert not found.upper < found.value


@pytest.mark.parametrize("ties", [False, True])
def test_error_is_that_of_the_jackknife(ties: bool) -> None:
    x, y = normal_pairs(600, 0.5, 1)
    if ties:
        x, y = np.round(x), np.where(y < 0.4, -np.inf, y)  # as zeros that rank lowest
    n = len(x)
    left_out = [spearman(np.delete(x, i), np.delete(y, i)).value for i in range(n)]
    jackknife = np.sqrt((n - 1) * np.var(left_out))
    assert spearman(x, y).standard_error == pytest.approx(jackknife, rel=0.02)


def test_error_by_group_is_that_of_the_jackknife_over_groups() -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 80, 400)
    shared = rng.normal(size=(2, 80))[:, groups]
    x, y = shared + 0.5 * rng.normal(size=(2, 400))
    left_out = [spearman(x[groups != g], y[groups != g]).value for g in range(80)]
    jackknife = np.sqrt(79 * np.var(left_out))
    found = spearman(x, y, groups)
    assert found.standard_error == pytest.approx(jackknife, rel=0.05)
    assert found.standard_error > 1.5 * spearman(x, y).standard_error


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_error_of_normal_pairs_is_that_of_bonett_and_wright(rho: float) -> None:
    found = spearman(*normal_pairs(20_000, rho, 3))
    on_z = found.standard_error / (1 - found.value**2)
    assert on_z == pytest.approx(np.sqrt((1 + found.value**2 / 2) / (20_000 - 3)), rel=0.04)


def test_value_of_normal_pairs_is_six_over_pi_arcsine_of_half() -> None:
    found = spearman(*normal_pairs(40_000, 0.7, 4))
    truth = 6 / np.pi * np.arcsin(0.35)
    assert abs(found.value - truth) < 4 * found.standard_error
    assert found.standard_error < 0.005


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_invariances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 40))
    groups = rng.integers(0, 9, 40)
    found = spearman(x, y, groups)
    np.testing.assert_allclose(spearman(np.exp(x), y**3, groups), found, atol=1e-12)
    np.testing.assert_allclose(spearman(y, x, groups), found, atol=1e-12)
    order = rng.permutation(40)
    np.testing.assert_allclose(spearman(x[order], y[order], -groups[order]), found, atol=1e-12)
    turned = spearman(-x, y, groups)
    np.testing.assert_allclose(
        [turned.value, turned.standard_error, turned.lower, turned.upper],
        [-found.value, found.standard_error, -found.upper, -found.lower],
        atol=1e-12,
    )


def test_what_has_no_correlation_or_no_interval() -> None:
    x = np.arange(6.0)
    perfect = spearman(x, 2 * x)
    assert perfect.value == 1.0
    assert np.isnan([perfect.lower, perfect.upper]).all()
    assert np.isnan(spearman(x, np.ones(6)).value)
    assert np.isnan(spearman(x[:3], x[:3] ** 2).value)
    one = spearman(x, np.array([1, 0, 3, 2, 5, 4.0]), np.zeros(6, int))
    assert one.value > 0
    assert np.isnan([one.standard_error, one.lower]).all()


def test_pairs_with_nan_are_left_out_and_counted() -> None:
    x, y = normal_pairs(50, 0.4, 5)
    holed = x.copy()
    holed[[3, 7]] = np.nan
    keep = ~np.isnan(holed)
    assert spearman(holed, y) == spearman(x[keep], y[keep])
    assert spearman(holed, y).pairs == 48


@pytest.mark.slow
@pytest.mark.parametrize(("rho", "size"), [(0.0, 1), (0.5, 1), (0.8, 1), (0.3, 8), (0.7, 8)])
def test_intervals_hold_the_truth(rho: float, size: int) -> None:
    """95 % intervals over 600 draws of 40 groups, alone or of 8 pairs that share half their variance."""
    rng = np.random.default_rng(6)
    covariance = [[1, rho], [rho, 1]]
    held, narrow, draws = 0, 0, 600
    truth = 6 / np.pi * np.arcsin(rho / 2)
    groups = np.repeat(np.arange(40), size)
    for _ in range(draws):
        own = rng.multivariate_normal([0, 0], covariance, 40 * size)
        shared = rng.multivariate_normal([0, 0], covariance, 40)[groups]
        x, y = (own if size == 1 else (own + shared) / np.sqrt(2)).T
        found, alone = spearman(x, y, groups), spearman(x, y)
        held += found.lower <= truth <= found.upper
        narrow += alone.lower <= truth <= alone.upper
    assert held / draws > 0.92
    if size > 1:
        assert narrow / draws < held / draws  # what ignoring the groups costs
