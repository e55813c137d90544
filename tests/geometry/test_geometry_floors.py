"""Quotients of what vanishes up to rounding are NaN; well above their floor they are what they were."""

from __future__ import annotations

import numpy as np
import pytest

from geometry.correlation import correlation, effective_count
from geometry.predictive import dirichlet_energy
from geometry.scaling import stress_1
from geometry.separation import in_metric
from geometry.similarity import cka_matrix, kernel_cka, linear_cka
from geometry.spectrum import alpha_req_fit

EPS = float(np.finfo(np.float64).eps)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_flat_spectrum_has_no_r2() -> None:
    """What rounding leaves of equal eigenvalues is no line; a real slope of 1e-6 is one."""
    noise = 1 + 8 * EPS * rng().standard_normal(60)
    found = alpha_req_fit(np.sort(noise)[::-1], ranks=(1, 60))
    assert np.isnan(found.r2)
    assert abs(found.alpha) < 1e-13
    ranks = np.arange(1.0, 61)
    assert alpha_req_fit(ranks**-1e-6, ranks=(1, 60)).r2 == pytest.approx(1, abs=1e-6)


def test_a_curve_constant_up_to_rounding_correlates_with_nothing() -> None:
    constant = np.array([0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2, 0.3, 0.1 * 3])
    assert np.ptp(constant) > 0
    other = np.arange(6.0)
    for pair in ((constant, other), (other, constant)):
        assert np.isnan(correlation(*pair).value)
        assert np.isnan(effective_count(*pair))
    small = 0.3 + 1e-9 * other  # 0.3 is known to 5e-17, so r to about 1e-7
    assert correlation(small, other).value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("n", range(5, 25))
def test_points_equally_far_apart_have_no_debiased_alignment(n: int, scale: float) -> None:
    """The kernel of a simplex is constant off its diagonal: HSIC₁ of it is 0, and the rest rounding."""
    turned = np.linalg.qr(rng().standard_normal((n, n)))[0]
    simplex = scale * turned
    cloud = rng().standard_normal((n, 3))
    assert np.isnan(linear_cka(simplex, cloud, debiased=True))
    assert np.isnan(kernel_cka(simplex @ simplex.T, cloud @ cloud.T, debiased=True))
    both = cka_matrix(np.stack([simplex, rng().standard_normal((n, n))]), debiased=True)
    assert np.isnan(both[0]).all()
    assert both[1, 1] == pytest.approx(1)
    # Moved by a millionth its distances differ, and it is like itself.
    moved = simplex + scale * 1e-4 * rng().standard_normal((n, n))
    assert linear_cka(moved, moved, debiased=True) == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_energy_of_a_constant_is_not_related_to_its_spread(size: float) -> None:
    kernel = np.ones((5, 5)) + np.eye(5)
    constant = np.full((5, 2), size * 0.1) + size * 0.1 * EPS * rng().integers(-1, 2, (5, 2))
    for convention in ("normalised", "relative"):
        assert np.isnan(dirichlet_energy(constant, kernel, convention=convention))
        varied = size * (0.1 + 1e-9 * rng().standard_normal((5, 2)))
        assert np.isfinite(dirichlet_energy(varied, kernel, convention=convention))


def test_a_point_at_the_mean_up_to_rounding_has_no_direction() -> None:
    points = rng().standard_normal((6, 4)) + 3
    at_mean = np.vstack([points, points.mean(axis=0)])
    assert in_metric(at_mean, "cosine") is None
    at_mean[-1] += 1e-6
    found = in_metric(at_mean, "cosine")
    assert found is not None
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)


def test_a_stress_below_the_root_of_rounding_is_kept() -> None:
    """1 − cos² knows nothing below 1e-8; the residual itself is right to its rounding, 1e-15."""
    points, moved = rng().standard_normal((2, 12, 2))
    assert stress_1(points, 2.5 * points) < 1e-14
    # Of first order in a displacement; at 1e-11 distances of about 1 are known to 1e-16, so it to 1e-4.
    small, large = (stress_1(points, points + size * moved) / size for size in (1e-11, 1e-4))
    assert small == pytest.approx(large, rel=1e-3)
