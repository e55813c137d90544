"""Error rates of the change points on Pythia's schedule: 100 draws a case, with fixed seeds."""

import numpy as np
import pytest

from geometry.autoregression import draw
from geometry.phases import change_points

# Steps 1, 2, 4, …, 512, 1000, 2000, …, 143000; the 154th checkpoint is step 0, which is not fitted.
STEPS = np.concatenate([2.0 ** np.arange(10), 1000.0 * np.arange(1, 144)])
X = np.log10(STEPS)
NAMES = ("log_rankme", "alpha", "loss")
DRAWS = 100

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def found_in(means, *, rho, sd):
    """Boundaries, as numbers of checkpoints, in every draw."""
    shape = (DRAWS, *np.shape(means))
    noise = draw(np.random.default_rng(11), np.array(rho), np.array(sd), shape)
    for seed, drawn in enumerate(noise):
        curves = dict(zip(NAMES[: len(means)], means + drawn, strict=True))
        found = change_points(curves, steps=STEPS, simulations=99, seed=seed)
        yield np.searchsorted(STEPS, found.boundaries)


def line(knot, before, after):
    return before * (X - X[0]) + (after - before) * np.maximum(X - X[knot], 0)


@pytest.mark.parametrize(("rho", "curves"), [(0.0, 1), (0.5, 1), (0.8, 1), (0.5, 2), (0.5, 3)])
def test_lines_break_in_at_most_twice_the_nominal_share(rho, curves):
    lines = np.outer(np.arange(1.0, curves + 1), X)
    alarms = sum(places.size > 0 for places in found_in(lines, rho=rho, sd=1.0))
    assert alarms <= 2 * 0.05 * DRAWS


def test_planted_breaks_are_found_within_one_checkpoint():
    knots = [6, 12]
    means = [
        line(6, -2.0, 1.5) + line(12, 0.0, -2.5),
        line(6, 1.0, -1.2) + line(12, 0.0, 1.8),
    ]
    hits = sum(
        places.size == 2 and (np.abs(places - knots) <= 1).all()
        for places in found_in(np.array(means), rho=0.5, sd=0.05)
    )
    assert hits >= 90


def test_breaks_of_different_curves_are_found_jointly():
    knots = [6, 12]
    # One curve turns at each boundary, the third at neither.
    means = np.array([line(6, -1.5, 1.0), line(12, 0.8, -1.2), line(6, 1.0, 1.0)])
    hits = sum(
        places.size == 2 and (np.abs(places - knots) <= 1).all()
        for places in found_in(means, rho=0.5, sd=0.05)
    )
    assert hits >= 90
