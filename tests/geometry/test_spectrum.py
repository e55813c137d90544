"""Spectra, RankMe under each convention and alpha-ReQ: closed forms, invariances, an SVD."""

import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from scipy.stats import ortho_group

from geometry.spectrum import (
    ALPHA_CONVENTIONS,
    RANKME_CONVENTIONS,
    alpha_req,
    alpha_req_fit,
    decompose,
    eigenvalues,
    rankme,
)

RNG = np.random.default_rng


def power_law(exponent, dim=4096):
    return np.arange(1.0, dim + 1.0) ** -exponent


def cloud(seed, n, dim, exponent=1.0, mean=1.0):
    rng = RNG(seed)
    x = rng.standard_normal((n, dim)) * np.sqrt(power_law(exponent, dim))
    return x + mean * rng.standard_normal(dim)


def svd_rankme(x, name):
    """Each convention spelt out from singular values, apart from the code under test."""
    n = len(x)
    raw = np.linalg.svd(x, compute_uv=False)
    centred = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    if name == "li2025":
        p = centred**2 / np.sum(centred**2)
    elif name == "li2025_code":
        ratio = (centred**2 / (n - 1)) / np.sum(centred**2 / (n - 1))
        kept = ratio[:2048]
        p = kept / np.abs(kept).sum() + 1e-7
    elif name == "garrido2022":
        p = raw / np.abs(raw).sum() + 1e-7
    elif name == "roy2007":
        p = raw / raw.sum()
    elif name == "sigma_centered":
        p = centred / centred.sum()
    elif name == "lambda_uncentered":
        p = raw**2 / np.sum(raw**2)
    p = p[p > 1e-13]
    return np.exp(-np.sum(p * np.log(p)))


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (50, 50), (1200, 30), (30, 1200)])
@pytest.mark.parametrize("centered", [True, False])
def test_eigenvalues_are_squared_singular_values_over_n(shape, centered):
    x = cloud(0, *shape)
    y = x - x.mean(axis=0) if centered else x
    expected = np.linalg.svd(y, compute_uv=False) ** 2 / len(x)
    values = eigenvalues(x, centered=centered)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-13 * expected[0])
    assert values.dtype == np.float64
    assert (np.diff(values) <= 0).all()
    assert (values >= 0).all()


def test_float32_input_is_reduced_in_float64():
    x = (cloud(1, 700, 64) + 1000.0).astype(np.float32)
    expected = eigenvalues(x.astype(np.float64))
    np.testing.assert_array_equal(eigenvalues(x), expected)
    reference = np.linalg.eigvalsh(np.cov(x.astype(np.float64).T, bias=True))[::-1]
    np.testing.assert_allclose(expected, reference, rtol=1e-9, atol=1e-12)


