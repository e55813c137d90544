"""Intrinsic dimension: balls, spheres, subspaces, a Swiss roll, planted copies, brute force."""

import sys
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.spatial.distance import cdist
from scipy.stats import gamma, norm, ortho_group

from geometry.dimension import (
    DIMENSION_CONVENTIONS,
    FEWEST,
    intrinsic_dimension,
    nearest,
    twonn_gamma_interval,
)

RNG = np.random.default_rng
TWONN = ("denti2022", "facco2017")


def ball(seed, n, dim, ambient=None):
    rng = RNG(seed)
    x = rng.standard_normal((n, dim))
    x *= rng.uniform(size=(n, 1)) ** (1 / dim) / np.linalg.norm(x, axis=1, keepdims=True)
    if ambient is None:
        return x
    turn = ortho_group.rvs(ambient, random_state=rng)
    return np.pad(x, ((0, 0), (0, ambient - dim))) @ turn


def sphere(seed, n, dim):
    x = RNG(seed).standard_normal((n, dim + 1))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def swiss_roll(seed, n):
    rng = RNG(seed)
    t = 1.5 * np.pi * np.sqrt(1 + 8 * rng.uniform(size=n))  # even along the spiral, nearly
    return np.column_stack([t * np.cos(t), 40 * rng.uniform(size=n), t * np.sin(t)])


def brute_force(x, convention):
    """TwoNN written out over all pairs, copies taken out first."""
    x = np.unique(np.asarray(x, float), axis=0)
    r = np.sort(cdist(x, x), axis=1)[:, 1:3]
    mu = np.sort(r[:, 1] / r[:, 0])
    n = len(mu)
    if convention == "denti2022":
        return (n - 1) / np.log(mu).sum()
    kept = int(n * 0.9)
    a, b = np.log(mu[:kept]), -np.log(1 - np.arange(1, kept + 1) / n)
    return (a @ b) / (a @ a)


@pytest.mark.parametrize("convention", TWONN)
@pytest.mark.parametrize("shape", [(300, 3), (500, 40), (120, 200)])
def test_twonn_against_brute_force(convention, shape):
    x = RNG(0).standard_normal(shape) * np.arange(1.0, shape[1] + 1) ** -1.0 + 5.0
    found = intrinsic_dimension(x, convention=convention)
    assert found.value == pytest.approx(brute_force(x, convention), rel=1e-9)
    assert found.dropped == 0


def test_the_mle_against_its_formula():
    x = ball(1, 400, 4, ambient=30)
    r = np.sort(cdist(x, x), axis=1)[:, 1:21]
    pointwise = 19 / np.log(r[:, -1:] / r).sum(axis=1)
    plain = intrinsic_dimension(x, convention="levina2004")
    harmonic = intrinsic_dimension(x, convention="mackay2005")
    assert plain.value == pytest.approx(pointwise.mean(), rel=1e-9)
    assert harmonic.value == pytest.approx(1 / (1 / pointwise).mean(), rel=1e-9)
    assert harmonic.value < plain.value < plain.upper


@pytest.mark.parametrize("convention", list(DIMENSION_CONVENTIONS))
@pytest.mark.parametrize(
    ("points", "dimension"),
    [
        (ball(2, 1500, 3), 3),
        (ball(3, 1500, 5, ambient=64), 5),
        (sphere(4, 1500, 2), 2),
        (sphere(5, 1500, 4), 4),
        (RNG(6).uniform(size=(1500, 2)) @ RNG(7).standard_normal((2, 100)), 2),
        (swiss_roll(8, 2000), 2),
    ],
    ids=["ball 3", "ball 5 in 64", "sphere 2", "sphere 4", "plane in 100", "Swiss roll"],
)
def test_known_dimensions(convention, points, dimension):
    found = intrinsic_dimension(points, convention=convention)
    assert found.value == pytest.approx(dimension, rel=0.13)


