"""The entropy ledger: closed forms, the identity itself, additivity, and vanishing eigenvalues."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.integrate import quad
from scipy.special import entr

from geometry.ledger import band_names, by_band, entropy_ledger, entropy_rate
from geometry.spectrum import rankme

RNG = np.random.default_rng


def entropy(spectrum):
    p = spectrum / spectrum.sum()
    return float(entr(p).sum())


def spectrum(seed, ranks, decades=4.0):
    return np.sort(10.0 ** RNG(seed).uniform(-decades, 2, ranks))[::-1]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 600), st.floats(0.1, 14))
def test_contributions_add_up_to_the_change_of_ln_rankme(seed, ranks, decades):
    one, two = spectrum(seed, ranks, decades), spectrum(seed + 1, ranks, decades)
    found = entropy_ledger(one, two)
    wanted = np.log(rankme(two)) - np.log(rankme(one))
    assert found.contributions.sum() == pytest.approx(wanted, abs=1e-10)
    assert found.error < 1e-10
    assert by_band(found.contributions).sum() == pytest.approx(wanted, abs=1e-10)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 59), st.integers(1, 59))
def test_spectra_of_unequal_rank_add_up_too(seed, ranks, kept_one, kept_two):
    one, two = spectrum(seed, ranks), spectrum(seed + 1, ranks)
    one[min(kept_one, ranks) :], two[min(kept_two, ranks) :] = 0.0, 0.0
    found = entropy_ledger(one, two)
    assert found.contributions.sum() == pytest.approx(entropy(two) - entropy(one), abs=1e-10)
    assert found.born == max(min(kept_two, ranks) - kept_one, 0)
    assert found.died == max(min(kept_one, ranks) - kept_two, 0)
    both_zero = (one == 0) & (two == 0)
    assert (found.contributions[both_zero] == 0).all()


def test_a_vanishing_eigenvalue_is_the_limit_of_a_small_one():
    rng = RNG(3)
    one, two = np.sort(rng.uniform(0.1, 1, (2, 9)))[:, ::-1]
    one[6:], two[7:] = 0.0, 0.0
    exact = entropy_ledger(one, two).contributions
    gaps = []
    for floor in (1e-30, 1e-90, 1e-270):
        near = entropy_ledger(np.where(one == 0, floor, one), np.where(two == 0, floor, two))
        gaps.append(np.abs(near.contributions - exact).max())
    # The jump takes about 1 / ln(1 / floor) of the path, so the gap shrinks as that does.
    assert gaps[0] > 2.5 * gaps[1] > 6 * gaps[2]
    assert gaps[2] < 0.01


def test_one_eigenvalue_of_two_is_the_binary_entropy():
    # λ = (e^t, 1): p = logistic(t), and each rank's rate is −p (1 − p) times its own share.
    found = entropy_ledger([np.exp(0.5), 1.0], [np.exp(3.0), 1.0])

    def rate(t, rank):
        p = 1 / (1 + np.exp(-t))
        q, growth = ((p, 1 - p), (1 - p, -p))[rank]
        return -q * growth * (np.log(q) - p * np.log(p) - (1 - p) * np.log(1 - p))

    for rank in (0, 1):
        wanted = quad(rate, 0.5, 3.0, args=(rank,), epsabs=1e-13)[0]
        assert found.contributions[rank] == pytest.approx(wanted, abs=1e-11)


def test_two_levels_have_a_closed_form():
    # m directions at a and n at b: S = h(q) + q ln m + (1 − q) ln n, q the share of the m.
    m, n = 3, 17
    one, two = np.repeat([5.0, 1.0], [m, n]), np.repeat([40.0, 1.0], [m, n])
    found = entropy_ledger(one, two)

    def level(a):
        q = m * a / (m * a + n)
        return -q * np.log(q / m) - (1 - q) * np.log((1 - q) / n)

    assert found.start == pytest.approx(level(5), abs=1e-13)
    assert found.end == pytest.approx(level(40), abs=1e-13)
    assert found.contributions.sum() == pytest.approx(level(40) - level(5), abs=1e-11)
    assert np.ptp(found.contributions[:m]) < 1e-13
    # dS = −q (1 − q) (ln(q / m) − ln((1 − q) / n)) dg, and the m take the share 1 − q of it.
    shares = np.linspace(np.log(5), np.log(40), 20001)
    q = m * np.exp(shares) / (m * np.exp(shares) + n)
    gap = np.log(q / m) - np.log((1 - q) / n)
    wanted = np.trapezoid(-q * (1 - q) * (1 - q) * gap, shares)
    assert found.contributions[:m].sum() == pytest.approx(wanted, abs=1e-7)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_the_rate_is_the_derivative(seed, ranks):
    rng = RNG(seed)
    values, growth = spectrum(seed, ranks, 2), rng.standard_normal(ranks)
    step = 1e-5
    ahead, behind = (entropy(values * np.exp(s * growth)) for s in (step, -step))
    rates = entropy_rate(values, growth)
    assert rates.sum() == pytest.approx((ahead - behind) / (2 * step), abs=1e-8)
    p = values / values.sum()
    covariance = np.cov(growth, np.log(p), aweights=p, bias=True)[0, 1]
    assert rates.sum() == pytest.approx(-covariance, abs=1e-10)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0.01, 2))
def test_entropy_falls_exactly_when_the_heavy_grow_faster(seed, ranks, power):
    values = spectrum(seed, ranks)
    assert entropy_ledger(values, values ** (1 + power)).contributions.sum() < 0
    assert entropy_ledger(values, values ** (1 / (1 + power))).contributions.sum() > 0
    assert entropy_rate(values, np.log(values)).sum() < 0


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.integers(1, 80))
def test_scale_moves_nothing_and_the_way_back_is_the_opposite(seed, scale, ranks):
    one, two = spectrum(seed, ranks), spectrum(seed + 1, ranks)
    found = entropy_ledger(one, two).contributions
    np.testing.assert_allclose(entropy_ledger(one * scale, two).contributions, found, atol=1e-10)
    np.testing.assert_allclose(entropy_ledger(two, one).contributions, -found, atol=1e-10)
    np.testing.assert_allclose(entropy_ledger(one, one * scale).contributions, 0, atol=1e-10)


def test_bands_and_their_names():
    ones = np.ones(600)
    assert by_band(ones).tolist() == [1, 9, 90, 400, 100]
    assert by_band(ones[:50]).tolist() == [1, 9, 40, 0, 0]
    assert by_band(np.ones((2, 3, 20)), edges=(5,)).tolist() == [[[5, 15]] * 3] * 2
    assert band_names() == ("1", "2–10", "11–100", "101–500", "501+")
    for edges in ((), (0, 3), (3, 3)):
        with pytest.raises(ValueError, match="ranks that increase"):
            by_band(ones, edges=edges)


def test_what_has_no_entropy_is_nan_and_what_is_no_spectrum_is_refused():
    for bad in ([0.0, 0.0], [1.0, np.nan], [np.inf, 1.0]):
        for pair in ((bad, [2.0, 1.0]), ([2.0, 1.0], bad)):
            found = entropy_ledger(*pair)
            assert np.isnan(found.contributions).all()
            assert np.isnan(found.error)
    with pytest.raises(ValueError, match="negative"):
        entropy_ledger([1.0, -0.1], [1.0, 0.5])
    with pytest.raises(ValueError, match="shapes"):
        entropy_ledger([1.0], [1.0, 0.5])
    with pytest.raises(ValueError, match="descending"):
        entropy_ledger([1.0, 0.0], [0.0, 1.0])
