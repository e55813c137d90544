"""Matrix entropies against closed forms, density matrices in NumPy, and invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import logm

from geometry.matrix_entropy import dataset_entropy, diff_erank, sentence_entropy
from tests.geometry.test_trajectory import cloud, rotation

BOTH = pytest.mark.parametrize("centered", [True, False])


def of(points, mask=None, *, centered):
    found = sentence_entropy(torch.as_tensor(np.array(points)), mask, centered=centered)
    return found.value.numpy(), found.terms.numpy()


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_orthogonal_states_have_ln_n(n):
    states = 3.0 * np.eye(40)[:n] * np.arange(1, n + 1)[:, None]
    value, terms = of(states, centered=False)
    np.testing.assert_allclose(value, np.log(n), atol=1e-12)
    assert terms == n
    np.testing.assert_allclose(dataset_entropy(states, centered=False), np.log(n), atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 9])
def test_a_centred_simplex_has_ln_of_n_less_one(n):
    """Centred, orthonormal states are a regular simplex: n − 1 equal directions."""
    value, terms = of(np.eye(n), centered=True)
    np.testing.assert_allclose(value, np.log(n - 1), atol=1e-12)
    assert terms == n
    np.testing.assert_allclose(dataset_entropy(np.eye(n)), np.log(n - 1), atol=1e-12)


def test_one_direction_has_none():
    line = np.outer(np.array([1.0, -2.0, 0.5, 4.0]), np.array([1.0, 2.0, 3.0]))
    for centered in (True, False):
        np.testing.assert_allclose(of(line, centered=centered)[0], 0, atol=1e-12)
        np.testing.assert_allclose(dataset_entropy(line, centered=centered), 0, atol=1e-12)


def test_two_unit_states_at_an_angle():
    """The Gram matrix over 2 has eigenvalues (1 ± cos θ) / 2."""
    for angle in (0.1, 1.0, 2.5):
        states = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
        p = (1 + np.array([1, -1]) * np.cos(angle)) / 2
        np.testing.assert_allclose(of(states, centered=False)[0], -(p * np.log(p)).sum())


@BOTH
@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.integers(2, 9))
def test_minus_trace_rho_ln_rho(centered, seed, tokens, width):
    points = cloud(seed, tokens, width)
    rows = points - points.mean(0) if centered else points
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rho = rows @ rows.T / tokens + 1e-14 * np.eye(tokens)  # the logarithm of a singular matrix
    wanted = -np.trace(rho @ logm(rho)).real
    value, terms = of(points, centered=centered)
    np.testing.assert_allclose(value, wanted, atol=1e-8)
    assert terms == tokens
    assert -1e-12 <= value <= np.log(min(tokens, width)) + 1e-12
    np.testing.assert_allclose(dataset_entropy(points, centered=centered), wanted, atol=1e-8)


@BOTH
@given(st.integers(0, 2**32 - 1))
def test_rotation_scale_and_order(centered, seed):
    points = cloud(seed)
    value, _ = of(points, centered=centered)
    shuffled = np.random.default_rng(seed).permutation(points)
    for other in (points @ rotation(seed), 1e4 * points, shuffled):
        np.testing.assert_allclose(of(other, centered=centered)[0], value, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            dataset_entropy(other, centered=centered), value, rtol=1e-9, atol=1e-9
        )
    if centered:
        np.testing.assert_allclose(of(points + 7.0, centered=True)[0], value, rtol=1e-8)


def test_negative_cosines_are_kept():
    """Opposite states are one direction; with negative entries set to 0 they would count as two."""
    value, _ = of([[1.0, 0.0], [-1.0, 0.0]], centered=False)
    np.testing.assert_allclose(value, 0, atol=1e-12)


@pytest.mark.parametrize("side", ["left", "right"])
@BOTH
def test_padding_on_either_side_is_not_read(centered, side):
    real = cloud(1, samples=(2,))
    padded, mask = np.full((2, 12, 5), np.nan), np.zeros((2, 12), bool)
    for i, n in enumerate((9, 4)):
        at = slice(0, n) if side == "right" else slice(12 - n, 12)
        padded[i, at], mask[i, at] = real[i, :n], True
    values, terms = of(padded, torch.as_tensor(mask), centered=centered)
    for i, n in enumerate((9, 4)):
        assert values[i] == of(real[i, :n], centered=centered)[0]
        assert terms[i] == n


def test_states_without_a_direction_are_left_out():
    states = np.array([[1.0, 0], [0, 0], [0, 2]])
    value, terms = of(states, centered=False)
    np.testing.assert_allclose(value, np.log(2))
    assert terms == 2
    for same in (np.full((5, 3), 0.1, np.float32), np.full((5, 3), 0.1)):
        value, terms = of(same, centered=True)
        assert np.isnan(value)
        assert terms == 0
        assert np.isnan(dataset_entropy(same))


@BOTH
def test_not_a_number_is_no_number(centered):
    for bad in (np.nan, np.inf):
        points = cloud(2)
        points[1, 1] = bad
        value, terms = of(points, centered=centered)
        assert np.isnan(value)
        assert terms == 9
        assert np.isnan(dataset_entropy(points, centered=centered))
    assert of(np.empty((0, 3, 2)), centered=centered)[0].shape == (0,)
    assert of(np.empty((2, 0, 2)), centered=centered)[1].tolist() == [0, 0]


def test_diff_erank_is_directions_lost():
    spread, flat = np.vstack([np.eye(6), -np.eye(6)]), np.zeros((12, 6))
    flat[:, :2] = np.tile([[1.0, 0], [-1, 0], [0, 1], [0, -1]], (3, 1))
    np.testing.assert_allclose(diff_erank(spread, flat), 6 - 2)
    np.testing.assert_allclose(diff_erank(flat, spread), 2 - 6)
    assert diff_erank(spread, spread) == 0
    assert np.isnan(diff_erank(spread, np.full((3, 6), np.nan)))


def test_a_matrix_is_asked_for():
    with pytest.raises(ValueError, match=r"give \(sample, feature\)"):
        dataset_entropy(np.ones(3))
