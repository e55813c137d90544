"""Band by band: planted power laws, spectra without their head, guards, invariances."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import ortho_group

from geometry.bands import (
    BANDS,
    REMOVED,
    band_alpha,
    band_alpha_intervals,
    rankme_without_top,
    rankme_without_top_intervals,
    resolved_ranks,
)
from geometry.intervals import alpha_req_interval, rankme_interval
from geometry.spectrum import eigenvalues, rankme

RNG = np.random.default_rng
SMALL = {"1-4": (1, 4), "5-9": (5, 9), "10+": (10, None)}


def cloud(seed, n, dim, exponent=1.0):
    rng = RNG(seed)
    return rng.standard_normal((n, dim)) * np.arange(1.0, dim + 1) ** (-exponent / 2) + 0.3


def reweighted(x, weights):
    """Centred spectrum with sample weights, written out."""
    w = weights / weights.sum()
    y = x - w @ x
    values = np.linalg.eigvalsh((y * w[:, None]).T @ y)[::-1]
    return np.where(values > 1e-13, values, 0.0)[: min(x.shape)]


def jackknife(x, statistic):
    step = 1e-4
    moves = [
        (statistic(reweighted(x, 1 + step * e)) - statistic(reweighted(x, 1 - step * e)))
        / (2 * step)
        for e in np.eye(len(x))
    ]
    return np.sqrt(np.sum(np.square(moves), axis=0) * len(x) / (len(x) - 1))


def test_every_band_finds_its_own_exponent():
    rank = np.arange(1.0, 1025.0)
    exponents = np.interp(np.arange(4), range(4), [0.5, 2.0, 1.0, 3.0])
    pieces, level = np.empty(1024), 0.0
    for (first, last), exponent in zip(
        [(1, 10), (11, 100), (101, 511), (512, 1024)], exponents, strict=True
    ):
        part = slice(first - 1, last)
        pieces[part] = level - exponent * np.log(rank[part] / first)
        level = pieces[last - 1] - 0.01
    fit = band_alpha(np.exp(pieces))
    np.testing.assert_allclose(fit.alpha, exponents, rtol=1e-10)
    np.testing.assert_allclose(fit.r2, 1.0)
    np.testing.assert_array_equal(fit.last, [10, 100, 500, 1024])


def test_the_fit_is_the_weighted_line():
    values = np.sort(RNG(1).gamma(2.0, size=600))[::-1]
    fit = band_alpha(values)
    for column, (first, last) in enumerate([(1, 10), (11, 100), (101, 500), (512, 600)]):
        rank = np.arange(first, last + 1)
        line = np.polyfit(np.log(rank), np.log(values[first - 1 : last]), 1, w=rank**-0.5)
        assert fit.alpha[column] == pytest.approx(-line[0], rel=1e-8)


@pytest.mark.parametrize(
    ("ranks", "there"),
    [(9, [0, 0, 0, 0]), (10, [1, 0, 0, 0]), (100, [1, 1, 0, 0]), (500, [1, 1, 1, 0]),
     (520, [1, 1, 1, 0]), (521, [1, 1, 1, 1])],
)  # fmt: skip
def test_too_few_ranks_are_nan_and_padding_is_never_fitted(ranks, there):
    values = np.arange(1.0, ranks + 1) ** -1.0
    padded = np.pad(values, (0, 2000 - ranks))
    for fit in (band_alpha(values), band_alpha(padded), band_alpha(padded, samples=ranks + 1)):
        np.testing.assert_array_equal(np.isfinite(fit.alpha), np.array(there, bool))
        np.testing.assert_array_equal(np.isfinite(fit.last), np.array(there, bool))
        np.testing.assert_allclose(fit.alpha[np.array(there, bool)], 1.0)


def test_the_samples_bound_the_ranks():
    values = np.arange(1.0, 201.0) ** -1.0
    assert np.isfinite(band_alpha(values, samples=101).alpha[1])
    assert np.isnan(band_alpha(values, samples=100).alpha[1])
    assert resolved_ranks(values, samples=0) == 0
    assert resolved_ranks([np.nan, 1.0]) == 0


def test_rounding_of_a_layer_norm_is_no_rank():
    x = cloud(2, 400, 64)
    x = x - x.mean(axis=1, keepdims=True)
    states = (x / x.std(axis=1, keepdims=True)).astype(np.float32)
    values = eigenvalues(states)
    assert resolved_ranks(values, samples=400) == 63
    found = band_alpha_intervals(states, bands=SMALL)
    assert found.last[2] == 63
    assert found.value[2] == pytest.approx(
        alpha_req_interval(states, ranks=(10, 63)).value, rel=1e-12
    )


@pytest.mark.parametrize("shape", [(60, 25), (24, 60)])
def test_band_errors_are_the_derivatives_by_sample_weight(shape):
    x = cloud(3, *shape)
    found = band_alpha_intervals(x, bands=SMALL)
    n = len(x)
    expected = jackknife(x, lambda s: band_alpha(s, samples=n, bands=SMALL).alpha)
    np.testing.assert_allclose(found.standard_error, expected, rtol=1e-4)
    np.testing.assert_allclose(
        found.value, band_alpha(eigenvalues(x), samples=n, bands=SMALL).alpha, rtol=1e-12
    )


@pytest.mark.parametrize("shape", [(60, 25), (24, 60)])
def test_headless_errors_are_the_derivatives_by_sample_weight(shape):
    x, removed = cloud(4, *shape), (0, 1, 5)
    found = rankme_without_top_intervals(x, removed=removed)
    expected = jackknife(x, lambda s: np.log(rankme_without_top(s, removed=removed)))
    np.testing.assert_allclose(found.standard_error, expected, rtol=1e-4)
    whole = rankme_interval(x)
    np.testing.assert_allclose([field[0] for field in found], whole, rtol=1e-9)


def test_without_the_top_is_the_rest_projected():
    x = cloud(5, 300, 40)
    y = x - x.mean(axis=0)
    _, _, directions = np.linalg.svd(y, full_matrices=False)
    for k in (1, 2, 8):
        off = y - y @ directions[:k].T @ directions[:k]
        wanted = rankme(eigenvalues(off))
        assert rankme_without_top(eigenvalues(x), removed=(k,))[0] == pytest.approx(wanted)


def test_a_flat_rest_counts_its_directions():
    values = np.array([1e6, 1e3, *[2.0] * 30])
    np.testing.assert_allclose(rankme_without_top(values, removed=(2, 12, 31)), [30.0, 20.0, 1.0])
    stacked = rankme_without_top(np.stack([values, 3 * values]))
    assert stacked.shape == (2, len(REMOVED))
    np.testing.assert_allclose(stacked[0], stacked[1])
    np.testing.assert_allclose(rankme_without_top(np.pad(values, (0, 9))), stacked[0])


def test_nothing_left_is_nan():
    x = np.outer(RNG(6).standard_normal(50), np.ones(8))
    assert np.isnan(rankme_without_top(eigenvalues(x), removed=(1, 20))).all()
    assert np.isnan(rankme_without_top_intervals(x, removed=(1, 20)).value).all()
    rounding = eigenvalues((x * 7.7).astype(np.float32) + np.float32(1e-9) * cloud(6, 50, 8))
    assert np.isnan(rankme_without_top(rounding, removed=(1,))).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_propagates(bad):
    x = cloud(7, 200, 110)
    x[3, 4] = bad
    assert np.isnan(band_alpha_intervals(x)).all()
    assert np.isnan(rankme_without_top_intervals(x)).all()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="ranks is"):
        band_alpha_intervals(cloud(8, 30, 20), bands={"x": (5, 5)})
    for function in (rankme_without_top, rankme_without_top_intervals):
        with pytest.raises(ValueError, match="removed is"):
            function(np.eye(4), removed=(-1,))
    assert list(BANDS) == ["1-10", "11-100", "101-500", "512+"]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(15, 60),
    dim=st.integers(15, 40),
    scale=st.floats(1e-3, 1e3),
)
def test_rotation_scale_and_order_change_nothing(seed, n, dim, scale):
    x = cloud(seed, n, dim)
    turn = ortho_group.rvs(dim, random_state=RNG(seed))
    other = scale * x[RNG(seed).permutation(n)] @ turn + 1.0
    for function, options in (
        (band_alpha_intervals, {"bands": SMALL}),
        (rankme_without_top_intervals, {"removed": (0, 2, 7)}),
    ):
        np.testing.assert_allclose(
            function(other, **options), function(x, **options), rtol=1e-6, atol=1e-9
        )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), gain=st.floats(2.0, 100.0))
def test_only_the_head_feels_what_happens_to_it(seed, gain):
    values = np.sort(RNG(seed).gamma(1.0, size=200) + 0.01)[::-1]
    taller = values.copy()
    taller[:2] *= gain
    a, b = band_alpha(values), band_alpha(taller)
    assert b.alpha[0] > a.alpha[0]
    assert b.alpha[1] == a.alpha[1]
    before, after = (
        rankme_without_top(values, removed=(0, 2)),
        rankme_without_top(taller, removed=(0, 2)),
    )
    assert after[0] < before[0]
    assert after[1] == pytest.approx(before[1])


@pytest.mark.slow
def test_intervals_cover_the_expectation_of_the_estimate():
    # 200 draws at N = 7 d, 95 % nominal: the binomial's 0.1 % point is 179.
    draws, n, dim, removed = 200, 448, 64, (1, 8, 32)
    scale = np.arange(1.0, dim + 1) ** -0.5
    bands = {"1-10": (1, 10), "11-50": (11, 50)}
    rng = RNG(12)
    many = [eigenvalues(rng.standard_normal((n, dim)) * scale) for _ in range(800)]
    alphas = np.mean([band_alpha(v, bands=bands).alpha for v in many], axis=0)
    ranks = np.mean([np.log(rankme_without_top(v, removed=removed)) for v in many], axis=0)
    hits = np.zeros(5)
    for _ in range(draws):
        x = rng.standard_normal((n, dim)) * scale
        a = band_alpha_intervals(x, bands=bands)
        r = rankme_without_top_intervals(x, removed=removed)
        hits[:2] += (a.lower < alphas) & (alphas < a.upper)
        hits[2:] += (np.log(r.lower) < ranks) & (ranks < np.log(r.upper))
    print("covered of 200:", hits)
    assert (hits >= 179).all()
    assert (hits < draws).all()  # an interval that never misses is too wide
