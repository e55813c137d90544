from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.segmented import GAP, fit, hinge_basis, most_breaks, paths


def _columns(x, knots):
    return np.column_stack([np.ones_like(x), x, *(np.maximum(x - x[k], 0) for k in knots)])


def _rss(x, y, knots):
    columns = _columns(x, knots)
    return ((y.T - columns @ np.linalg.lstsq(columns, y.T)[0]) ** 2).sum(axis=0)


def test_fit_is_the_least_squares_fit_of_the_hinges():
    rng = np.random.default_rng(0)
    x = np.log10(np.array([2.0**i for i in range(10)] + [1000.0 * i for i in range(1, 144)]))
    basis = hinge_basis(x)
    y = rng.standard_normal((2, 3, x.size))
    chosen = np.array([[2, 30, 80], [0, 5, 140]])
    fitted, slopes = fit(basis, y, chosen)
    for b in range(2):
        columns = _columns(x, basis.knots[chosen[b]])
        weights = np.linalg.lstsq(columns, y[b].T)[0]
        assert np.allclose(fitted[b].T, columns @ weights, atol=1e-9)
        assert np.allclose(slopes[b], np.cumsum(weights[1:], axis=0), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("curves", [1, 2])
def test_one_break_is_the_best_of_all(curves):
    x = np.sort(np.random.default_rng(1).uniform(0, 4, 24))
    y = np.random.default_rng(2).standard_normal((6, curves, x.size)).cumsum(axis=-1)
    basis = hinge_basis(x)
    found = basis.knots[paths(basis, y, 1)[1][:, 0]]
    for b in range(6):
        scores = {k: np.log(_rss(x, y[b], [k])).sum() for k in range(GAP, x.size - GAP + 1)}
        assert found[b] == min(scores, key=scores.get)


def test_two_planted_breaks_are_the_best_of_all_pairs():
    x = np.linspace(0, 3, 26)
    rng = np.random.default_rng(3)
    means = _columns(x, [8, 17]) @ np.array([[4, -2, 3.5, -2.0], [1, 1, -2, 1.5]]).T
    y = means.T + 0.1 * rng.standard_normal((8, 2, x.size))
    basis = hinge_basis(x)
    found = basis.knots[paths(basis, y, 2)[2]]
    pairs = [p for p in combinations(basis.knots, 2) if p[1] - p[0] >= GAP]
    for b in range(8):
        scores = [np.log(_rss(x, y[b], p)).sum() for p in pairs]
        assert tuple(found[b]) == pairs[int(np.argmin(scores))]


@settings(max_examples=40, deadline=None)
@given(points=st.integers(6, 40), seed=st.integers(0, 999))
def test_there_is_always_room_and_segments_have_three_checkpoints(points, seed):
    rng = np.random.default_rng(seed)
    basis = hinge_basis(np.cumsum(rng.uniform(0.02, 1, points)))
    most = most_breaks(points)
    chosen = basis.knots[paths(basis, rng.standard_normal((4, 2, points)), most)[most]]
    edges = np.hstack([np.zeros((4, 1), int), chosen, np.full((4, 1), points)])
    assert chosen.shape == (4, most)
    assert (np.diff(edges, axis=1) >= GAP).all()


def test_knots_do_not_depend_on_scale_or_line():
    rng = np.random.default_rng(5)
    x = np.linspace(0, 3, 30)
    y = rng.standard_normal((3, 2, 30)).cumsum(axis=-1)
    moved = y * np.array([1e-3, 70.0])[:, None] + np.array([2.0, -5.0])[:, None] * x
    basis = hinge_basis(x)
    # A line added changes nothing a broken line cannot follow, a scale only shifts the criterion.
    for one, other in zip(paths(basis, y, 3), paths(basis, moved, 3), strict=True):
        assert np.array_equal(one, other)


def test_a_perfect_broken_line_is_recovered():
    x = np.log10(np.arange(1.0, 41))
    y = _columns(x, [5, 20]) @ np.array([4, -2, 3.5, -2.0])
    basis = hinge_basis(x)
    chosen = paths(basis, y[None, None], 2)[2]
    assert basis.knots[chosen[0]].tolist() == [5, 20]
    fitted, slopes = fit(basis, y[None, None], chosen)
    assert np.allclose(fitted, y)
    assert np.allclose(slopes[0, :, 0], [-2, 1.5, -0.5])
