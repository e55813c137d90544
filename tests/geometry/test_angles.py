"""Principal angles: planes turned by a known angle, plain projections, and random subspaces."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.linalg import subspace_angles
from scipy.stats import ortho_group

from geometry.angles import Eigenspace, eigenspace, eigenspace_angles, random_largest_angle

RNG = np.random.default_rng


def cloud(seed, n=60, d=12, decay=0.6):
    rng = RNG(seed)
    return rng.standard_normal((n, d)) * decay ** np.arange(d) + rng.standard_normal(d)


def axes(k, d, values=None):
    return Eigenspace(
        np.arange(k + 1, 0, -1.0) if values is None else np.asarray(values), np.eye(d)[:, :k]
    )


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-9, 1e-4, 0.3, 1.2, np.pi / 2])
def test_a_plane_turned_by_a_known_angle(angle):
    d, k = 10, 3
    turned = np.eye(d)[:, :k]
    turned[k - 1, k - 1], turned[k, k - 1] = np.cos(angle), np.sin(angle)
    found = eigenspace_angles(axes(k, d), Eigenspace(np.arange(4, 0, -1.0), turned), top=(1, 2, k))
    assert found.largest_angle[2] == pytest.approx(angle, rel=1e-7, abs=1e-16)
    assert found.mean_squared_cosine[2] == pytest.approx((2 + np.cos(angle) ** 2) / 3, abs=1e-14)
    assert found.largest_angle[:2].tolist() == [0, 0]
    np.testing.assert_allclose(found.random, [0.1, 0.2, 0.3])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([(60, 12), (12, 60)]))
def test_angles_are_those_of_the_singular_vectors(seed, k, shape):
    x, y = cloud(seed, *shape), cloud(seed + 1, *shape)
    found = eigenspace_angles(eigenspace(x, k), eigenspace(y, k), top=(k,))
    bases = [np.linalg.svd(z - z.mean(0), full_matrices=False)[2][:k].T for z in (x, y)]
    assert found.largest_angle[0] == pytest.approx(subspace_angles(*bases).max(), abs=1e-7)
    one, two = (b @ b.T for b in bases)
    assert found.mean_squared_cosine[0] == pytest.approx(np.trace(one @ two) / k, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_turning_both_moving_scaling_and_reordering_change_nothing(seed, scale):
    x, y = cloud(seed), cloud(seed + 1)
    turn = ortho_group.rvs(12, random_state=RNG(seed))
    plain = eigenspace_angles(eigenspace(x, 8), eigenspace(y, 8), top=(1, 8))
    order = RNG(seed).permutation(len(x))
    moved = eigenspace_angles(
        eigenspace(scale * x[order] @ turn + 5, 8), eigenspace(y @ turn, 8), top=(1, 8)
    )
    for one, two in zip(plain, moved, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    same = eigenspace_angles(eigenspace(x, 8), eigenspace(3 * x + 1, 8), top=(1, 8))
    np.testing.assert_allclose(same.largest_angle, 0, atol=1e-6)


@pytest.mark.parametrize("shape", [(80, 20), (20, 80)])
def test_the_eigenspace_is_that_of_the_covariance(shape):
    x = cloud(4, *shape, decay=0.9)
    found = eigenspace(x, 6)
    covariance = np.cov(x.T, bias=True)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(6), atol=1e-10)
    np.testing.assert_allclose(covariance @ found.vectors, found.vectors * found.values[:6])
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(covariance)[::-1][:7])


def test_random_subspaces_are_the_reference():
    d, k, rng = 40, 8, RNG(0)
    clouds = [eigenspace(rng.standard_normal((400, d)), k) for _ in range(40)]
    pairs = zip(clouds[::2], clouds[1::2], strict=True)
    found = [eigenspace_angles(a, b, top=(1, k)) for a, b in pairs]
    cosines = np.array([f.mean_squared_cosine[1] for f in found])
    assert cosines.mean() == pytest.approx(k / d, abs=4 * cosines.std() / np.sqrt(len(found)))
    angles = np.array([f.largest_angle[1] for f in found])
    wanted = random_largest_angle(k, d)
    assert angles.mean() == pytest.approx(wanted, abs=4 * angles.std() / np.sqrt(len(found)))
    # In the plane the angle of two random lines is uniform, with mean π / 4.
    assert random_largest_angle(1, 2, draws=2000) == pytest.approx(np.pi / 4, abs=0.04)
    # Two subspaces that together exceed the space share a line, but the largest angle stays.
    assert random_largest_angle(3, 3) == pytest.approx(0, abs=1e-6)


def test_the_gap_tells_an_arbitrary_direction():
    one, two = axes(2, 5, [4, 2, 1.9]), axes(2, 5, [4, 2, 1])
    found = eigenspace_angles(one, two, top=(1, 2))
    np.testing.assert_allclose(found.gap, [0.5, 0.05])


def test_directions_without_variance_are_nan():
    flat = np.zeros((30, 9))
    flat[:, :3] = RNG(1).standard_normal((30, 3))
    found = eigenspace_angles(eigenspace(flat, 8), eigenspace(cloud(2, 30, 9), 8), top=(1, 3, 4))
    for values in found[:3]:
        assert np.isnan(values).tolist() == [False, False, True]
    constant = eigenspace(np.full((30, 9), 0.1), 2)
    assert np.isnan(constant.vectors).all()
    broken = cloud(3, 30, 9)
    broken[4, 4] = np.nan
    both = eigenspace_angles(eigenspace(broken, 2), eigenspace(flat, 2), top=(1, 2))
    assert np.isnan(both.largest_angle).all()
    assert np.isnan(both.gap).all()
    few = eigenspace_angles(eigenspace(flat[:2], 4), eigenspace(flat[:2], 4), top=(1, 4))
    assert np.isnan(few.largest_angle).tolist() == [False, True]


def test_what_does_not_match_is_refused():
    with pytest.raises(ValueError, match="at least 3 directions"):
        eigenspace_angles(axes(2, 5), axes(4, 5), top=(3,))
    with pytest.raises(ValueError, match="as many features"):
        eigenspace_angles(axes(2, 5), axes(2, 6), top=(1,))
    for bad, k in ((np.zeros(3), 1), (np.zeros((3, 2)), 0)):
        with pytest.raises(ValueError, match="k >= 1"):
            eigenspace(bad, k)
