from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from attention.entropy import entropy_bounds, row_entropy
from attention.weights import (
    matrix_logit_norm,
    product_spectrum,
    relative_rotation,
    triangle,
    weight_logit_norm,
)

Draw = np.random.Generator


def angles(offset: float, rotary: int, base: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    half = offset * base ** (-np.arange(rotary // 2) / (rotary // 2))
    both = np.concatenate([half, half])
    return np.cos(both), np.sin(both)


def turned(x: np.ndarray, rotary: int) -> np.ndarray:
    """Rotary embedding of rows (position, feature) as complex numbers: another way than matrices."""
    half = rotary // 2
    pairs = x[:, :half] + 1j * x[:, half:rotary]
    pairs = pairs * np.exp(1j * np.arange(len(x))[:, None] * 100.0 ** (-np.arange(half) / half))
    return np.concatenate([pairs.real, pairs.imag, x[:, rotary:]], axis=1)


@pytest.mark.parametrize("middle", [False, True])
def test_norms_are_those_of_the_whole_product(middle: bool) -> None:
    draw = np.random.default_rng(0)
    left, right = draw.normal(size=(3, 40, 6)), draw.normal(size=(3, 30, 6))
    turn = draw.normal(size=(6, 6)) if middle else np.eye(6)
    whole = 0.3 * left @ turn @ right.transpose(0, 2, 1)
    found = product_spectrum(left, right, turn if middle else None, scaling=0.3)
    values = np.linalg.svd(whole, compute_uv=False)
    np.testing.assert_allclose(found.norm, values[:, 0])
    np.testing.assert_allclose(found.stable_rank, (whole**2).sum((1, 2)) / values[:, 0] ** 2)
    again = product_spectrum(triangle(left), triangle(right), turn, scaling=0.3)
    np.testing.assert_allclose(again.norm, found.norm)


def test_known_spectra() -> None:
    """A product of rank one has stable rank 1, orthonormal columns have norm 1 and rank k."""
    one = product_spectrum(np.ones((7, 1)), np.ones((5, 1)))
    assert one.norm == pytest.approx(math.sqrt(35))
    assert one.stable_rank == pytest.approx(1)
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 4)))[0]
    same = product_spectrum(basis, basis)
    assert same.norm == pytest.approx(1)
    assert same.stable_rank == pytest.approx(4)
    nothing = product_spectrum(np.zeros((7, 2)), basis[:7, :2])
    assert nothing.norm == 0
    assert np.isnan(nothing.stable_rank)
    failed = product_spectrum(np.stack([basis, basis * np.nan]), basis)
    np.testing.assert_allclose(failed.norm, [1, np.nan])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9), st.integers(0, 2**16), st.sampled_from([4, 6, 8]))
def test_one_matrix_an_offset_gives_the_rotated_logits(offset: int, seed: int, rotary: int) -> None:
    draw = np.random.default_rng(seed)
    x, w_q, w_k = draw.normal(size=(10, 12)), draw.normal(size=(12, 8)), draw.normal(size=(12, 8))
    s = turned(x @ w_q, rotary) @ turned(x @ w_k, rotary).T
    middle = relative_rotation(*angles(offset, rotary), 8)
    wanted = np.diagonal(s, -offset)
    made = (x @ w_q @ middle @ w_k.T @ x.T).diagonal(-offset)
    np.testing.assert_allclose(made, wanted, atol=1e-9)
    np.testing.assert_allclose(middle @ middle.T, np.eye(8), atol=1e-12)


def test_rotation_changes_the_norm_of_the_product_but_not_of_its_factors() -> None:
    draw = np.random.default_rng(0)
    w = draw.normal(size=(20, 8))
    still = product_spectrum(w, w).norm
    spread = [product_spectrum(w, w, relative_rotation(*angles(d, 8), 8)).norm for d in range(6)]
    assert spread[0] == pytest.approx(still)
    assert min(spread) < 0.95 * still
    largest = np.linalg.norm(w, 2) ** 2
    assert all(norm <= largest + 1e-9 for norm in spread)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 24), st.floats(0.01, 1.5), st.integers(0, 2**16), st.booleans())
def test_bounds_are_monotone_from_row_to_matrix_to_weight(
    length: int, size: float, seed: int, rotated: bool
) -> None:
    """r_i ≤ ‖s_i‖ ≤ ‖S‖₂ ≤ the weights' norm, so each level allows less entropy than the one before."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(length, 16))
    w_q, w_k = size * draw.normal(size=(2, 16, 8))
    q, k = (turned(x @ w, 8) if rotated else x @ w for w in (w_q, w_k))
    scaling = 8**-0.5
    s = q @ k.T * scaling
    matrix = float(matrix_logit_norm(q, k, scaling=scaling))
    weight = float(weight_logit_norm(x, w_q, w_k, scaling=scaling, rotated=rotated))
    assert matrix == pytest.approx(np.linalg.norm(s, 2), rel=1e-9)
    assert matrix <= weight * (1 + 1e-9)
    for i in range(length):
        row = s[i, : i + 1]
        norms = [np.linalg.norm(row - row.mean()), np.linalg.norm(row), matrix, weight]
        assert (np.diff(norms) >= -1e-9 * weight).all()
        lower, upper = entropy_bounds(norms, i + 1)
        entropy = row_entropy(softmax(row))
        assert (np.diff(lower) <= 1e-9).all()
        assert (np.diff(upper) <= 1e-9).all()
        assert lower[0] - 1e-9 <= entropy <= upper[0] + 1e-9


def test_turned_queries_may_be_larger_than_the_projection_but_not_in_the_frobenius_norm() -> None:
    """Why the product of spectral norms with ‖X Xᵀ‖₂ is no bound under rotary embedding."""
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    opposite = np.array([[np.cos(-t), np.sin(-t)] for t in range(2)]).reshape(2, 2)
    both = np.linalg.norm(turned(opposite, 2), 2)
    assert both > np.linalg.norm(opposite, 2) * 1.1
    assert np.linalg.norm(turned(opposite, 2)) == pytest.approx(np.linalg.norm(opposite))
    assert np.linalg.norm(turned(x, 2)) == pytest.approx(np.linalg.norm(x))


def test_the_bound_of_a_random_model_is_vacuous_at_weight_level() -> None:
    """Width 512, 64 features a head: the row's bound says something and the weights' says 0."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(64, 512))
    w_q, w_k = draw.normal(size=(2, 512, 64)) / math.sqrt(512)
    q, k = x @ w_q, x @ w_k
    s = q @ k.T / 8
    matrix = float(matrix_logit_norm(q, k, scaling=1 / 8))
    weight = float(weight_logit_norm(x, w_q, w_k, scaling=1 / 8, rotated=False))
    rows = np.linalg.norm(s - s.mean(1, keepdims=True), axis=1)
    lower = [float(entropy_bounds(norm, 64)[0]) for norm in (rows.max(), matrix, weight)]
    assert rows.max() < matrix < weight
    assert lower[2] < 1e-40
    assert lower[0] > lower[1] > lower[2]
