from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from attention.entropy import (
    HEAD_ENTROPY_CONVENTIONS,
    entropy_bounds,
    head_entropy,
    row_entropy,
    row_entropy_with_epsilon,
)


@pytest.mark.parametrize("n", [1, 2, 7, 1600])
def test_uniform_rows_and_certain_rows(n: int) -> None:
    assert row_entropy(np.full(n, 1 / n)) == pytest.approx(math.log(n), abs=1e-12)
    assert row_entropy(np.eye(n)).tolist() == [0.0] * n


def test_axis_and_nan() -> None:
    p = np.array([[0.5, 0.25, 0.25], [np.nan, 0.5, 0.5], [0.0, 0.0, 1.0]])
    found = row_entropy(p)
    assert found[0] == pytest.approx(1.5 * math.log(2))
    assert np.isnan(found[1])
    assert found[2] == 0
    np.testing.assert_array_equal(row_entropy(p.T, axis=0), found)


def test_an_epsilon_in_the_logarithm_only_takes_away() -> None:
    """0 ≤ H − H_ε ≤ n ε; 1.5987e-3 for 1600 equal keys and ε = 1e-6."""
    n, eps = 1600, 1e-6
    p = np.full(n, 1 / n)
    bias = row_entropy(p) - row_entropy_with_epsilon(p, eps=eps)
    assert bias == pytest.approx(1.5987e-3, abs=1e-7)
    assert 0 <= bias <= n * eps


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.floats(0, 30), st.integers(0, 2**16))
def test_the_papers_epsilon_is_below_float32_rounding(n: int, size: float, seed: int) -> None:
    p = softmax(np.random.default_rng(seed).normal(size=n) * size)
    bias = row_entropy(p) - row_entropy_with_epsilon(p)
    assert -1e-12 <= bias <= n * 1e-9 + 1e-12


def test_a_dead_row_looks_collapsed_under_the_papers_code() -> None:
    """The trap of nansum: NaN is no entropy of 0."""
    p = np.full((2, 8), 1 / 8)
    p[1] = np.nan
    assert row_entropy_with_epsilon(p).tolist() == pytest.approx([math.log(8), 0.0])
    assert np.isnan(row_entropy(p)[1])
    rows = row_entropy(p).reshape(2, 1, 1)
    found = head_entropy(rows, convention="jha2025_code", visible=8)
    np.testing.assert_allclose(found, [math.log(8), 0.0])
    assert np.isnan(head_entropy(rows, convention="jha2025_paper")[1])


def test_padded_queries_are_no_rows_of_zero() -> None:
    """3 rows of 2 nats, one that failed and one of padding: (2 + 2 + 2 + 0) / 4."""
    rows = np.array([[[2.0, 2.0, 2.0, np.nan, np.nan]]])
    visible = np.array([1, 2, 3, 4, np.nan])
    assert head_entropy(rows, convention="jha2025_code", visible=visible) == pytest.approx(1.5)


def test_entropy_of_the_mean_is_above_the_mean_entropy() -> None:
    p = softmax(np.random.default_rng(0).normal(size=(50, 20)) * 3, axis=-1)
    assert row_entropy(p.mean(0)) > row_entropy(p).mean() + 0.5


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 300), st.floats(0, 40), st.integers(0, 2**16), st.sampled_from([0.2, 1, 4]))
def test_rows_lie_between_their_bounds(n: int, size: float, seed: int, power: float) -> None:
    x = np.random.default_rng(seed).normal(size=n)
    s = size * np.sign(x) * np.abs(x) ** power
    h = row_entropy(softmax(s))
    r = float(np.linalg.norm(s - s.mean()))
    lower, upper = entropy_bounds(r, n)
    slack = 1e-9 * (1 + r)
    assert lower - slack <= h <= upper + slack
    assert 0 <= lower <= upper + slack
    assert upper <= math.log(n) + slack


@pytest.mark.parametrize("n", [2, 3, 16, 197])
@pytest.mark.parametrize("r", [0.0, 0.3, 4.0, 60.0, 800.0])
def test_bounds_are_reached_by_one_logit_apart(n: int, r: float) -> None:
    """The rows that attain them: r (sqrt((n−1)/n), −1/sqrt(n(n−1)), …) and its negative."""
    row = np.full(n, -r / math.sqrt(n * (n - 1)))
    row[0] = r * math.sqrt((n - 1) / n)

    def entropy(s: np.ndarray) -> float:
        return float(-(softmax(s) * log_softmax(s)).sum())

    lower, upper = entropy_bounds(r, n)
    assert lower == pytest.approx(entropy(row), abs=1e-11)
    assert upper == pytest.approx(entropy(-row), abs=1e-11)


