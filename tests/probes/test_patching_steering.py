"""Recovery by patching and steering directions against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from probes.patching import normalised_recovery
from probes.steering import difference_of_means, random_directions


def draws(seed: int, pairs: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=pairs), generator.normal(size=pairs) + 3


@given(seed=st.integers(0, 999), share=st.floats(-2, 2))
def test_a_constant_share_is_recovered_without_error(seed: int, share: float) -> None:
    receiver, donor = draws(seed)
    patched = receiver + share * (donor - receiver)
    found = normalised_recovery(patched, receiver, donor, np.arange(12))
    np.testing.assert_allclose(found, [share, 0, share, share], atol=1e-6)


@given(seed=st.integers(0, 999), shift=st.floats(-5, 5), scale=st.floats(0.1, 9))
def test_the_logits_origin_and_scale_are_no_matter(seed: int, shift: float, scale: float) -> None:
    receiver, donor = draws(seed)
    patched = np.random.default_rng(seed + 1).normal(size=12)
    one = normalised_recovery(patched, receiver, donor, np.arange(12))
    moved = [shift + scale * x for x in (patched, receiver, donor)]
    np.testing.assert_allclose(normalised_recovery(*moved, np.arange(12)), one, rtol=1e-6)


def test_the_error_is_the_jackknife_over_groups() -> None:
    receiver, donor = draws(5)
    patched, groups = draws(6)[0], np.repeat([7, 3, 9, 1], 3)
    found = normalised_recovery(patched, receiver, donor, groups)
    above, below = patched - receiver, donor - receiver
    assert found.value == pytest.approx(above.sum() / below.sum())
    without = [above[groups != g].sum() / below[groups != g].sum() for g in (1, 3, 7, 9)]
    error = np.sqrt(3 / 4 * np.square(np.array(without) - np.mean(without)).sum())
    assert found.standard_error == pytest.approx(error)
    assert found.upper - found.value == pytest.approx(student.ppf(0.975, 3) * error)


def test_the_interval_covers_a_known_share() -> None:
    generator, inside = np.random.default_rng(0), 0
    for _ in range(200):
        whole = generator.normal(3, 1, 30)
        moved = 0.4 * whole + generator.normal(0, 1, 30)
        found = normalised_recovery(moved, np.zeros(30), whole, np.arange(30))
        inside += found.lower <= 0.4 <= found.upper
    assert 180 <= inside <= 199


def test_what_is_missing_is_left_out_or_said() -> None:
    receiver, donor = draws(2)
    patched = receiver + 0.5 * (donor - receiver)
    patched[3] = np.nan
    found = normalised_recovery(patched, receiver, donor, np.arange(12))
    assert found.value == pytest.approx(0.5)
    one_group = normalised_recovery(patched, receiver, donor, np.zeros(12))
    assert one_group.value == pytest.approx(0.5)
    assert np.isnan(one_group.standard_error)
    for nothing in (
        normalised_recovery(patched, receiver, receiver, np.arange(12)),
        normalised_recovery(patched * np.nan, receiver, donor, np.arange(12)),
    ):
        assert np.isnan(nothing).all()


@given(seed=st.integers(0, 999))
def test_the_direction_points_from_one_mean_to_the_other(seed: int) -> None:
    generator = np.random.default_rng(seed)
    states, positive = generator.normal(size=(20, 3, 5)), np.arange(20) % 3 == 0
    shift = generator.normal(size=(3, 5))
    plain = difference_of_means(states, positive)
    moved = difference_of_means(states + positive[:, None, None] * shift, positive)
    np.testing.assert_allclose(moved - plain, shift, atol=1e-12)
    np.testing.assert_allclose(difference_of_means(states + 4, positive), plain, atol=1e-12)
    np.testing.assert_allclose(difference_of_means(states, ~positive), -plain)


def test_one_kind_alone_gives_no_direction() -> None:
    for positive in (np.ones(4, bool), np.zeros(4, bool)):
        assert np.isnan(difference_of_means(np.ones((4, 3)), positive)).all()


def test_random_directions_are_as_long_and_point_everywhere() -> None:
    direction = np.array([3.0, 0, 4.0, 0])
    drawn = random_directions(direction, 4000, 1)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 5)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.15)
    # Of a direction drawn evenly in d dimensions each coordinate's square is 1/d of the length's.
    np.testing.assert_allclose((drawn**2).mean(axis=0), 25 / 4, rtol=0.06)
    np.testing.assert_array_equal(drawn, random_directions(direction, 4000, 1))
