"""Infinitesimal jackknife of spectra: finite differences, closed forms, coverage, folds."""

import numpy as np
import pytest
from scipy import stats

from geometry.intervals import (
    alpha_req_interval,
    fold_interval,
    leave_out_interval,
    rankme_interval,
    spectrum_intervals,
)
from geometry.spectrum import RANKME_CONVENTIONS, alpha_req, eigenvalues, rankme

RNG = np.random.default_rng


def cloud(seed, n, dim, exponent=1.0, mean=0.3):
    rng = RNG(seed)
    return rng.standard_normal((n, dim)) * np.arange(1.0, dim + 1) ** (-exponent / 2) + mean


def reweighted_spectrum(x, weights, centered):
    """Spectrum of the cloud with sample weights, by the covariance written out."""
    w = weights / weights.sum()
    y = x - w @ x if centered else x
    values = np.linalg.eigvalsh((y * w[:, None]).T @ y)[::-1]
    return np.where(values > 1e-13, values, 0.0)[: min(x.shape)]  # n centred samples: one null


def jackknife(x, statistic, centered, groups=None):
    """Standard error from finite differences in the weight of each cluster."""
    groups = np.arange(len(x)) if groups is None else groups
    step, slopes = 1e-4, []
    for label in np.unique(groups):
        up, down = (
            statistic(reweighted_spectrum(x, 1 + s * step * (groups == label), centered))
            for s in (1, -1)
        )
        slopes.append((up - down) / (2 * step))
    k = len(slopes)
    return np.sqrt(np.sum(np.square(slopes)) * k / (k - 1))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("shape", [(60, 12), (12, 30)])
@pytest.mark.parametrize("name", list(RANKME_CONVENTIONS))
def test_rankme_error_is_the_derivative_by_sample_weight(name, shape, grouped):
    x, rule = cloud(0, *shape), RANKME_CONVENTIONS[name]
    groups = np.arange(shape[0]) // 3 if grouped else None
    estimate = rankme_interval(x, convention=name, groups=groups)
    expected = jackknife(
        x, lambda values: np.log(rankme(values, convention=name)), rule.centered, groups
    )
    assert estimate.standard_error == pytest.approx(expected, rel=1e-4)
    assert estimate.value == pytest.approx(
        rankme(eigenvalues(x, centered=rule.centered), convention=name), rel=1e-12
    )


@pytest.mark.parametrize("shape", [(60, 12), (12, 30)])
def test_alpha_error_is_the_derivative_by_sample_weight(shape):
    x, ranks = cloud(1, *shape), (2, 9)
    estimate = alpha_req_interval(x, ranks=ranks)
    expected = jackknife(x, lambda values: alpha_req(values, ranks=ranks), True)
    assert estimate.standard_error == pytest.approx(expected, rel=1e-4)
    assert estimate.value == pytest.approx(alpha_req(eigenvalues(x), ranks=ranks), rel=1e-12)


def test_bounds_are_students_on_the_stated_scale():
    x, groups = cloud(2, 40, 10), np.repeat(np.arange(5), 8)
    t = stats.t.ppf(0.95, df=4)
    value, error, lower, upper = rankme_interval(x, groups=groups, level=0.9)
    np.testing.assert_allclose([lower, upper], value * np.exp([-t * error, t * error]))
    value, error, lower, upper = alpha_req_interval(x, ranks=(1, 8), groups=groups, level=0.9)
    np.testing.assert_allclose([lower, upper], [value - t * error, value + t * error])


def test_groups_are_names_only():
    x = cloud(3, 30, 6)
    labels = RNG(3).integers(0, 7, 30)
    renamed = np.array([41, -5, 3, 900, 17, 0, 2])[labels]
    assert rankme_interval(x, groups=renamed) == pytest.approx(rankme_interval(x, groups=labels))
    assert rankme_interval(x, groups=np.arange(30)) == rankme_interval(x)
    # A cloud in which every sample stands twice is known no better than the cloud itself.
    doubled = rankme_interval(np.repeat(x, 2, axis=0), groups=np.repeat(np.arange(30), 2))
    assert doubled == pytest.approx(rankme_interval(x), rel=1e-9)


def test_one_decomposition_gives_what_the_two_give():
    x = cloud(4, 300, 120).astype(np.float32)
    groups = np.arange(300) // 2
    both = spectrum_intervals(x, convention="li2025_code", groups=groups)
    assert both.rankme == pytest.approx(rankme_interval(x, convention="li2025_code", groups=groups))
    assert both.alpha == pytest.approx(alpha_req_interval(x, groups=groups))
    np.testing.assert_allclose(both.eigenvalues, eigenvalues(x), rtol=1e-9)


def test_rotation_and_scale_leave_errors_alone():
    x = cloud(5, 80, 15)
    turn = stats.ortho_group.rvs(15, random_state=RNG(5))
    before, after = (spectrum_intervals(y, ranks=(2, 14)) for y in (x, 7.0 * x @ turn))
    assert after.rankme == pytest.approx(before.rankme, rel=1e-9)
    assert after.alpha == pytest.approx(before.alpha, rel=1e-9)


def test_two_directions_closed_form():
    # 200 points at a e1 and 300 at b e2, uncentred: p is the first direction's share of the trace.
    a, b, n = 2.0, 1.0, 500
    x = np.zeros((n, 2))
    x[:200, 0], x[200:, 1] = a, b
    trace = (200 * a**2 + 300 * b**2) / n
    p = 200 * a**2 / n / trace
    # Weight on a point of either kind moves p by (1 − p) a² / trace or −p b² / trace, and
    # dS/dp = ln((1 − p) / p).
    moves = np.repeat([(1 - p) * a**2 / trace, -p * b**2 / trace], [200, 300])
    expected = np.abs(np.log((1 - p) / p)) * np.sqrt(np.sum(moves**2) / (n * (n - 1)))
    estimate = rankme_interval(x, convention="lambda_uncentered")
    assert estimate.standard_error == pytest.approx(expected, rel=1e-10)


