"""A recovery over a difference that is rounding is NaN; over a real one it is a number."""

from __future__ import annotations

import numpy as np
import pytest

from probes.patching import normalised_recovery


def test_a_difference_that_cancels_to_rounding_recovers_nothing() -> None:
    receiver = np.array([7.1, -3.3, 5.0, 2.2])
    apart = np.array([1.0, -1.0, 2.0, -2.0])  # sums to 0, in float32 to its rounding
    donor = receiver + apart + np.array([0, 1e-7, 0, 0])
    patched = receiver + 0.5
    assert np.isnan(normalised_recovery(patched, receiver, donor, np.arange(4)).value)
    donor = receiver + apart + np.array([0, 1e-2, 0, 0])
    half = receiver + 0.5 * (donor - receiver)
    assert normalised_recovery(half, receiver, donor, np.arange(4)).value == pytest.approx(0.5)
    # Without pair 0 the rest is −1: there is an error. Where one group leaves rounding there is none.
    donor = receiver + np.array([1.0, 1e-8, 0, 0])
    found = normalised_recovery(half, receiver, donor, np.arange(4))
    assert np.isfinite(found.value)
    assert np.isnan(found.standard_error)