@pytest.mark.parametrize("convention", list(DIMENSION_CONVENTIONS))
def test_planted_copies_are_dropped_and_counted(convention):
    x = ball(9, 400, 3).astype(np.float32)
    alone = intrinsic_dimension(x, convention=convention)
    more = np.concatenate([x, x[:50], x[:50], x[399:]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = intrinsic_dimension(more[RNG(9).permutation(len(more))], convention=convention)
    assert found[:4] == pytest.approx(alone[:4], nan_ok=True)
    assert (alone.dropped, found.dropped) == (0, 101)


def test_close_points_of_a_far_cloud_are_not_copies():
    # The fast formula for distances gives 0 or NaN here; from differences they are right.
    x = ball(10, 300, 3)
    x[1::2] = x[::2] + 1e-9 * ball(11, 150, 3)
    found = nearest(x + 100.0, 2).distances
    exact = np.sort(cdist(x, x), axis=1)[:, 1:3]
    assert (found[:, 0] > 0).all()
    np.testing.assert_allclose(found[:, 1], exact[:, 1], rtol=1e-6)
    np.testing.assert_allclose(nearest(x, 2).distances, exact, rtol=1e-6)
    assert intrinsic_dimension(x).dropped == 0


def test_single_precision_points_far_from_the_origin():
    x = (ball(12, 500, 4, ambient=30) + 300.0).astype(np.float32)
    assert intrinsic_dimension(x).value == pytest.approx(brute_force(x, "denti2022"), rel=1e-6)


@pytest.mark.parametrize("block", [1, 10**6])
def test_blocks_are_joined(monkeypatch, block):
    monkeypatch.setattr("geometry.dimension._CELLS", block)
    x = RNG(13).standard_normal((40, 6))
    exact = np.sort(cdist(x, x), axis=1)[:, 1:6]
    np.testing.assert_allclose(nearest(x, 5).distances, exact, rtol=1e-12)
    np.testing.assert_allclose(
        nearest(1e-200 * x, 39).distances[:, -1], 1e-200 * cdist(x, x).max(axis=1)
    )
    np.testing.assert_array_equal(nearest(np.ones((5, 2)), 3).distances, np.zeros((5, 3)))


@pytest.mark.parametrize("convention", list(DIMENSION_CONVENTIONS))
def test_what_cannot_be_told_is_nan(convention):
    x = ball(14, 60, 3)
    for bad in (np.nan, np.inf):
        broken = x.copy()
        broken[7, 1] = bad
        assert np.isnan(intrinsic_dimension(broken, convention=convention)).all()
    needed = max(FEWEST, DIMENSION_CONVENTIONS[convention].neighbours + 1)
    assert np.isfinite(intrinsic_dimension(x[:needed], convention=convention).value)
    few = intrinsic_dimension(np.repeat(x[: needed - 1], 3, axis=0), convention=convention)
    assert np.isnan(few[:4]).all()
    assert few.dropped == 2 * (needed - 1)
    lattice = intrinsic_dimension(np.eye(40), convention=convention)
    assert np.isnan(lattice.value)


@pytest.mark.parametrize(("convention", "count"), [("denti2022", 2), ("mackay2005", 20)])
def test_the_error_counts_shared_neighbours(convention, count):
    # Written out over every pair of points: deviations times the share of points in common.
    x = ball(15, 150, 3)
    found = intrinsic_dimension(x, convention=convention, level=0.9)
    order = np.argsort(cdist(x, x), axis=1)[:, : count + 1]  # the point itself comes first
    r = np.sort(cdist(x, x), axis=1)[:, 1 : count + 1]
    logs = np.log(r[:, -1:] / r).sum(axis=1)
    off = logs - logs.mean()
    shared = np.array([[len(set(a) & set(b)) for b in order] for a in order]) / (count + 1)
    error = np.sqrt(off @ shared @ off) / 150 / logs.mean()
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    z = norm.ppf(0.95)
    np.testing.assert_allclose(
        [found.lower, found.upper], found.value * np.exp([-z * error, z * error]), rtol=1e-9
    )


def test_the_closed_interval_is_the_gammas_quantiles():
    r = np.sort(cdist(ball(15, 200, 3), ball(15, 200, 3)), axis=1)[:, 1:3]
    total = np.log(r[:, 1] / r[:, 0]).sum()
    found = twonn_gamma_interval(199 / total, 200, level=0.9)
    np.testing.assert_allclose(found, gamma.ppf([0.05, 0.95], 200) / total, rtol=1e-9)
    line = intrinsic_dimension(ball(15, 200, 3), convention="facco2017")
    assert np.isnan(line[1:4]).all()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="convention 'knn' is unknown"):
        intrinsic_dimension(np.eye(3), convention="knn")
    with pytest.raises(ValueError, match="level is 1"):
        intrinsic_dimension(np.eye(3), level=1.0)
    with pytest.raises(ValueError, match="x has shape"):
        intrinsic_dimension(np.ones(3))
    for count in (0, 3):
        with pytest.raises(ValueError, match="count is"):
            nearest(np.eye(3), count)


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skdim", None)
    monkeypatch.setitem(sys.modules, "skdim.id", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'phasescope\[dimension\]'$"):
        intrinsic_dimension(ball(16, 50, 2))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    dim=st.integers(2, 12),
    scale=st.floats(1e-4, 1e4),
    convention=st.sampled_from(list(DIMENSION_CONVENTIONS)),
)
def test_rotation_shift_scale_and_order_change_nothing(seed, dim, scale, convention):
    x = RNG(seed).standard_normal((60, dim))
    turn = ortho_group.rvs(dim, random_state=RNG(seed))
    other = scale * (x[RNG(seed).permutation(60)] @ turn + 3.0)
    a, b = (intrinsic_dimension(y, convention=convention) for y in (x, other))
    np.testing.assert_allclose(b, a, rtol=1e-5)


def test_unequal_scales_do_matter():
    x = RNG(17).uniform(size=(800, 3))
    flat = intrinsic_dimension(x * [1.0, 1.0, 1e-6]).value
    assert flat < intrinsic_dimension(x).value - 0.5


@pytest.mark.slow
def test_coverage_of_the_intervals():
    # 200 clouds on a torus, which has no edge; 95 % nominal, the binomial's 0.1 % point is 179. About
    # each estimate's own expectation, as its bias is another matter.
    rng, draws = RNG(18), 200
    names = ("denti2022", "mackay2005", "levina2004")
    found = {name: [] for name in names}
    for _ in range(draws):
        angles = rng.uniform(0, 2 * np.pi, (600, 2))
        x = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        for name in names:
            found[name].append(intrinsic_dimension(x, convention=name)[:4])
    hits = {}
    for name, rows in found.items():
        value, _, lower, upper = np.array(rows).T
        centre = np.exp(np.log(value).mean())
        hits[name] = int(((lower < centre) & (centre < upper)).sum())
    closed = [twonn_gamma_interval(row[0], 600) for row in found["denti2022"]]
    told = sum(lower < 2 < upper for lower, upper in closed)
    print("covered of 200:", hits, "by the Gamma, of the truth:", told)
    for name, count in hits.items():
        assert 179 <= count <= draws, name