def test_leading_dims_broadcast():
    x = RNG(2).standard_normal((2, 3, 20, 7))
    values = eigenvalues(x)
    assert values.shape == (2, 3, 7)
    np.testing.assert_array_equal(values[1, 2], eigenvalues(x[1, 2]))
    np.testing.assert_array_equal(rankme(values)[1, 2], rankme(values[1, 2]))
    assert alpha_req(values, ranks=(2, 6)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_bad_cloud_is_nan_and_leaves_its_neighbours(shape, centered, bad):
    x = RNG(3).standard_normal((3, *shape))
    x[1, 2, 5] = bad
    values = eigenvalues(x, centered=centered)
    assert np.isnan(values[1]).all()
    assert np.isfinite(values[[0, 2]]).all()
    for name in RANKME_CONVENTIONS:
        np.testing.assert_array_equal(np.isnan(rankme(values, convention=name)), [0, 1, 0])
    np.testing.assert_array_equal(np.isnan(alpha_req(values, ranks=(1, 5))), [0, 1, 0])


@pytest.mark.parametrize(("n", "dim"), [(100, 20), (20, 100)])
def test_cloud_without_spread_has_no_rankme(n, dim):
    x = np.tile(RNG(4).standard_normal(dim) * 1e3, (n, 1))
    np.testing.assert_array_equal(eigenvalues(x), 0.0)
    np.testing.assert_array_equal(decompose(x).values, 0.0)
    assert np.isnan(rankme(eigenvalues(x)))
    assert rankme(eigenvalues(x, centered=False), convention="roy2007") == pytest.approx(1.0)


def test_round_off_of_a_rank_deficient_cloud_is_zero():
    x = RNG(5).standard_normal((400, 6)) @ RNG(6).standard_normal((6, 90))
    values = eigenvalues(x)
    assert (values[:6] > 0).all()
    np.testing.assert_array_equal(values[6:], 0.0)
    assert eigenvalues(RNG(7).standard_normal((10, 90)))[-1] == 0.0  # centring costs one


@pytest.mark.parametrize("shape", [(120, 15), (15, 120)])
def test_decomposition_rebuilds_the_matrix(shape):
    x = cloud(8, *shape)
    parts = decompose(x)
    y = x - x.mean(axis=0)
    gram = y.T @ y if parts.feature_side else y @ y.T
    np.testing.assert_allclose(
        parts.vectors * parts.values @ parts.vectors.T, gram / len(x), atol=1e-12
    )
    np.testing.assert_allclose(parts.values, eigenvalues(x), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", list(RANKME_CONVENTIONS))
@pytest.mark.parametrize("shape", [(500, 60), (60, 200)])
def test_rankme_is_the_svd_form_of_its_convention(name, shape):
    x = cloud(9, *shape)
    values = eigenvalues(x, centered=RANKME_CONVENTIONS[name].centered)
    assert rankme(values, convention=name) == pytest.approx(svd_rankme(x, name), rel=1e-6)


def test_conventions_disagree_on_one_cloud():
    x = cloud(10, 800, 64)
    values = {c: eigenvalues(x, centered=c) for c in (True, False)}
    seen = [rankme(values[r.centered], convention=r.name) for r in RANKME_CONVENTIONS.values()]
    assert np.min(np.diff(np.sort(seen)) / np.sort(seen)[:-1]) > 1e-8


@pytest.mark.parametrize("dim", [1, 7, 512])
def test_flat_spectrum_has_full_rank(dim):
    assert rankme(np.full(dim, 3.0)) == pytest.approx(dim, rel=1e-12)
    assert rankme(np.full(dim, 3.0), convention="roy2007") == pytest.approx(dim, rel=1e-12)


def test_geometric_spectrum_closed_form():
    # S of p_i = (1 − q) q^i is (−q ln q − (1 − q) ln(1 − q)) / (1 − q); σ form: q → √q.
    def entropy(q):
        return (-q * np.log(q) - (1 - q) * np.log(1 - q)) / (1 - q)

    values = 0.5 ** np.arange(200.0)
    assert rankme(values) == pytest.approx(np.exp(entropy(0.5)), rel=1e-12)
    assert rankme(values, convention="roy2007") == pytest.approx(
        np.exp(entropy(np.sqrt(0.5))), rel=1e-12
    )


def test_official_code_eps_and_cap():
    one = np.zeros(4096)
    one[0] = 1.0
    # 2048 kept: one entry 1 + 1e-7 and 2047 entries 1e-7.
    expected = np.exp(-(1 + 1e-7) * np.log1p(1e-7) - 2047e-7 * np.log(1e-7))
    assert rankme(one, convention="li2025_code") == pytest.approx(expected, rel=1e-12)
    assert rankme(one, convention="li2025") == pytest.approx(1.0, rel=1e-12)
    # Computed values of the paper's form and of what the eps (no cap) and the cap (no eps) do.
    assert rankme(power_law(2.0)) == pytest.approx(5.129, abs=5e-4)
    assert rankme(power_law(0.5)) == pytest.approx(3139, abs=1)
    assert rankme(power_law(0.5)[:2048]) == pytest.approx(1587, abs=1)
    assert rankme(one, convention="garrido2022") == pytest.approx(1.0066, abs=5e-5)
    assert rankme(power_law(4.0), convention="garrido2022") == pytest.approx(5.158, abs=5e-4)
    assert rankme(np.ones(4096), convention="li2025_code") == pytest.approx(2048, rel=1e-2)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-6, 1e6), n=st.integers(3, 60))
def test_rotation_scale_and_order_do_not_matter(seed, scale, n):
    rng = RNG(seed)
    x = rng.standard_normal((n, 12)) * np.sqrt(power_law(1.0, 12)) + rng.standard_normal(12)
    moved = scale * rng.permutation(x) @ ortho_group.rvs(12, random_state=rng)
    for rule in RANKME_CONVENTIONS.values():
        before, after = (eigenvalues(y, centered=rule.centered) for y in (x, moved))
        np.testing.assert_allclose(
            rankme(after, convention=rule.name), rankme(before, convention=rule.name), rtol=1e-7
        )
    before, after = (alpha_req(eigenvalues(y), ranks=(1, min(n - 1, 12))) for y in (x, moved))
    np.testing.assert_allclose(after, before, rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-1e3, 1e3))
