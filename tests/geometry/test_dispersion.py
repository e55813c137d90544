"""Dispersion: closed forms, an SVD, derivatives by sample weight, invariances, coverage."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import entropy, ortho_group

from geometry.dispersion import (
    DISPERSION,
    condition_number,
    dispersion_interval,
    fillable,
    leading_share,
    mean_cosine,
    mean_cosine_interval,
    participation_ratio,
    spectral_entropy,
    stable_rank,
)
from geometry.spectrum import eigenvalues, rankme

RNG = np.random.default_rng
DIRECT = {
    "participation_ratio": participation_ratio,
    "stable_rank": stable_rank,
    "leading_share": leading_share,
    "spectral_entropy": spectral_entropy,
    "condition_number": condition_number,
}


def cloud(seed, n, dim, exponent=1.0, mean=0.3):
    rng = RNG(seed)
    return rng.standard_normal((n, dim)) * np.arange(1.0, dim + 1) ** (-exponent / 2) + mean


def by_svd(x, name, centered):
    """Every number from singular values, apart from the code under test."""
    y = x - x.mean(axis=0) if centered else x
    sigma = np.linalg.svd(y, compute_uv=False)
    sigma = sigma[sigma > 1e-6 * sigma[0]]
    if name == "participation_ratio":
        return (sigma**2).sum() ** 2 / (sigma**4).sum()
    if name == "stable_rank":
        return np.linalg.norm(y) ** 2 / np.linalg.norm(y, 2) ** 2
    if name == "leading_share":
        return np.linalg.norm(y, 2) ** 2 / np.linalg.norm(y) ** 2
    if name == "spectral_entropy":
        return entropy(sigma**2)
    if name == "normalised_entropy":
        return entropy(sigma**2, base=min(len(x) - centered, x.shape[1]))
    if name == "condition_100":
        return (sigma[0] / sigma[99]) ** 2
    return (sigma[0] / sigma[-1]) ** 2


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("shape", [(300, 120), (110, 300)])
@pytest.mark.parametrize("name", list(DISPERSION))
def test_every_number_from_singular_values(name, shape, centered):
    x = cloud(0, *shape)
    found = dispersion_interval(x, name, centered=centered).value
    assert found == pytest.approx(by_svd(x, name, centered), rel=1e-9)
    if name in DIRECT:
        direct = DIRECT[name](eigenvalues(x, centered=centered))
        assert found == pytest.approx(float(direct), rel=1e-12)


def test_closed_forms():
    flat = np.array([2.0, 2, 2, 2, 2, 0, 0])
    for function in (participation_ratio, stable_rank):
        assert function(flat) == pytest.approx(5.0)
    assert leading_share(flat) == pytest.approx(0.2)
    assert spectral_entropy(flat) == pytest.approx(np.log(5))
    assert spectral_entropy(flat, directions=25) == pytest.approx(0.5)
    assert condition_number(flat) == pytest.approx(1.0)
    # λ = 1/2, 1/4, 1/8 …: Σλ = 1, Σλ² = 1/3, Σ p ln p = −2 ln 2.
    halves = 0.5 ** np.arange(1, 60)
    assert participation_ratio(halves) == pytest.approx(3.0)
    assert stable_rank(halves) == pytest.approx(2.0)
    assert spectral_entropy(halves) == pytest.approx(2 * np.log(2))
    assert condition_number(halves, rank=8) == pytest.approx(2.0**7)
    assert condition_number(halves) == pytest.approx(2.0**39)  # 2^-40 is below 1e-12 of the first


def test_leading_dims_broadcast():
    values = np.sort(RNG(1).gamma(1.0, size=(2, 3, 20)), axis=-1)[..., ::-1]
    for function in (participation_ratio, stable_rank, leading_share, spectral_entropy):
        found = function(values)
        assert found.shape == (2, 3)
        assert found[1, 2] == pytest.approx(float(function(values[1, 2])))


def test_order_of_the_effective_ranks():
    values = np.sort(RNG(2).gamma(0.3, size=(50, 40)), axis=-1)[..., ::-1]
    by_order = [rankme(values), participation_ratio(values), stable_rank(values)]
    assert (np.diff(by_order, axis=0) <= 1e-12).all()
    np.testing.assert_allclose(np.exp(spectral_entropy(values)), rankme(values))
    assert (stable_rank(values) >= 1.0).all()


def test_condition_is_never_a_ratio_to_rounding():
    x = cloud(3, 400, 32)
    x = (x - x.mean(axis=1, keepdims=True)).astype(np.float32)
    values = eigenvalues(x)
    assert condition_number(values) == pytest.approx(values[0] / values[30])
    assert np.isnan(condition_number(values, rank=32))
    assert np.isnan(condition_number(values, rank=33))
    assert np.isnan(condition_number(np.zeros(4)))
    assert np.isnan(condition_number([np.nan, 1.0]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_nothing(bad):
    x = cloud(4, 60, 9)
    x[5, 2] = bad
    for name in DISPERSION:
        assert np.isnan(dispersion_interval(x, name)).all()
        assert np.isnan(dispersion_interval(np.ones((20, 9)), name)).all()
    assert np.isnan(mean_cosine_interval(x)).all()
    x[5] = 0.0
    assert np.isnan(mean_cosine(x))  # a point at the origin has no direction
    assert np.isnan(mean_cosine(x[:1]))
    for function in (participation_ratio, stable_rank, leading_share, spectral_entropy):
        assert np.isnan(function(np.zeros(5)))
        assert np.isnan(function([1.0, np.nan]))
    assert np.isnan(spectral_entropy([1.0], directions=1))
    assert (fillable(10, 4), fillable(3, 4), fillable(3, 4, centered=False)) == (4, 2, 3)
    assert fillable(0, 4) == 0


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="measure 'spread' is unknown"):
        dispersion_interval(np.eye(4), "spread")
    with pytest.raises(ValueError, match="eigenvalues reach"):
        participation_ratio([1.0, -0.5])
    with pytest.raises(ValueError, match="rank is 0"):
        condition_number([1.0], rank=0)
    for shape in ((), (0,)):
        with pytest.raises(ValueError, match="eigenvalues has shape"):
            stable_rank(np.ones(shape))
    for function in (mean_cosine, mean_cosine_interval):
        with pytest.raises(ValueError, match="x has shape"):
            function(np.ones(3))
    with pytest.raises(ValueError, match="x has shape"):
        dispersion_interval(np.ones(3), "stable_rank")


def weighted(x, name, w):
    """Each number of a cloud with sample weights, written out."""
    if name == "mean_cosine":
        u = x / np.linalg.norm(x, axis=1, keepdims=True)
        pairs = np.outer(w, w) * (1 - np.eye(len(x)))
        return (pairs * (u @ u.T)).sum() / pairs.sum()
    w = w / w.sum()
    y = x - w @ x
    values = np.linalg.eigvalsh((y * w[:, None]).T @ y)[::-1]
    values = values[: min(len(x) - 1, x.shape[1])]
    number = {
        "participation_ratio": lambda v: np.log(v.sum() ** 2 / (v**2).sum()),
        "stable_rank": lambda v: np.log(v.sum() / v[0]),
        "leading_share": lambda v: np.log(v[0] / v.sum()),
        "spectral_entropy": entropy,
        "normalised_entropy": lambda v: entropy(v) / np.log(len(v)),
        "condition_number": lambda v: np.log(v[0] / v[-1]),
    }
    return number[name](values)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("shape", [(60, 12), (12, 30)])
@pytest.mark.parametrize("name", [*list(DISPERSION)[:-1], "mean_cosine"])
def test_errors_are_derivatives_by_sample_weight(name, shape, grouped):
    x = cloud(5, *shape)
    groups = np.arange(len(x)) // 3 if grouped else np.arange(len(x))
    step, slopes = 1e-4, []
    for label in np.unique(groups):
        up, down = (weighted(x, name, 1 + s * step * (groups == label)) for s in (1, -1))
        slopes.append((up - down) / (2 * step))
    k = len(slopes)
    expected = np.sqrt(np.sum(np.square(slopes)) * k / (k - 1))
    found = (
        mean_cosine_interval(x, groups=groups)
        if name == "mean_cosine"
        else dispersion_interval(x, name, groups=groups)
    )
    assert found.standard_error == pytest.approx(expected, rel=1e-4)
    logarithmic = name != "mean_cosine" and DISPERSION[name].logarithmic
    middle = np.sqrt(found.lower * found.upper) if logarithmic else (found.lower + found.upper) / 2
    assert middle == pytest.approx(found.value)


def test_mean_cosine_over_every_pair():
    x = cloud(6, 90, 11).astype(np.float32)
    u = x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    above = np.triu_indices(90, 1)
    assert mean_cosine(x) == pytest.approx((u @ u.T)[above].mean(), rel=1e-10)
    assert mean_cosine(np.eye(5)) == pytest.approx(0.0, abs=1e-15)
    assert mean_cosine(np.ones((5, 3))) == pytest.approx(1.0)
    simplex = np.eye(5) - 0.2
    assert mean_cosine(simplex) == pytest.approx(-0.25)  # −1 / (n − 1): the least there is
    tiny, huge = x * np.float64(1e-200), x * np.float64(1e200)
    assert mean_cosine(tiny) == pytest.approx(mean_cosine(x))
    assert mean_cosine(huge) == pytest.approx(mean_cosine(x))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(5, 40),
    dim=st.integers(3, 30),
    scale=st.floats(1e-3, 1e3),
    centered=st.booleans(),
)
def test_rotation_scale_and_order_change_nothing(seed, n, dim, scale, centered):
    x = cloud(seed, n, dim)
    turn = ortho_group.rvs(dim, random_state=RNG(seed))
    other = scale * x[RNG(seed).permutation(n)] @ turn
    moved = other + RNG(seed).standard_normal(dim) * scale
    for name in ("participation_ratio", "stable_rank", "normalised_entropy"):
        before = dispersion_interval(x, name, centered=centered)
        after = dispersion_interval(other, name, centered=centered)
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-9)
        if centered:
            np.testing.assert_allclose(
                dispersion_interval(moved, name), before, rtol=1e-6, atol=1e-9
            )
    np.testing.assert_allclose(
        mean_cosine_interval(other), mean_cosine_interval(x), rtol=1e-8, atol=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(3.0, 50.0))
def test_a_shift_and_unequal_scales_do_matter(seed, shift):
    x = cloud(seed, 30, 8, exponent=0.0, mean=0.0)
    assert mean_cosine(x + shift) > mean_cosine(x) + 0.1
    uncentered = [
        dispersion_interval(y, "stable_rank", centered=False).value for y in (x, x + shift)
    ]
    assert uncentered[1] < uncentered[0]
    stretched = x * np.r_[shift, np.ones(7)]
    assert participation_ratio(eigenvalues(stretched)) < participation_ratio(eigenvalues(x))
    # The cosine sees directions alone: lengths of single points are nothing to it.
    lengths = RNG(seed).uniform(0.1, 9.0, (30, 1))
    assert mean_cosine(lengths * x) == pytest.approx(mean_cosine(x), abs=1e-12)


@pytest.mark.slow
def test_intervals_cover_the_expectation_of_the_estimate():
    # 200 draws at N = 7 d, 95 % nominal: the binomial's 0.1 % point is 179.
    draws, n, dim = 200, 448, 64
    scale = np.arange(1.0, dim + 1) ** -0.5
    names = [n for n in DISPERSION if n != "condition_100"]
    rng = RNG(13)

    def draw():
        return rng.standard_normal((n, dim)) * scale + 0.1

    def transformed(estimate, name):
        logs = name in DISPERSION and DISPERSION[name].logarithmic
        ends = (estimate.value, estimate.lower, estimate.upper)
        return [np.log(end) if logs else end for end in ends]

    def every(x):
        found = {name: dispersion_interval(x, name) for name in names}
        return found | {"mean_cosine": mean_cosine_interval(x)}

    many = [{k: transformed(v, k)[0] for k, v in every(draw()).items()} for _ in range(600)]
    target = {k: np.mean([m[k] for m in many]) for k in many[0]}
    hits = dict.fromkeys(target, 0)
    for _ in range(draws):
        for k, v in every(draw()).items():
            _, lower, upper = transformed(v, k)
            hits[k] += lower < target[k] < upper
    print("covered of 200:", hits)
    for name, count in hits.items():
        assert 179 <= count < draws, name
