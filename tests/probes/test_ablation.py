from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from probes.ablation import head_ablation

Head = tuple[int, int] | None


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7))
def test_every_head_has_its_own_cell(blocks: int, heads: int, samples: int) -> None:
    """A loss that spells block, head and sample in its digits."""
    asked: list[Head] = []

    def losses(head: Head) -> NDArray[np.float64]:
        asked.append(head)
        block, index = (0, 0) if head is None else head
        return 100.0 * block + 10.0 * index + np.arange(samples) / 10

    whole, ablated = head_ablation(losses, blocks=blocks, heads=heads)
    np.testing.assert_array_equal(whole, np.arange(samples) / 10)
    block, index, sample = np.ogrid[1 : blocks + 1, :heads, :samples]
    np.testing.assert_array_equal(ablated, 100.0 * block + 10.0 * index + sample / 10)
    assert len(asked) == len(set(asked)) == blocks * heads + 1


def test_an_additive_model_loses_what_each_head_gave() -> None:
    """Linear heads write to one number and the loss is its square error: a closed form."""
    rng = np.random.default_rng(0)
    written = rng.normal(size=(3, 4, 10))
    target = written.sum((0, 1)) + rng.normal(size=10)

    def losses(head: Head) -> NDArray[np.float64]:
        left = written.copy()
        if head is not None:
            left[head[0] - 1, head[1]] = 0
        found: NDArray[np.float64] = (target - left.sum((0, 1))) ** 2
        return found

    whole, ablated = head_ablation(losses, blocks=3, heads=4)
    residual = target - written.sum((0, 1))
    np.testing.assert_allclose(whole, residual**2)
    # (r + w)² − r² = 2 r w + w²
    np.testing.assert_allclose(
        ablated - whole, 2 * residual * written + written**2, rtol=1e-9, atol=1e-12
    )


def test_nan_stays_where_it_arose() -> None:
    def losses(head: Head) -> NDArray[np.float64]:
        return np.array([1.0, np.nan if head == (2, 0) else 2.0])

    whole, ablated = head_ablation(losses, blocks=2, heads=2)
    assert not np.isnan(whole).any()
    np.testing.assert_array_equal(np.argwhere(np.isnan(ablated)), [[1, 0, 1]])
