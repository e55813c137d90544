"""Token trajectories against closed forms, a loop in NumPy, and invariances."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geometry.trajectory import TRAJECTORY, trajectory_statistics


def of(points, mask=None):
    found = trajectory_statistics(torch.as_tensor(np.array(points, dtype=float)), mask)
    return {name: (mean.value.numpy(), mean.terms.numpy()) for name, mean in found.items()}


def cloud(seed, tokens=9, width=5, samples=()):
    return np.random.default_rng(seed).normal(size=(*samples, tokens, width))


def rotation(seed, width=5):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def by_hand(points):
    """The same, pair by pair, with atan2 in the plane of the two vectors instead of arccos."""

    def angle(a, b):
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        return 2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))

    steps = np.diff(points, axis=0)
    turns = [angle(a, b) for a, b in itertools.pairwise(steps)]
    along = [angle(a, b) for a, b in itertools.pairwise(points)]
    n = len(points)
    cosines = [np.cos(angle(points[i], points[j])) for i in range(n) for j in range(n) if i != j]
    return {
        "curvature": np.mean(turns),
        "unsigned_curvature": np.mean([min(a, np.pi - a) for a in turns]),
        "state_angle": np.mean(along),
        "norm": np.mean([np.sqrt((p**2).sum()) for p in points]),
        "cosine": np.mean(cosines),
    }


@given(st.integers(0, 2**32 - 1), st.integers(3, 12), st.integers(2, 7))
def test_a_loop_says_the_same(seed, tokens, width):
    points = cloud(seed, tokens, width)
    found, wanted = of(points), by_hand(points)
    assert set(found) == set(TRAJECTORY) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name][0], value, rtol=1e-9, atol=1e-7)
    terms = [found[name][1] for name in ("curvature", "state_angle", "norm", "cosine")]
    assert terms == [tokens - 2, tokens - 1, tokens, tokens * (tokens - 1)]


def test_a_straight_line_does_not_bend():
    line = np.arange(6)[:, None] * np.array([1.0, -2.0, 0.5]) + np.array([3.0, 1.0, 1.0])
    found = of(line)
    np.testing.assert_allclose(found["curvature"][0], 0, atol=1e-7)
    np.testing.assert_allclose(found["unsigned_curvature"][0], 0, atol=1e-7)


@pytest.mark.parametrize("corners", [3, 4, 5, 12, 100])
def test_a_regular_polygon_turns_by_its_outer_angle(corners):
    turn = 2 * np.pi / corners * np.arange(corners + 2)
    found = of(np.stack([np.cos(turn), np.sin(turn)], axis=1))
    np.testing.assert_allclose(found["curvature"][0], 2 * np.pi / corners, rtol=1e-9)
    np.testing.assert_allclose(found["state_angle"][0], 2 * np.pi / corners, rtol=1e-9)
    np.testing.assert_allclose(found["norm"][0], 1)


def test_right_angles_and_turning_back():
    stairs = np.cumsum(np.eye(6), axis=0)
    np.testing.assert_allclose(of(stairs)["curvature"][0], np.pi / 2)
    back = of([[0.0, 0], [1, 0], [0, 0], [1, 0]])
    np.testing.assert_allclose(back["curvature"][0], np.pi, atol=1e-7)
    np.testing.assert_allclose(back["unsigned_curvature"][0], 0, atol=1e-7)


@given(st.integers(0, 2**32 - 1))
def test_rotation_scale_translation_and_reversal(seed):
    points = cloud(seed)
    found = of(points)
    turned, scaled, reverse = of(points @ rotation(seed)), of(1e-3 * points), of(points[::-1])
    for name, (value, terms) in found.items():
        np.testing.assert_allclose(turned[name][0], value, rtol=1e-9, atol=1e-9)
        factor = 1e-3 if name == "norm" else 1.0
        np.testing.assert_allclose(scaled[name][0], factor * value, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(reverse[name][0], value, rtol=1e-9, atol=1e-9)
        assert turned[name][1] == terms
    moved = of(points + 3.0)
    for name in ("curvature", "unsigned_curvature"):
        np.testing.assert_allclose(moved[name][0], found[name][0], rtol=1e-9)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_is_not_read(side):
    real = cloud(1, samples=(3,))
    lengths = [9, 5, 3]
    padded, mask = np.full((3, 12, 5), np.nan), np.zeros((3, 12), bool)
    for i, n in enumerate(lengths):
        at = slice(0, n) if side == "right" else slice(12 - n, 12)
        padded[i, at], mask[i, at] = real[i, :n], True
    found = of(padded, torch.as_tensor(mask))
    for i, n in enumerate(lengths):
        for name, (value, terms) in of(real[i, :n]).items():
            np.testing.assert_allclose(found[name][0][i], value, rtol=1e-12)
            assert found[name][1][i] == terms


def test_many_samples_are_worked_on_in_parts():
    points = cloud(2, 128, 128, samples=(40,))
    together = of(points)
    for i in (0, 15, 16, 39):
        for name, (value, terms) in of(points[i]).items():
            np.testing.assert_allclose(together[name][0][i], value, rtol=1e-12)
            assert together[name][1][i] == terms


def test_a_gap_begins_another_path():
    points = cloud(3, 10)
    mask = np.ones(10, bool)
    mask[5] = False
    found = of(points, torch.as_tensor(mask))
    parts = [of(points[:5]), of(points[6:])]
    for name in ("curvature", "state_angle"):
        counts = [int(p[name][1]) for p in parts]
        assert found[name][1] == sum(counts)
        wanted = sum(n * p[name][0] for n, p in zip(counts, parts, strict=True)) / sum(counts)
        np.testing.assert_allclose(found[name][0], wanted)


def test_a_repeated_token_has_no_direction_and_is_counted_out():
    path = np.array([[1.0, 0], [2, 0], [2, 0], [3, 0], [4, 0], [4, 1]])
    found = of(path)
    # Differences: e, 0, e, e, up. Only (e, e) and (e, up) are pairs of directions.
    assert found["curvature"][1] == 2
    np.testing.assert_allclose(found["curvature"][0], np.pi / 4)
    still = of(np.ones((4, 2)))
    assert still["curvature"][1] == 0
    assert np.isnan(still["curvature"][0])
    np.testing.assert_allclose(still["state_angle"][0], 0, atol=1e-7)
    np.testing.assert_allclose(still["cosine"][0], 1)


def test_a_state_of_zero_has_no_cosine():
    found = of([[1.0, 0], [0, 0], [0, 1], [1, 1]])
    assert found["state_angle"][1] == 1
    assert found["cosine"][1] == 3 * 2
    np.testing.assert_allclose(found["cosine"][0], 2 * 2 * np.sqrt(0.5) / 6)


def test_not_a_number_spreads_and_keeps_its_terms():
    points = cloud(4)
    points[3, 1] = np.nan
    for name, (value, terms) in of(points).items():
        assert np.isnan(value), name
        assert terms > 0


def test_short_samples_and_none():
    assert of(cloud(0, 2))["curvature"][1] == 0
    assert np.isnan(of(cloud(0, 1))["cosine"][0])
    assert of(np.empty((0, 4, 3)))["norm"][0].shape == (0,)
    assert of(np.empty((2, 0, 3)))["norm"][1].tolist() == [0, 0]


def test_shapes_are_kept_and_checked():
    assert of(cloud(0, samples=(2, 3)))["norm"][0].shape == (2, 3)
    with pytest.raises(ValueError, match=r"give \(…, token, feature\)"):
        of(np.ones(3))
    with pytest.raises(ValueError, match="give booleans of shape"):
        of(cloud(0), torch.ones(4, dtype=torch.bool))
