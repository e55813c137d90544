import numpy as np
import pytest
from scipy.linalg import toeplitz
from scipy.stats import multivariate_normal

from geometry.autoregression import NODES, RHO, calibration, draw, innovation, likelihood
from geometry.segmented import hinge_basis


def test_noise_drawn_has_its_covariance():
    rng = np.random.default_rng(0)
    noise = draw(rng, np.array([0.0, 0.8]), np.array([2.0, 0.5]), (40_000, 2, 5))
    for curve, (rho, sd) in enumerate([(0.0, 2.0), (0.8, 0.5)]):
        expected = sd**2 * toeplitz(rho ** np.arange(5.0))
        assert np.allclose(np.cov(noise[:, curve].T), expected, atol=0.04 * sd**2)


def test_likelihood_is_the_gaussian_one_at_its_maximum():
    e = draw(np.random.default_rng(1), np.array(0.5), np.array(1.0), (1, 1, 30))
    value, rho = likelihood(e, np.zeros(1))

    def dense(r):
        omega = toeplitz(r ** np.arange(30.0)) / (1 - r**2)
        variance = e[0, 0] @ np.linalg.solve(omega, e[0, 0]) / 30
        return multivariate_normal.logpdf(e[0, 0], cov=variance * omega)

    every = np.array([dense(r) for r in RHO])
    assert rho.item() == RHO[every.argmax()]
    assert value.item() == pytest.approx(every.max() + 15 * (1 + np.log(2 * np.pi)))


def test_small_residuals_are_topped_up_to_the_floor():
    tiny = 1e-9 * np.random.default_rng(2).standard_normal((1, 200))
    _, rho = likelihood(tiny, np.array([0.3]))
    assert rho.item() == 0.0
    assert innovation(tiny, np.array([0.3]), rho, 200).item() == pytest.approx(0.3)
    large = 1e3 * tiny / tiny.std()
    assert innovation(large, np.array([0.3]), np.zeros(1), 200).item() == pytest.approx(
        1e3, rel=0.01
    )


def test_calibration_removes_the_bias_of_short_curves():
    basis = hinge_basis(np.log10(np.arange(1.0, 39)))
    expected = calibration(basis, 1, 2, np.random.default_rng(3))
    assert expected.shape == (3, NODES.size)
    assert (np.diff(expected, axis=1) >= 0).all()
    # More knots, more bias: the estimate of 0.75 falls with every one.
    assert (np.diff(expected[:, 4]) < 0).all()
    assert expected[0, 4] < 0.72
