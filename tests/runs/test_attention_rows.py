"""Rows about heads, on arrays of known entropy and on a tiny captured series."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runs.catalogue import MEASURES
from runs.rows.attention_bands import COLLAPSED, OVERLOADED

FOLDS, LENGTH = 8, 16


def binned(heads: np.ndarray, spread: np.ndarray | float = 0.0) -> tuple[np.ndarray, ...]:
    """Means, counts and NaN counts (1, head, fold, bin) of heads whose folds lie about their entropy."""
    fold = np.linspace(-1, 1, FOLDS)
    values = heads[:, None] + np.asarray(spread).reshape(-1, 1) * fold
    mean = np.concatenate([values.mean(1, keepdims=True), values], axis=1)[None, :, :, None]
    mean = mean + np.array([-0.01, 0.01])  # two bins
    count = np.full(mean.shape, 10)
    count[:, :, 0] *= FOLDS
    return mean, count, np.zeros_like(count)


def call(name: str, convention: str, *arrays: np.ndarray) -> dict[str, np.ndarray]:
    row = MEASURES[name, convention]
    return dict(zip(row.outputs, row.function(*arrays, np.full(3, LENGTH)), strict=True))


def test_bands_of_heads() -> None:
    heads = np.array([0.1, 0.6, 1.2, 2.0, 1.9])
    found = call("band_share", "observed_max", *binned(heads))
    np.testing.assert_allclose(found["value"], [0.2, 0.2, 0.2, 0.4])
    band = call("entropy_band", "observed_max", *binned(heads))
    np.testing.assert_array_equal(band["value"], [[0, 1, 2, 3, 3]])
    ratio = call("entropy_ratio", "causal_uniform", *binned(heads))
    uniform = math.lgamma(LENGTH + 1) / LENGTH
    np.testing.assert_allclose(ratio["value"], heads[None] / uniform)
    longest = call("entropy_ratio", "log_length", *binned(heads))
    np.testing.assert_allclose(longest["value"], heads[None] / math.log(LENGTH))


def test_a_head_near_an_edge_is_in_either_band() -> None:
    heads = np.array([2.0, 1.01, 0.2])
    found = call("band_share", "observed_max", *binned(heads, np.array([0.0, 0.1, 0.0])))
    np.testing.assert_allclose(found["value"], [1 / 3, 0, 1 / 3, 1 / 3])
    np.testing.assert_allclose(found["lower"], [1 / 3, 0, 0, 1 / 3])
    np.testing.assert_allclose(found["upper"], [1 / 3, 1 / 3, 1 / 3, 1 / 3])


def test_each_fold_has_its_own_maximum() -> None:
    """All heads move together from fold to fold: their ratios do not move at all."""
    heads = np.array([2.0, 1.0, 0.2])
    ratio = call("entropy_ratio", "observed_max", *binned(heads, heads / 10))
    np.testing.assert_allclose(ratio["upper"] - ratio["lower"], 0, atol=1e-12)
    fixed = call("entropy_ratio", "causal_uniform", *binned(heads, heads / 10))
    assert (fixed["upper"] - fixed["lower"] > 0.01).all()


@pytest.mark.parametrize("name", [*COLLAPSED, *OVERLOADED])
def test_collapsed_and_overloaded_heads(name: str) -> None:
    uniform = math.lgamma(LENGTH + 1) / LENGTH
    heads = uniform * np.array([0.05, 0.2, 0.5, 0.8, 0.95])
    measure = "collapsed_heads" if name in COLLAPSED else "overloaded_heads"
    found = call(measure, name, *binned(heads))
    wanted = 2 if "quarter" in name else 1
    assert {float(x) for x in found.values()} == {wanted}


def test_heads_that_failed_count_as_zero_under_the_code_and_as_failed_elsewhere() -> None:
    """30 rows of 2 nats and 10 that are NaN are 1.5 nats to the code of arXiv 2501.03489."""
    mean, count, nan_count = (x[0, 0] for x in binned(np.array([2.0])))
    mean = np.full_like(mean, 2.0)
    nan_count = nan_count.copy()
    nan_count[:, 1] = count[:, 1] // 2
    count = count.copy()
    count[:, 1] -= nan_count[:, 1]
    code = MEASURES["head_entropy", "jha2025_code"].function(mean, count, nan_count)
    assert code[0] == pytest.approx(1.5)
    zhai = MEASURES["head_entropy", "zhai2023"].function(mean, count, nan_count)
    assert np.isnan(zhai[0])


def test_the_paper_weighs_samples_alike() -> None:
    means = np.array([2.0, *np.linspace(1.5, 2.5, FOLDS)])
    value, error, lower, upper = MEASURES["head_entropy", "jha2025_paper"].function(means)
    assert value == 2.0
    assert error == pytest.approx(np.linspace(1.5, 2.5, FOLDS).std(ddof=1) / math.sqrt(FOLDS))
    assert lower < 2.0 < upper