def test_tied_eigenvalues_do_not_depend_on_the_basis():
    # The corners of a cross: every nonzero eigenvalue is the same.
    corners = np.concatenate([np.eye(8), -np.eye(8)])
    turns = [stats.ortho_group.rvs(8, random_state=RNG(seed)) for seed in (6, 7)]
    first, second = (spectrum_intervals(corners @ turn, ranks=(2, 7)) for turn in turns)
    assert first.rankme.value == pytest.approx(8.0)
    for a, b in ((first.alpha, second.alpha), (first.rankme, second.rankme)):
        assert a.standard_error == pytest.approx(b.standard_error, abs=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_propagates(bad):
    x = cloud(8, 200, 110)
    x[7, 3] = bad
    for estimate in (rankme_interval(x), alpha_req_interval(x)):
        assert np.isnan(estimate).all()
    assert np.isnan(spectrum_intervals(x).eigenvalues).all()


def test_undefined_alpha_leaves_rankme():
    both = spectrum_intervals(cloud(9, 90, 20))
    assert np.isnan(both.alpha).all()
    assert np.isfinite(both.rankme).all()
    assert np.isnan(rankme_interval(np.ones((20, 4)))).all()


def test_bad_arguments_are_named():
    x = cloud(10, 20, 5)
    with pytest.raises(ValueError, match="'garrido2022' is uncentered"):
        spectrum_intervals(x, convention="garrido2022")
    with pytest.raises(ValueError, match="groups has shape"):
        rankme_interval(x, groups=np.zeros(3, int))
    lone = rankme_interval(x, groups=np.zeros(20, int))
    assert lone.value == rankme_interval(x).value
    assert np.isnan(lone[1:]).all()  # one group tells nothing of others
    for level in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match="level is"):
            rankme_interval(x, level=level)
    with pytest.raises(ValueError, match="ranks is"):
        alpha_req_interval(x, ranks=(3, 3))


def test_fold_interval_is_students_about_the_whole():
    values = RNG(11).standard_normal((2, 3, 9))
    estimate = fold_interval(values, level=0.99)
    t = stats.t.ppf(0.995, df=7)
    error = stats.sem(values[..., 1:], axis=-1)
    np.testing.assert_array_equal(estimate.value, values[..., 0])
    np.testing.assert_allclose(estimate.standard_error, error)
    np.testing.assert_allclose(estimate.lower, values[..., 0] - t * error)
    np.testing.assert_allclose(estimate.upper, values[..., 0] + t * error)


def test_fold_interval_propagates_nan_and_needs_two_folds():
    values = np.ones((3, 5))
    values[0, 2], values[1, 0] = np.nan, np.nan
    estimate = fold_interval(values)
    np.testing.assert_array_equal(np.isnan(estimate.lower), [True, True, False])
    np.testing.assert_array_equal(np.isnan(estimate.standard_error), [True, False, False])
    np.testing.assert_array_equal(leave_out_interval(values).lower, estimate.lower)
    assert fold_interval([1.0, 2.0, 3.0]).lower < 1.0
    for interval in (fold_interval, leave_out_interval):
        for bad in (np.ones(2), np.float64(1.0)):
            with pytest.raises(ValueError, match="values has shape"):
                interval(bad)
        with pytest.raises(ValueError, match="level is"):
            interval(np.ones(4), level=2)


def test_leaving_out_equals_folds_for_a_mean():
    folds = RNG(13).standard_normal((4, 8))
    others = (folds.sum(axis=-1, keepdims=True) - folds) / 7
    mean = folds.mean(axis=-1, keepdims=True)
    a = fold_interval(np.concatenate([mean, folds], axis=-1))
    b = leave_out_interval(np.concatenate([mean, others], axis=-1))
    np.testing.assert_allclose(b, a, rtol=1e-10)


def test_leaving_out_agrees_with_the_infinitesimal_jackknife():
    x = cloud(14, 400, 12)
    left = [np.log(rankme(eigenvalues(np.delete(x, i, axis=0)))) for i in range(400)]
    estimate = leave_out_interval([np.log(rankme(eigenvalues(x))), *left])
    direct = rankme_interval(x).standard_error
    assert estimate.standard_error == pytest.approx(direct, rel=0.1)


def test_intervals_cover_the_expectation_of_the_estimate():
    # 200 draws of Gaussian clouds at N = 7 d; 95 % nominal, the binomial's 0.1 % point is 179.
    draws, n, scale = 200, 448, np.arange(1.0, 65.0) ** -0.5
    rng, ranks = RNG(12), (4, 40)
    reference = [eigenvalues(rng.standard_normal((n, 64)) * scale) for _ in range(600)]
    targets = np.mean([(np.log(rankme(v)), alpha_req(v, ranks=ranks)) for v in reference], axis=0)
    hits = np.zeros(2)
    for _ in range(draws):
        both = spectrum_intervals(rng.standard_normal((n, 64)) * scale, ranks=ranks)
        r, a = both.rankme, both.alpha
        hits += [np.log(r.lower) < targets[0] < np.log(r.upper), a.lower < targets[1] < a.upper]
    assert (hits >= 179).all()
    assert (hits < draws).all()  # an interval that never misses is too wide