@pytest.mark.parametrize(("n", "r"), [(3, 0.7), (5, 3.0), (16, 6.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_row_of_that_norm_does_better(n: int, r: float, sign: int) -> None:
    def objective(x: np.ndarray) -> float:
        s = x - x.mean()
        s = s * r / np.linalg.norm(s)
        return sign * float(row_entropy(softmax(s)))

    starts = np.random.default_rng(0).normal(size=(12, n))
    best = min(minimize(objective, x).fun for x in starts)
    bound = entropy_bounds(r, n)[0 if sign > 0 else 1]
    assert sign * best == pytest.approx(bound, abs=1e-6)


def test_edges_of_the_bounds() -> None:
    lower, upper = entropy_bounds([0.0, 5.0, np.inf, 1e300, np.nan], 1)
    np.testing.assert_array_equal(lower, [0, 0, 0, 0, np.nan])
    np.testing.assert_array_equal(upper, lower)
    lower, upper = entropy_bounds([0.0, 0.1, 3.0, 50.0], 2)
    np.testing.assert_allclose(lower, upper, rtol=1e-12)
    for r in (1e6, 1e300, np.inf):
        lower, upper = entropy_bounds(r, np.array([2, 3, 100]))
        np.testing.assert_array_equal(lower, 0)
        np.testing.assert_allclose(upper, np.log([1, 2, 99]), atol=1e-15)
    assert np.isnan(entropy_bounds(np.nan, 5)).all()
    assert np.isnan(entropy_bounds(1.0, np.nan)).all()


def test_bounds_fall_along_a_chain_of_larger_norms() -> None:
    s = np.random.default_rng(1).normal(size=(12, 12)) + 1
    row = s[3]
    norms = [np.linalg.norm(row - row.mean()), np.linalg.norm(row), np.linalg.norm(s, 2)]
    lower, _ = entropy_bounds(norms, 12)
    assert norms == sorted(norms)
    assert (np.diff(lower) < 0).all()


@pytest.mark.parametrize("bad", [(1.0, 0), (-1.0, 3)])
def test_bounds_refuse(bad: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match="give n of 1 or more"):
        entropy_bounds(*bad)


def uniform_rows(heads: int, lengths: list[int], positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Entropies ln(i + 1) and visible keys i + 1, NaN from each sample's length on."""
    visible = np.tile(np.arange(1.0, positions + 1), (heads, len(lengths), 1))
    for sample, length in enumerate(lengths):
        visible[:, sample, length:] = np.nan
    return np.log(visible), visible


@pytest.mark.parametrize("length", [64, 128, 512])
def test_uniform_heads(length: int) -> None:
    rows, visible = uniform_rows(2, [length] * 3, length)
    closed = [math.lgamma(length + 1) / length] * 2
    for convention in ("zhai2023", "jha2025_paper"):
        np.testing.assert_allclose(head_entropy(rows, convention=convention), closed)
    found = head_entropy(rows, convention="normalised_visible", visible=visible)
    np.testing.assert_allclose(found, 1.0)


def test_conventions_differ_where_they_should() -> None:
    """A sample of 10 rows at 1 nat and one of 2 rows at 4 nats."""
    rows = np.full((1, 2, 10), np.nan)
    rows[0, 0], rows[0, 1, :2] = 1.0, 4.0
    assert head_entropy(rows, convention="zhai2023") == pytest.approx((10 + 8) / 12)
    assert head_entropy(rows, convention="jha2025_paper") == pytest.approx((1 + 4) / 2)


def test_normalised_leaves_out_rows_that_see_one_key() -> None:
    rows = np.array([[[0.0, math.log(2), 0.5 * math.log(3)]]])
    found = head_entropy(rows, convention="normalised_visible", visible=[1, 2, 3])
    assert found == pytest.approx((1 + 0.5) / 2)


def test_a_head_without_rows_is_nan_and_a_sample_without_rows_is_not_there() -> None:
    rows = np.full((2, 2, 4), np.nan)
    rows[0, 0] = 2.0
    for convention in ("zhai2023", "jha2025_paper"):
        np.testing.assert_array_equal(head_entropy(rows, convention=convention), [2.0, np.nan])


def test_unknown_conventions_are_refused_with_the_list() -> None:
    with pytest.raises(
        ValueError, match="zhai2023, jha2025_paper, jha2025_code, normalised_visible"
    ):
        head_entropy(np.zeros((1, 1, 1)), convention="zhai")
    for convention in ("normalised_visible", "jha2025_code"):
        with pytest.raises(ValueError, match="needs visible"):
            head_entropy(np.zeros((1, 1, 1)), convention=convention)
    assert all(row.source for row in HEAD_ENTROPY_CONVENTIONS.values())
