"""Quotients of attention that vanish up to rounding are NaN; well above their floor they are numbers."""

from __future__ import annotations

import numpy as np
import pytest

from attention.bands import reference_entropy
from attention.reach import entropy_line
from attention.weights import product_spectrum


def test_bins_of_one_length_have_no_slope() -> None:
    length = np.array([0.1 + 0.2, 0.3, 0.3])  # the mean is none of them, by rounding
    assert np.isnan(entropy_line([1.0, 2.0, 3.0], length, [1, 1, 1]).slope)
    line = entropy_line([1.0, 1.0 + 1e-6], [0.3, 0.3 + 1e-6], [1, 1])
    assert line.slope == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_a_product_that_cancels_has_no_stable_rank(size: float) -> None:
    generator = np.random.default_rng(0)
    basis = np.linalg.qr(generator.standard_normal((8, 8)))[0]
    # Three directions against three others: nothing but the rounding of inner products is left.
    one, other = size * basis[:3], size * basis[3:6]
    found = product_spectrum(one, other)
    assert found.norm < 1e-14 * size**2
    assert np.isnan(found.stable_rank)
    tilted = product_spectrum(one, other + 1e-9 * one)
    assert tilted.stable_rank == pytest.approx(3, rel=1e-5)  # known to 1e-16 over 1e-9, squared


def test_heads_without_entropy_have_no_largest_to_take_quarters_of() -> None:
    """Below 1e-5 nats an entropy of float32 rows is their rounding."""
    lengths = np.array([9, 9])
    assert np.isnan(reference_entropy([3e-7, 0.0], lengths, reference="observed_max"))
    assert reference_entropy([3e-4, 0.0], lengths, reference="observed_max") == 3e-4
