from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t as student

from probes.means import clustered_mean

Floats = NDArray[np.float64]


def ragged(samples: int, positions: int, seed: int) -> Floats:
    """Values with a shift a sample and about a third missing; every sample keeps one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, positions)) + rng.normal(size=(samples, 1)) + 3
    x[rng.random(x.shape) < 0.3] = np.nan
    x[:, 0] = np.nan_to_num(x[:, 0], nan=1.0)
    return x


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 12), st.integers(2, 9), st.integers(0, 2**16))
def test_is_least_squares_on_a_constant_with_clustered_errors(
    samples: int, positions: int, clusters: int, seed: int
) -> None:
    x = ragged(samples, positions, seed)
    groups = np.arange(samples) % clusters
    there = ~np.isnan(x)
    y, codes = x[there], np.repeat(groups, there.sum(1))
    fit = sm.OLS(y, np.ones_like(y)).fit(
        cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False}, use_t=True
    )
    count = len(np.unique(groups))
    found = clustered_mean(x, groups)
    wanted = fit.bse[0] * math.sqrt(count / (count - 1))
    assert found.value == pytest.approx(fit.params[0], rel=1e-12)
    assert found.standard_error == pytest.approx(wanted, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_one_value_a_sample_is_the_ordinary_interval(level: float) -> None:
    x = np.random.default_rng(0).normal(size=(40, 1))
    found = clustered_mean(x, np.arange(40), level=level)
    error = x.std(ddof=1) / math.sqrt(40)
    assert found.value == pytest.approx(x.mean())
    assert found.standard_error == pytest.approx(error)
    wanted = student.interval(level, 39, loc=x.mean(), scale=error)
    assert (found.lower, found.upper) == pytest.approx(wanted)


def test_copies_of_a_token_add_no_certainty() -> None:
    """The same value 50 times in each sample: the error is that of one value a sample."""
    x = np.random.default_rng(1).normal(size=(12, 1))
    once = clustered_mean(x, np.arange(12))
    assert clustered_mean(np.repeat(x, 50, axis=1), np.arange(12)) == pytest.approx(once)


def test_samples_of_one_group_count_once() -> None:
    x = np.random.default_rng(2).normal(size=(6, 5))
    groups = np.array([3, 3, 7, 7, 9, 9])
    joined = x.reshape(3, 10)
    assert clustered_mean(x, groups) == pytest.approx(clustered_mean(joined, np.arange(3)))


def test_order_names_and_units_do_not_matter() -> None:
    x, groups = ragged(15, 6, 3), np.arange(15) // 2
    wanted = clustered_mean(x, groups)
    order = np.random.default_rng(0).permutation(15)
    assert clustered_mean(x[order], groups[order]) == pytest.approx(wanted)
    assert clustered_mean(x, 100 - 7 * groups) == pytest.approx(wanted)
    scaled = clustered_mean(5 - 2 * x, groups)
    assert scaled.value == pytest.approx(5 - 2 * wanted.value)
    assert scaled.standard_error == pytest.approx(2 * wanted.standard_error)
    assert scaled.lower == pytest.approx(5 - 2 * wanted.upper)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    shifts = rng.normal(size=(2000, 20, 1))
    draws = shifts + rng.normal(size=(2000, 20, 8))
    covered = [
        low < 0 < high for _, _, low, high in (clustered_mean(x, np.arange(20)) for x in draws)
    ]
    # Four standard errors of a share of 0.95 in 2000 trials are 0.0195.
    assert np.mean(covered) == pytest.approx(0.95, abs=0.0195)


def test_missing_samples_are_no_groups() -> None:
    x = np.array([[1.0, 2.0], [np.nan, np.nan], [4.0, 6.0]])
    wanted = clustered_mean(x[[0, 2]], np.arange(2))
    assert clustered_mean(x, np.arange(3)) == wanted
    assert wanted.value == pytest.approx(13 / 4)
    assert wanted.standard_error == pytest.approx(math.sqrt(2 * 2 * 3.5**2) / 4)


def test_half_precision_is_summed_in_double() -> None:
    x = np.full((4, 5000), 1.001, np.float16)
    assert clustered_mean(x, np.arange(4)).value == pytest.approx(float(x[0, 0]), rel=1e-12)


def test_too_little_gives_nan() -> None:
    assert all(math.isnan(x) for x in clustered_mean(np.full((3, 2), np.nan), np.arange(3)))
    one = clustered_mean(np.array([[1.0, 3.0], [2.0, np.nan]]), np.zeros(2))
    assert one.value == 2.0
    assert all(math.isnan(x) for x in one[1:])


def test_infinity_is_not_hidden() -> None:
    with np.errstate(invalid="ignore"):
        found = clustered_mean(np.array([[1.0, np.inf], [2.0, 3.0]]), np.arange(2))
    assert found.value == math.inf
    assert math.isnan(found.standard_error)
