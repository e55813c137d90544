"""Half-sample extrapolation of RankMe: exact cases, invariances, an independent jackknife, and doubts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from benchmarks.extrapolation import CLOUDS, cloud, trial
from geometry.extrapolation import LIMITS, Doubts, half_sample_rankme
from geometry.intervals import log_rankme_influence, rankme_interval
from geometry.spectrum import eigenvalues, rankme


def gaussian(samples: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, features))


def log_rankme(x: np.ndarray) -> float:
    """RankMe the long way: singular values of the centred cloud."""
    p = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    p = p[p > 1e-20 * p.sum()] / p.sum()
    return float(-(p * np.log(p)).sum())


def test_the_value_is_twice_the_whole_less_the_mean_of_the_halves() -> None:
    # Eight clusters: 35 ways to halve them. One split must be one of them; all give their mean.
    x, groups = gaussian(48, 5), np.repeat(np.arange(8), 6)
    whole = log_rankme(x)
    possible = []
    for mask in range(256):
        half = np.array([mask >> g & 1 for g in groups], dtype=bool)
        if half.sum() == 24:
            possible.append(2 * whole - (log_rankme(x[half]) + log_rankme(x[~half])) / 2)
    one = half_sample_rankme(x, groups=groups, splits=1).estimate.value
    assert np.min(np.abs(np.log(one) - possible)) < 1e-12
    many = half_sample_rankme(x, groups=groups, splits=400).estimate.value
    assert np.log(many) == pytest.approx(np.mean(possible), abs=4 * np.std(possible) / 20)


def test_halves_that_repeat_the_whole_leave_it_as_it_is() -> None:
    # Groups are copies of one cloud, so every part has the same spectrum: nothing to extrapolate.
    part = gaussian(20, 4)
    found = half_sample_rankme(np.tile(part, (8, 1)), groups=np.repeat(np.arange(8), 20))
    assert found.estimate.value == pytest.approx(found.raw, rel=1e-12)
    assert found.raw == pytest.approx(np.exp(log_rankme(part)), rel=1e-12)


def test_the_error_is_that_of_a_numerical_jackknife() -> None:
    # One split: its value is a smooth function of a weight on each sample. Differentiate it numerically.
    x, groups = gaussian(64, 6, 3) * np.arange(1, 7) ** -0.5, np.repeat(np.arange(16), 4)
    found = half_sample_rankme(x, groups=groups, splits=1, seed=2)
    order = np.random.default_rng(2).permutation(16)
    half = np.isin(groups, order[:8])

    def weighted(weight: np.ndarray) -> float:
        def log(rows: np.ndarray) -> float:
            w = weight[rows] / weight[rows].sum()
            off = x[rows] - w @ x[rows]
            p = np.linalg.eigvalsh((off * w[:, None]).T @ off)
            p = p / p.sum()
            return float(-(p * np.log(p)).sum())

        every = np.ones(64, dtype=bool)
        return 2 * log(every) - (log(half) + log(~half)) / 2

    step, slopes = 1e-5, []
    for group in range(16):
        member = (groups == group) * step
        slopes.append((weighted(1 + member) - weighted(1 - member)) / (2 * step))
    assert np.log(found.estimate.value) == pytest.approx(weighted(np.ones(64)), rel=1e-12)
    expected = np.sqrt((np.array(slopes) ** 2).sum() * 16 / 15)
    assert found.estimate.standard_error == pytest.approx(expected, rel=1e-6)
    width = np.log(found.estimate.upper / found.estimate.lower)
    assert width == pytest.approx(2 * stdtrit(15, 0.975) * expected, rel=1e-6)


def test_influence_sums_to_the_error_of_the_raw_interval() -> None:
    x = gaussian(90, 7, 1)
    value, influence, parts = log_rankme_influence(x)
    interval = rankme_interval(x)
    assert np.exp(value) == pytest.approx(interval.value)
    assert influence.mean() == pytest.approx(0.0, abs=1e-12)
    variance = (influence**2).sum() / 90 / 89
    assert np.sqrt(variance) == pytest.approx(interval.standard_error)
    np.testing.assert_allclose(parts.values, eigenvalues(x))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    samples=st.integers(40, 90),
    features=st.integers(2, 60),
    scale=st.floats(1e-3, 1e3),
)
def test_invariances(seed: int, samples: int, features: int, scale: float) -> None:
    x = gaussian(samples, features, seed) * np.arange(1, features + 1) ** -0.4
    found = half_sample_rankme(x)
    rotation = np.linalg.qr(gaussian(features, features, seed + 1))[0]
    moved = half_sample_rankme(scale * (x @ rotation) + 3.0)
    assert found.estimate == pytest.approx(moved.estimate, rel=1e-6)
    for name in ("radial_kurtosis", "influence_kurtosis"):
        assert getattr(moved.doubts, name) == pytest.approx(getattr(found.doubts, name), rel=1e-5)
    assert moved.doubts.curvature == pytest.approx(found.doubts.curvature, rel=1e-4, abs=1e-6)
    names = np.random.default_rng(seed).permutation(1000)[:samples]
    singles = half_sample_rankme(x, groups=np.sort(names))
    assert singles.estimate == pytest.approx(found.estimate)


def test_the_bias_of_a_flat_gaussian_spectrum_is_that_of_marchenko_and_pastur() -> None:
    # ln RankMe of d flat directions reads low by d / 2n to first order; the rest is of order (d / n)².
    x, ratio = gaussian(3000, 60, 7), 60 / 3000
    found = half_sample_rankme(x)
    assert np.log(found.raw / 60) == pytest.approx(-ratio / 2, rel=0.1)
    assert abs(np.log(found.estimate.value / 60)) < ratio / 20


def test_uneven_groups_are_weighed_by_the_sizes_of_the_halves() -> None:
    # Taken for halves, parts of 4/7 and 3/7 and their like would leave a bias; weighed they leave little.
    groups = np.repeat(np.arange(8), [400, 60, 50, 45, 40, 50, 30, 25])
    logs = []
    for seed in range(12):
        found = half_sample_rankme(gaussian(700, 60, seed), groups=groups)
        logs.append(np.log([found.raw / 60, found.estimate.value / 60]))
    raw, value = np.mean(logs, axis=0)
    assert abs(value) < -raw / 3


def test_bad_input_is_refused() -> None:
    x = gaussian(20, 3)
    with pytest.raises(ValueError, match="one cloud"):
        half_sample_rankme(x[None])
    with pytest.raises(ValueError, match="one label for each of 20"):
        half_sample_rankme(x, groups=np.arange(19))
    with pytest.raises(ValueError, match="at least 8"):
        half_sample_rankme(x, groups=np.arange(20) % 7)
    with pytest.raises(ValueError, match="splits is 0"):
        half_sample_rankme(x, splits=0)
    with pytest.raises(ValueError, match="level 1"):
        half_sample_rankme(x, level=1.0)
    with pytest.raises(ValueError, match="convention"):
        half_sample_rankme(x, convention="none")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_what_is_no_cloud_gives_nan_and_no_trust(bad: float) -> None:
    x = gaussian(24, 3)
    x[5 if bad else slice(None)] = bad
    found = half_sample_rankme(x)
    assert np.isnan(found.estimate).all()
    assert not found.trusted


def test_doubts_are_raised_above_their_limits_only() -> None:
    fine = Doubts(1.0, 5.0, 0.1, 1.0, -0.1)
    assert fine.raised == ()
    for name, limit in LIMITS.items():
        assert fine._replace(**{name: limit}).raised == ()
        assert fine._replace(**{name: 1.01 * limit}).raised == (name,)
        assert fine._replace(**{name: np.nan}).raised == (name,)
    assert fine._replace(curvature=-1.0).raised == ("curvature",)


@pytest.mark.parametrize(
    ("kind", "doubt"),
    [
        ("t5", "radial_kurtosis"),
        ("massive", "largest_feature"),
        ("rare", "influence_kurtosis"),
        ("documents", "dependence"),
    ],
)
def test_each_doubt_sees_what_it_is_for(kind: str, doubt: str) -> None:
    for outcome in trial(kind, 640, 64, 1.0, 8, 1):
        assert doubt in outcome.found.doubts.raised


def test_no_doubt_about_a_gaussian_cloud_and_curvature_where_it_is_small() -> None:
    assert all(o.found.trusted for o in trial("gaussian", 640, 64, 1.0, 8, 1))
    few = trial("gaussian", 64, 128, 0.5, 8, 1)
    assert all("curvature" in outcome.found.doubts.raised for outcome in few)


def test_radial_kurtosis_of_a_scale_mixture_is_that_of_its_scales() -> None:
    # Half the samples twice as far out: E w² / (E w)² of w in {1, 4} is 8.5 / 6.25.
    x = gaussian(4000, 40)
    x[::2] *= 2.0
    assert half_sample_rankme(x, splits=1).doubts.radial_kurtosis == pytest.approx(1.36, abs=0.01)


def test_clouds_have_the_covariance_they_say() -> None:
    for kind in CLOUDS:
        x, truth, _ = cloud(kind, 100_000, 6, 1.0, np.random.default_rng(3))
        assert rankme(eigenvalues(x)) == pytest.approx(truth, rel=0.05)


@pytest.mark.slow
def test_coverage_and_flags_over_a_hundred_draws() -> None:
    found = {kind: trial(kind, 1024, 128, 1.0, 100, 0) for kind in CLOUDS}
    assert sum(o.covered for o in found["gaussian"]) >= 90
    assert sum(o.found.trusted for o in found["gaussian"]) >= 95
    for kind in ("t5", "massive", "rare", "documents"):
        assert sum(not o.found.trusted for o in found[kind]) >= 95, kind
