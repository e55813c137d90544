"""Scaling: distances that fit a plane are kept, stress by its definition, nothing left to chance."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import pdist, squareform
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

from geometry.scaling import SCALING_METHODS, classical_mds, scale, stress_1

RNG = np.random.default_rng


@pytest.mark.parametrize("method", ["classical", "smacof"])
@pytest.mark.parametrize("features", [2, 7, 60])
def test_a_plane_is_kept(method, features):
    flat = RNG(0).normal(size=(40, 2)) * [3, 1]
    x = flat @ ortho_group.rvs(max(features, 2), random_state=1)[:2] + 5
    found = scale(x, method=method)
    np.testing.assert_allclose(pdist(found.positions), pdist(flat), rtol=1e-6)
    assert found.stress == pytest.approx(0, abs=1e-6)


def test_classical_is_the_leading_components():
    x = RNG(1).normal(size=(50, 12)) * np.arange(12, 0, -1)
    wanted = PCA(3).fit_transform(x)
    found = scale(x, dimensions=3).positions
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-9)
    largest = np.abs(found).argmax(axis=0)
    assert (found[largest, range(3)] > 0).all()
    # From the distances alone, and from the other side of the matrix, it is the same.
    np.testing.assert_allclose(classical_mds(squareform(pdist(x)), dimensions=3), found, atol=1e-9)
    wide = np.hstack([x, np.zeros((50, 100))])
    np.testing.assert_allclose(scale(wide, dimensions=3).positions, found, atol=1e-9)


def test_stress_is_the_least_over_scales():
    x = RNG(2).normal(size=(30, 5))
    y = RNG(3).normal(size=(30, 2))
    delta, d = pdist(x), pdist(y)

    def kruskal(b):
        return np.sqrt(((b * d - delta) ** 2).sum() / (b * d @ (b * d)))

    least = minimize_scalar(kruskal, bounds=(0.1, 10), method="bounded").fun
    assert stress_1(x, y) == pytest.approx(least, rel=1e-6)
    assert stress_1(x, 17 * y) == pytest.approx(stress_1(x, y))
    assert stress_1(x, 3 * x) == pytest.approx(0, abs=1e-7)
    assert np.isnan(stress_1(x, np.zeros((30, 2))))


def test_smacof_has_less_stress_and_tsne_keeps_neighbours():
    rng = RNG(4)
    labels = np.arange(90) % 3
    x = rng.normal(size=(90, 20)) + 8 * np.eye(20)[labels]
    found = {name: scale(x, method=name) for name in SCALING_METHODS}
    assert found["smacof"].stress < found["classical"].stress
    for one in found.values():
        assert one.positions.shape == (90, 2)
        assert np.isfinite(one.stress)
        near = squareform(pdist(one.positions))
        np.fill_diagonal(near, np.inf)
        assert (labels[near.argmin(axis=1)] == labels).all()


@pytest.mark.parametrize("method", list(SCALING_METHODS))
def test_twice_the_same(method):
    x = RNG(5).normal(size=(60, 6))
    one, two = scale(x, method=method), scale(x, method=method)
    np.testing.assert_array_equal(one.positions, two.positions)
    assert one.stress == two.stress


def test_edges():
    x = RNG(6).normal(size=(12, 4))
    x[3, 1] = np.nan
    assert np.isnan(scale(x).positions).all()
    same = scale(np.ones((12, 4)), method="smacof")
    assert (same.positions == 0).all()
    assert np.isnan(same.stress)
    assert scale(RNG(7).normal(size=(12, 1))).positions.shape == (12, 2)
    with pytest.raises(ValueError, match="classical, smacof, tsne"):
        scale(x, method="umap")
    with pytest.raises(ValueError, match="more than 2 samples"):
        scale(x[:2])
    with pytest.raises(ValueError, match="not symmetric"):
        classical_mds(np.arange(16.0).reshape(4, 4))
    with pytest.raises(ValueError, match=r"give \(n, n\)"):
        classical_mds(np.zeros((4, 3)))
