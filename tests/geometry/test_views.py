"""Views of groups, and volumes, against closed forms, slow definitions and invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power

from geometry.semantic_volume import semantic_volume
from geometry.views import dime, infonce, lidar, paired_views
from tests.geometry.test_trajectory import rotation


def grouped(seed, groups=6, members=4, width=5, noise=0.3):
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(groups, width))
    x = np.repeat(means, members, axis=0) + noise * rng.normal(size=(groups * members, width))
    return x, np.repeat(np.arange(groups), members)


def views_of(seed, groups=8, width=5, noise=0.3):
    x, labels = grouped(seed, groups, 2, width, noise)
    return paired_views(x, labels)


def test_pairs_are_the_first_two_of_each_group():
    x = np.arange(7.0)[:, None]
    first, second = paired_views(x, [5, 3, 5, 9, 3, 5, 7])
    assert first.ravel().tolist() == [1, 0]
    assert second.ravel().tolist() == [4, 2]
    assert paired_views(x, np.arange(7)).first.shape == (0, 1)


def slow_lidar(x, labels, delta):
    """The definition, by sums over classes and members and a matrix square root."""
    names = np.unique(labels)
    means = np.stack([x[labels == g].mean(0) for g in names])
    centre = means.mean(0)
    between = np.mean([np.outer(m - centre, m - centre) for m in means], axis=0)
    within = np.mean([np.cov(x[labels == g].T, bias=True) for g in names], axis=0) + delta * np.eye(
        x.shape[1]
    )
    half = fractional_matrix_power(within, -0.5)
    p = np.linalg.eigvalsh(half @ between @ half).clip(0)
    p = p / p.sum()
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


@given(st.integers(0, 2**32 - 1), st.integers(3, 8), st.integers(2, 5))
def test_lidar_is_its_definition(seed, groups, members):
    x, labels = grouped(seed, groups, members)
    keep = np.random.default_rng(seed).permutation(len(x))[: len(x) - 1]
    x, labels = x[keep], labels[keep]  # unequal groups, in any order
    sizes = np.bincount(labels)
    inside = np.isin(labels, np.flatnonzero(sizes >= 2))
    wanted = slow_lidar(x[inside], labels[inside], 1e-4)
    np.testing.assert_allclose(
        lidar(x, labels, convention="skean2025"), wanted, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(lidar(x, labels), np.exp(wanted), rtol=1e-6)


def test_lidar_of_a_simplex_of_classes_counts_directions():
    """Class means at a regular simplex and the same round scatter in each: g − 1 equal directions."""
    for g in (3, 5, 8):
        offsets = np.vstack([np.eye(g), -np.eye(g)]) * 0.1
        x = np.concatenate([np.eye(g)[k] + offsets for k in range(g)])
        value = lidar(x, np.repeat(np.arange(g), 2 * g))
        np.testing.assert_allclose(value, g - 1, rtol=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_lidar_does_not_see_rotation_translation_or_order(seed):
    x, labels = grouped(seed)
    value = lidar(x, labels)
    order = np.random.default_rng(seed).permutation(len(x))
    for other, names in (
        (x @ rotation(seed), labels),
        (x + 5.0, labels),
        (x[order], labels[order]),
    ):
        np.testing.assert_allclose(lidar(other, names), value, rtol=1e-6)
    np.testing.assert_allclose(lidar(x, 100 - 3 * labels), value, rtol=1e-6)


def test_lidar_without_classes_or_differences_is_no_number():
    x, labels = grouped(0)
    assert np.isnan(lidar(x, np.arange(len(x))))
    assert np.isnan(lidar(x, np.zeros(len(x), int)))
    assert np.isnan(lidar(np.ones((4, 3)), [0, 0, 1, 1]))
    x[0, 0] = np.nan
    assert np.isnan(lidar(x, labels))
    with pytest.raises(ValueError, match="give one of thilak2023"):
        lidar(x, labels, convention="lda")
    with pytest.raises(ValueError, match="give \\(sample, feature\\)"):
        lidar(x, labels[1:])


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 2))
def test_infonce_is_cross_entropy_of_cosines(seed, temperature):
    a, b = views_of(seed)
    found = infonce(a, b, temperature=temperature)
    unit = [torch.nn.functional.normalize(torch.as_tensor(v), dim=1) for v in (a, b)]
    logits = unit[0] @ unit[1].T / temperature
    wanted = torch.nn.functional.cross_entropy(logits, torch.arange(len(a)))
    np.testing.assert_allclose(found.loss, float(wanted), rtol=1e-9)
    np.testing.assert_allclose(found.bound, np.log(len(a)) - float(wanted), rtol=1e-9, atol=1e-12)
    assert found.bound <= np.log(len(a))
    turned = infonce(a @ rotation(seed), 3.0 * b @ rotation(seed), temperature=temperature)
    np.testing.assert_allclose(turned.loss, found.loss, rtol=1e-7, atol=1e-12)


def test_infonce_closed_forms():
    """Orthonormal matched views: −ln softmax of one 1 among n − 1 zeros; all alike: ln n."""
    n, t = 6, 0.1
    np.testing.assert_allclose(
        infonce(np.eye(n), np.eye(n)).loss, np.log(1 + (n - 1) * np.exp(-1 / t)), rtol=1e-9
    )
    alike = infonce(np.ones((n, 3)), np.ones((n, 3)))
    np.testing.assert_allclose(alike, (np.log(n), 0.0), atol=1e-12)


def test_dime_closed_forms():
    """Orthonormal views are as spread paired as not; one direction in each view carries nothing."""
    np.testing.assert_allclose(dime(np.eye(5), np.eye(5)), 0, atol=1e-12)
    np.testing.assert_allclose(dime(np.ones((5, 2)), np.ones((5, 2))), 0, atol=1e-12)
    # Two clusters of n/2: paired, the product kernel keeps both (ln 2); crossed, four cells (≤ ln 4).
    labels = np.repeat([0, 1], 50)
    clusters = np.eye(2)[labels]
    generator = np.random.default_rng(0)
    unpaired = []
    for _ in range(10):
        counts = np.bincount(2 * labels + labels[generator.permutation(100)], minlength=4) / 100
        unpaired.append(-(counts[counts > 0] * np.log(counts[counts > 0])).sum())
    np.testing.assert_allclose(dime(clusters, clusters), np.mean(unpaired) - np.log(2), rtol=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_dime_does_not_see_rotation_or_scale_and_is_seeded(seed):
    a, b = views_of(seed)
    value = dime(a, b, seed=seed)
    assert dime(a, b, seed=seed) == value
    np.testing.assert_allclose(dime(a @ rotation(seed), 0.1 * b, seed=seed), value, atol=1e-9)


def test_paired_views_carry_more_than_unrelated_ones():
    a, b = views_of(0, groups=60, width=10, noise=0.1)
    rng = np.random.default_rng(1)
    other = rng.normal(size=b.shape)
    assert dime(a, b) > 3 * abs(dime(a, other))
    assert infonce(a, b).bound > 2
    assert infonce(a, other).bound < 0


def test_views_that_cannot_be_compared():
    a, b = views_of(0)
    b[2] = 0.0
    assert np.isnan(dime(a, b))
    assert np.isnan(infonce(a, b)).all()
    assert np.isnan(dime(a[:1], a[:1]))
    for call in (dime, infonce):
        with pytest.raises(ValueError, match="give \\(group, feature\\) twice"):
            call(a, b[1:])
    with pytest.raises(ValueError, match="positive"):
        infonce(a, b, temperature=0)
    with pytest.raises(ValueError, match="at least 1"):
        dime(a, b, permutations=0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.floats(1e-8, 1))
def test_semantic_volume_is_a_determinant(seed, samples, width, ridge):
    x = np.random.default_rng(seed).normal(size=(samples, width))
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    _, wanted = np.linalg.slogdet(units @ units.T + ridge * np.eye(samples))
    found = semantic_volume(x, ridge=ridge)
    np.testing.assert_allclose(found, wanted / 2, rtol=1e-5, atol=1e-5)
    turned = semantic_volume(7.0 * x[::-1] @ rotation(seed, width), ridge=ridge)
    np.testing.assert_allclose(turned, found, rtol=1e-5, atol=1e-5)


def test_semantic_volume_of_two_states_is_the_sine():
    for angle in (0.2, 1.0, np.pi / 2):
        pair = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
        np.testing.assert_allclose(
            semantic_volume(pair, ridge=1e-12), np.log(np.sin(angle)), atol=1e-9
        )
    np.testing.assert_allclose(semantic_volume(np.eye(4), ridge=1e-6), 2 * np.log1p(1e-6))
    assert np.isnan(semantic_volume([[1.0, 0], [0, 0]]))
    assert np.isnan(semantic_volume([[1.0, np.inf]]))
    assert np.isnan(semantic_volume(np.empty((0, 3))))
    with pytest.raises(ValueError, match="positive"):
        semantic_volume(np.eye(2), ridge=0)