def test_centred_spectra_ignore_a_common_mean(seed, shift):
    x = RNG(seed).standard_normal((40, 9))
    np.testing.assert_allclose(eigenvalues(x + shift), eigenvalues(x), rtol=1e-8, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_rankme_lies_between_one_and_the_number_of_directions(values):
    spectrum = np.sort(values)[::-1]
    assert 1.0 - 1e-12 <= rankme(spectrum) <= len(values) * (1 + 1e-12)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_entropy_falls_as_heavy_directions_grow(seed):
    """The identity dS/dt = −Cov_p(g, ln p) for growth rates g_i = d ln λ_i / dt."""
    rng = RNG(seed)
    values, g = np.sort(rng.lognormal(size=20))[::-1], rng.standard_normal(20)
    step = 1e-5
    up, down = (np.log(rankme(values * np.exp(s * step * g))) for s in (1, -1))
    p = values / values.sum()
    covariance = p @ (g * np.log(p)) - (p @ g) * (p @ np.log(p))
    assert (up - down) / (2 * step) == pytest.approx(-covariance, abs=1e-7)


def labelled(centering, as_coordinate):
    if as_coordinate:
        return xr.DataArray(power_law(1.0, 8), dims="rank", coords={"centering": centering})
    return xr.DataArray(power_law(1.0, 8), dims="rank", attrs={"centering": centering})


@pytest.mark.parametrize("as_coordinate", [True, False])
@pytest.mark.parametrize("rule", list(RANKME_CONVENTIONS.values()), ids=lambda rule: rule.name)
def test_labelled_centering_is_checked(rule, as_coordinate):
    other = {"centered": "uncentered", "uncentered": "centered"}[rule.centering]
    with pytest.raises(ValueError, match=f"centering '{other}'.*{rule.name}"):
        rankme(labelled(other, as_coordinate), convention=rule.name)
    value = rankme(labelled(rule.centering, as_coordinate), convention=rule.name)
    assert value == rankme(power_law(1.0, 8), convention=rule.name)


def test_labelled_array_with_both_centerings_or_another_layout_is_refused():
    both = xr.DataArray(
        np.ones((2, 8)),
        dims=("centering", "rank"),
        coords={"centering": ["centered", "uncentered"]},
    )
    with pytest.raises(ValueError, match="select that centering"):
        rankme(both)
    with pytest.raises(ValueError, match="transpose so that rank is last"):
        rankme(xr.DataArray(np.ones((8, 2)), dims=("rank", "layer")))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="x has shape"):
        eigenvalues(np.ones(3))
    with pytest.raises(ValueError, match="x has shape"):
        decompose(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"'rankme' is unknown.*li2025"):
        rankme(np.ones(3), convention="rankme")
    with pytest.raises(ValueError, match="give a spectrum"):
        rankme(np.array([1.0, -0.1]))
    with pytest.raises(ValueError, match="rank >= 1"):
        rankme(np.ones((3, 0)))
    for ranks in ((0, 5), (5, 5), (6, 5)):
        with pytest.raises(ValueError, match="ranks is"):
            alpha_req(np.ones(9), ranks=ranks)


@settings(deadline=None, max_examples=25)
@given(alpha=st.floats(-0.5, 5.0), level=st.floats(-20, 20), last=st.integers(20, 300))
def test_power_law_is_recovered_exactly(alpha, level, last):
    values = np.exp(level) * power_law(alpha, 400)
    fit = alpha_req_fit(values, ranks=(12, last))
    assert fit.alpha == pytest.approx(alpha, abs=1e-9)
    assert fit.intercept == pytest.approx(level, abs=1e-8)
    if alpha > 0.01:
        assert fit.r2 == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("ranks", list(ALPHA_CONVENTIONS.values()))
def test_alpha_is_numpys_weighted_line(ranks):
    values = np.sort(RNG(11).lognormal(size=(3, 150)))[:, ::-1]
    rank = np.arange(ranks[0], ranks[1] + 1)
    fit = alpha_req_fit(values, ranks=ranks)
    for i, row in enumerate(np.log(values[:, rank - 1])):
        # polyfit takes the square roots of the weights.
        slope, intercept = np.polyfit(np.log(rank), row, 1, w=rank**-0.5)
        np.testing.assert_allclose(fit.alpha[i], -slope, rtol=1e-9)
        np.testing.assert_allclose(fit.intercept[i], intercept, rtol=1e-9)
        residual = row - (intercept + slope * np.log(rank))
        total = row - np.average(row, weights=1 / rank)
        r2 = 1 - np.average(residual**2, weights=1 / rank) / np.average(total**2, weights=1 / rank)
        np.testing.assert_allclose(fit.r2[i], r2, rtol=1e-9)


def test_only_the_fitted_ranks_matter():
    values = power_law(1.0, 200)
    values[:11] *= 50.0
    values[100:] *= 1e-9
    assert alpha_req(values) == pytest.approx(1.0, abs=1e-10)
    assert alpha_req(values, ranks=ALPHA_CONVENTIONS["reptrix"]) > 1.01


@pytest.mark.parametrize(("n", "dim", "defined"), [(101, 400, 1), (100, 400, 0), (400, 100, 1),
                                                   (400, 99, 0), (50, 99, 0)])  # fmt: skip
def test_alpha_needs_a_hundred_nonzero_eigenvalues(n, dim, defined):
    x = RNG(12).standard_normal((n, dim))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(alpha_req(eigenvalues(x))) == defined
        svd = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2 / n
        assert np.isfinite(alpha_req(svd)) == defined


def test_steep_spectra_within_range_are_fitted_and_flat_ones_have_no_r2():
    assert alpha_req(power_law(4.0)) == pytest.approx(4.0, abs=1e-9)
    fit = alpha_req_fit(np.ones(150))
    assert fit.alpha == 0.0
    assert np.isnan(fit.r2)
