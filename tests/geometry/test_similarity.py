"""Linear CKA: closed forms, invariances, and HSIC written out over kernels."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import ortho_group

from geometry.similarity import cka_matrix, linear_cka

RNG = np.random.default_rng


def biased_hsic(k, m):
    n = len(k)
    h = np.eye(n) - 1 / n
    return np.trace(k @ h @ m @ h) / (n - 1) ** 2


def unbiased_hsic(k, m):
    """Song et al. 2012, eq. 5, on kernels with their diagonals removed."""
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    return (
        np.trace(k @ m)
        + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ m @ one)
    ) / (n * (n - 3))


def kernel_cka(x, y, hsic):
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(5, 30), d1=st.integers(1, 40))
def test_cka_is_that_of_the_kernels(seed, n, d1):
    rng = RNG(seed)
    x = rng.standard_normal((n, d1)) + 2.0
    y = x[:, :1] + rng.standard_normal((n, 9))
    assert linear_cka(x, y) == pytest.approx(kernel_cka(x, y, biased_hsic), rel=1e-9)
    expected = kernel_cka(x, y, unbiased_hsic)
    assert linear_cka(x, y, debiased=True) == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("debiased", [False, True])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), n=st.integers(5, 40))
def test_rotation_scale_shift_and_order_of_arguments_do_not_matter(debiased, seed, scale, n):
    rng = RNG(seed)
    x, y = rng.standard_normal((n, 8)), rng.standard_normal((n, 5))
    turn = ortho_group.rvs(8, random_state=rng)
    value = linear_cka(x, y, debiased=debiased)
    assert linear_cka(scale * x @ turn + 3.0, y, debiased=debiased) == pytest.approx(
        value, abs=1e-8
    )
    assert linear_cka(y, x, debiased=debiased) == pytest.approx(value, abs=1e-12)
    assert linear_cka(x, scale * x @ turn, debiased=debiased) == pytest.approx(1.0, abs=1e-9)


def test_one_direction_each_is_the_squared_correlation():
    x, y = RNG(0).standard_normal((2, 50))
    y = y + 0.5 * x
    expected = np.corrcoef(x, y)[0, 1] ** 2
    assert linear_cka(x[:, None], y[:, None]) == pytest.approx(expected, rel=1e-12)


def test_orthogonal_parts_share_their_half():
    # x = [a, b] and y = [a] with a, b uncorrelated and of one variance: ‖XᵀY‖² / (√2 · 1).
    n = 64
    angle = 2 * np.pi * np.arange(n) / n
    a, b = np.cos(angle), np.sin(angle)
    assert linear_cka(np.stack([a, b], 1), a[:, None]) == pytest.approx(1 / np.sqrt(2), rel=1e-12)


@pytest.mark.parametrize("dim", [20, 2000])
def test_independent_data_is_zero_only_when_debiased(dim):
    pairs = [RNG(seed).standard_normal((2, 60, dim)) for seed in range(20)]
    debiased = np.array([linear_cka(x, y, debiased=True) for x, y in pairs])
    assert abs(debiased.mean()) < 4 * debiased.std(ddof=1) / np.sqrt(20) + 1e-6
    assert (debiased < 0).any()
    assert np.abs(debiased).max() < 0.15
    assert np.mean([linear_cka(x, y) for x, y in pairs]) > 0.2


def test_nan_and_constant_inputs_are_nan():
    x, y = RNG(1).standard_normal((2, 30, 6))
    constant = np.full((30, 6), 0.1) * np.arange(1, 7)
    for bad in (np.nan, np.inf, 1e200):
        dirty = x.copy()
        dirty[3, 3] = bad
        for debiased in (False, True):
            assert np.isnan(linear_cka(dirty, y, debiased=debiased))
            assert np.isnan(linear_cka(y, dirty, debiased=debiased))
    assert np.isnan(linear_cka(x, constant))
    assert np.isnan(linear_cka(constant, constant, debiased=True))
    assert isinstance(linear_cka(x.astype(np.float16), y.astype(np.float32)), float)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"x and y have shapes \(3, 2\) and \(4, 2\)"):
        linear_cka(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="have 1 samples; give at least 2"):
        linear_cka(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="give at least 4"):
        linear_cka(np.ones((3, 2)), np.ones((3, 2)), debiased=True)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("shape", [(3, 40, 6), (5, 12, 30), (1, 9, 4)])
def test_the_matrix_of_layers_is_that_of_pairs(debiased, shape):
    x = RNG(3).standard_normal(shape) + RNG(4).standard_normal((*shape[:2], 1))
    found = cka_matrix(x.astype(np.float32), debiased=debiased)
    pairs = [[linear_cka(a, b, debiased=debiased) for b in x] for a in x]
    np.testing.assert_allclose(found, pairs, atol=1e-6)
    np.testing.assert_allclose(np.diagonal(found), 1, atol=1e-12)


def test_a_layer_that_does_not_vary_leaves_the_others_alone():
    x = RNG(5).standard_normal((4, 20, 3))
    x[1], x[2, 3, 0] = 0.1, np.inf
    found = cka_matrix(x)
    assert np.isnan(found[1:3]).all()
    assert np.isnan(found[:, 1:3]).all()
    assert found[0, 3] == pytest.approx(linear_cka(x[0], x[3]))
    for bad in (x[0], x[:, :1]):
        with pytest.raises(ValueError, match="x has"):
            cka_matrix(bad)
