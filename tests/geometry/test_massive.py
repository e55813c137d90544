"""Massive activations against NumPy's sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geometry.massive import is_massive, largest_magnitudes


@given(seed=st.integers(0, 1000), count=st.integers(1, 5))
def test_they_are_those_of_a_sort(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    state, length = rng.normal(size=(3, 7, 5)).astype(np.float32), rng.integers(1, 8, 3)
    found = largest_magnitudes(torch.as_tensor(state), length, count=count)
    for row, real in enumerate(length):
        flat = np.sort(np.abs(state[row, :real]).ravel())
        np.testing.assert_array_equal(found.magnitude[row], flat[::-1][:count])
        assert found.median[row] == flat[(flat.size - 1) // 2]
        for value, i, j in zip(*(x[row] for x in found[:3]), strict=True):
            assert abs(state[row, i, j]) == value
            assert i < real


def test_padding_is_not_looked_at_and_nan_shows() -> None:
    state = torch.ones(2, 4, 3)
    state[0, 2:] = torch.inf
    state[1, 0, 1] = torch.nan
    found = largest_magnitudes(state, [2, 4], count=2)
    assert found.magnitude[0].tolist() == [1, 1]
    assert found.magnitude[1, 0].isnan()
    with pytest.raises(ValueError, match="3 numbers, fewer than the 4"):
        largest_magnitudes(state, [1, 4], count=4)


def test_massive_is_large_and_far_above_the_median() -> None:
    assert is_massive(101, 0.1).tolist() == 1
    assert is_massive(100, 0.01).tolist() == 0
    assert is_massive(101, 0.2).tolist() == 0
    assert is_massive(3, 0.1, absolute=1, ratio=10).tolist() == 1
    assert np.isnan(is_massive([np.nan, 101], [1, np.nan])).all()
