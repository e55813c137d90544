"""The jackknife of any statistic of a spectrum, against its derivative by sample weight."""

import numpy as np
import pytest

from geometry.dispersion import mean_cosine
from geometry.jackknife import interval_from_influence, shared_among_ties, spectral_intervals

RNG = np.random.default_rng


def trace(eigenvalues):
    return float(eigenvalues.sum()), np.ones_like(eigenvalues)


@pytest.mark.parametrize("shape", [(50, 7), (7, 50)])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_trace_is_a_mean_of_squared_lengths(shape, grouped):
    x = RNG(0).standard_normal(shape)
    groups = np.arange(shape[0]) // 2 if grouped else np.arange(shape[0])
    _, (estimate,) = spectral_intervals(x, [trace], centered=False, groups=groups)
    lengths = (x**2).sum(axis=1)
    assert estimate.value == pytest.approx(lengths.mean())
    off = lengths - lengths.mean()
    sums = np.array([off[groups == g].sum() for g in np.unique(groups)])
    k = len(sums)
    error = np.sqrt(k / (k - 1) * (sums**2).sum()) / shape[0]
    assert estimate.standard_error == pytest.approx(error)
    if not grouped:
        assert error == pytest.approx(lengths.std(ddof=1) / np.sqrt(k))


def test_ties_share_and_the_rest_keep_theirs():
    spectrum = np.array([4.0, 2.0, 2.0 * (1 - 1e-16), 1.0])
    gradient = np.array([5.0, 1.0, 3.0, 7.0])
    np.testing.assert_array_equal(shared_among_ties(spectrum, gradient), [5.0, 2.0, 2.0, 7.0])


def test_influences_that_cancel_within_a_cluster_are_no_error():
    influence = np.array([1.0, -1.0, 2.0, -2.0])
    assert interval_from_influence(3.0, influence, groups=[0, 0, 1, 1]).standard_error == 0.0
    assert interval_from_influence(3.0, influence).standard_error > 0.0
    assert np.isfinite(mean_cosine(np.eye(3)))
