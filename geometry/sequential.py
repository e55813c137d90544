"""How many breaks do these curves have: k against more, for k = 0, 1, …, by simulation.

The question at each k is whether some number m of breaks above k, up to the most allowed, fits
better than noise would let it. Asking only about k + 1 is not enough: a curve that falls, rises and
falls again is no better described by one break than by none, and the search would end at none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geometry.autoregression import NODES, calibration, draw, innovation, likelihood
from geometry.segmented import Array, Basis, Index, fit, paths


@dataclass(frozen=True)
class Noise:
    """AR(1) noise of each curve: coefficient and standard deviation, both (curve,)."""

    rho: Array
    sd: Array


@dataclass(frozen=True)
class Breaks:
    """The breaks found by the sequence of tests.

    Attributes
    ----------
    knots : for each number of breaks up to the most, the best knots (k,), indices into ``basis.knots``.
    count : the number of breaks the tests stopped at.
    p_values : (test,) of each test made, the last above alpha unless the most breaks were found.
    expected : (breaks + 1, node) calibration of ρ, see `geometry.autoregression.calibration`.
    """

    knots: list[Index]
    count: int
    p_values: Array
    expected: Array


def sequential_breaks(
    basis: Basis,
    y: Array,
    *,
    floor: Array,
    most: int,
    alpha: float,
    simulations: int,
    rng: np.random.Generator,
) -> Breaks:
    """Test k breaks against more, from k = 0 until a test is not significant.

    The statistic is the largest, over m = k + 1 … most, of the AR(1) log-likelihood ratio of m
    breaks against k, each standardised by its mean and spread under the null. The null is drawn
    from the fitted k-break curves with their AR(1) residuals, and fitted again from the start.

    Parameters
    ----------
    y : (curve, point), of about unit scale, no curve constant.
    floor : (curve,) least standard deviation of the residuals.

    Notes
    -----
    Memory: (simulations, curve, basis) float64, a few times over.
    """
    curves, points = y.shape
    expected = calibration(basis, curves, most, rng)
    found, observed = likelihoods(basis, y[None], most, floor)
    p_values: list[float] = []
    count = 0
    while count < most:
        mean = fit(basis, y[None], found[count])[0][0]
        noise = estimate_noise(y - mean, floor, expected[count], points - 2 - 2 * count)
        lines = mean + draw(rng, noise.rho, noise.sd, (simulations, curves, points))
        simulated = likelihoods(basis, lines, most, floor)[1]
        ratios = np.hstack([observed, simulated])
        p_values.append(p_value(ratios[count + 1 :] - ratios[count]))
        if p_values[-1] > alpha:
            break
        count += 1
    knots = [chosen[0] for chosen in found]
    return Breaks(knots, count, np.array(p_values), expected)


def estimate_noise(residuals: Array, floor: Array, expected: Array, free: int) -> Noise:
    """Return the AR(1) noise behind residuals (curve, point) of a fit.

    Parameters
    ----------
    expected : (node,) mean estimate of ρ for each node, for a fit with that many breaks.
    free : degrees of freedom left by the fit.
    """
    raw = likelihood(residuals, floor)[1]
    rho = np.interp(raw, expected, NODES)
    return Noise(rho, innovation(residuals, floor, rho, free) / np.sqrt(1.0 - rho**2))


def likelihoods(basis: Basis, y: Array, most: int, floor: Array) -> tuple[list[Index], Array]:
    """Return the knots and the log-likelihood (breaks + 1, batch) for every number of breaks."""
    found = paths(basis, y, most)
    values = [likelihood(y - fit(basis, y, k)[0], floor)[0].sum(axis=1) for k in found]
    return found, np.array(values)


def p_value(ratios: Array) -> float:
    """Return the p-value of column 0 among the rest; rows are the alternatives."""
    null = ratios[:, 1:]
    spread = np.maximum(null.std(axis=1, keepdims=True), 1e-9)
    largest = ((ratios - null.mean(axis=1, keepdims=True)) / spread).max(axis=0)
    return float((1 + (largest[1:] >= largest[0]).sum()) / largest.size)
