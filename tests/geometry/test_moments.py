"""Streamed moments against NumPy on the whole, in any division of the stream."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from geometry.moments import Moments
from geometry.spectrum import eigenvalues


def points(seed, n, dim, mean=0.0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.arange(1, dim + 1, dtype=torch.float64) ** -0.5
    return torch.randn(n, dim, generator=generator, dtype=torch.float64) * spread + mean


def streamed(x, cuts):
    moments = Moments(x.shape[-1])
    for part in torch.tensor_split(x, sorted(cuts)):
        moments.update(part)
    return moments


def assert_moments_of(moments, x, rtol=1e-9):
    array = x.double().numpy()
    assert moments.count == len(array)
    covariance = np.cov(array.T, bias=True)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert (np.abs(moments.covariance().numpy() - covariance) <= rtol * scale).all()
    np.testing.assert_allclose(moments.mean.numpy(), array.mean(axis=0), rtol=rtol, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(3, 120),
    mean=st.sampled_from([0.0, 1.0, -1e3, 1e6]),
    cuts=st.lists(st.integers(0, 120), max_size=6),
)
def test_any_division_gives_numpys_moments(seed, n, mean, cuts):
    x = points(seed, n, 7, mean)
    # NumPy on data less its large mean is the exact reference: the points are given as stored.
    reference = (x - mean).numpy()
    moments = streamed(x, cuts)
    assert moments.count == n
    covariance = np.cov(reference.T, bias=True)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert (np.abs(moments.covariance().numpy() - covariance) <= 1e-9 * scale).all()
    np.testing.assert_allclose(
        moments.mean.numpy() - mean, reference.mean(axis=0), atol=1e-9 * max(1.0, abs(mean)) * 1e-3
    )


def test_a_drifting_mean_is_kept():
    x = points(0, 300, 5)
    x[:1] += 1e6
    x[200:] -= 1e4
    assert_moments_of(streamed(x, [1, 200, 230]), x)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), cuts=st.lists(st.integers(1, 79), min_size=2, max_size=2))
def test_merge_is_the_whole_in_any_tree(seed, cuts):
    x = points(seed, 80, 6, mean=100.0)
    a, b, c = (streamed(part, []) for part in torch.tensor_split(x, sorted(cuts)))
    b.merge(c)
    a.merge(b)
    assert_moments_of(a, x)
    after = (b.count, b.covariance())
    fresh = Moments(6)
    fresh.merge(b)
    assert fresh.count == after[0]
    torch.testing.assert_close(fresh.covariance(), after[1], rtol=0, atol=0)
    fresh.merge(Moments(6))
    torch.testing.assert_close(fresh.covariance(), after[1], rtol=0, atol=0)


def test_merge_with_itself_counts_everything_twice():
    x = points(1, 30, 4, mean=5.0)
    moments = streamed(x, [])
    moments.merge(moments)
    assert_moments_of(moments, torch.cat([x, x]))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_mask_is_selection(seed):
    generator = torch.Generator().manual_seed(seed)
    x = points(seed, 24, 5).reshape(4, 6, 5)
    mask = torch.rand(4, 6, generator=generator) < 0.6
    dirty = torch.where(mask[..., None], x, torch.nan)
    masked, selected = Moments(5), Moments(5)
    masked.update(dirty, mask)
    selected.update(x[mask])
    assert masked.count == int(mask.sum())
    torch.testing.assert_close(
        masked.covariance(), selected.covariance(), rtol=0, atol=0, equal_nan=True
    )


def test_mask_broadcasts_over_leading_dims():
    x = points(2, 24, 5).reshape(4, 6, 5)
    keep = torch.tensor([True, False, True, True, False, False])
    moments = Moments(5)
    moments.update(x, keep)
    assert_moments_of(moments, x[:, keep].reshape(-1, 5))
    rows = Moments(5)
    rows.update(x, torch.tensor([[True], [False], [False], [True]]))
    assert_moments_of(rows, x[[0, 3]].reshape(-1, 5))
    nothing = Moments(5)
    nothing.update(x, torch.tensor(False))
    assert nothing.count == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_states_are_summed_in_float64(dtype):
    x = (points(3, 500, 8) + 3.0).to(dtype)
    moments = streamed(x, [100, 350])
    assert moments.covariance().dtype == torch.float64
    assert_moments_of(moments, x)


@pytest.mark.parametrize("shape", [(200, 12), (7, 12)])
@pytest.mark.parametrize("centered", [True, False])
def test_eigenvalues_are_those_of_the_points(shape, centered):
    x = points(4, *shape, mean=2.0)
    values = streamed(x, [3]).eigenvalues(centered=centered).numpy()
    expected = eigenvalues(x.numpy(), centered=centered)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-13 * expected[0])
    assert values.shape == (min(shape),)


def test_constant_states_have_no_spread():
    x = torch.full((1000, 6), 1.1, dtype=torch.float64) * torch.arange(1, 7)
    assert (streamed(x, [17, 512]).eigenvalues() == 0.0).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_propagates_and_stays(bad):
    x = points(5, 40, 4)
    dirty = x.clone()
    dirty[11, 2] = bad
    moments = streamed(dirty, [20])
    moments.update(x)
    whole = streamed(x, [])
    whole.merge(moments)
    for seen in (moments, whole):
        assert seen.covariance()[2].isnan().all()
        assert not seen.mean[2].isfinite()
        assert seen.eigenvalues().isnan().all()
        assert seen.eigenvalues(centered=False).isnan().all()


def test_the_same_calls_give_the_same_bits_whatever_the_layout():
    x = points(6, 90, 33).float()
    strided = torch.empty(33, 90).T.copy_(x)
    first, second = streamed(x, [10, 50]), streamed(strided, [10, 50])
    torch.testing.assert_close(first.covariance(), second.covariance(), rtol=0, atol=0)
    torch.testing.assert_close(first.mean, second.mean, rtol=0, atol=0)


def test_the_product_of_other_devices_gives_the_same_moments():
    # Off the CPU a plain product fills both triangles; run that path here and mix the two.
    x = points(8, 60, 9, mean=10.0)
    full, half = Moments(9), streamed(x[40:], [50])
    full._triangle = False
    full.update(x[:25])
    full.update(x[25:40])
    assert_moments_of(full, x[:40])
    half.merge(full)
    assert_moments_of(half, torch.cat([x[40:], x[:40]]))
    full.merge(streamed(x[40:], []))
    assert_moments_of(full, x)


def test_a_long_update_goes_in_blocks():
    x = points(9, 9000, 3, mean=1e4)
    moments = Moments(3)
    moments.update(x)
    assert_moments_of(moments, x)


def test_moments_made_in_inference_mode_live_on():
    x = points(10, 40, 4)
    with torch.inference_mode():
        moments = Moments(4)
        moments.update(x[:20])
    moments.update(x[20:])
    assert_moments_of(moments, x)


def test_the_input_is_not_changed_and_no_graph_is_kept():
    x = points(7, 20, 3).requires_grad_()
    before = x.detach().clone()
    moments = streamed(x, [5])
    torch.testing.assert_close(x.detach(), before, rtol=0, atol=0)
    assert not moments.covariance().requires_grad


def test_empty_moments_are_nan():
    moments = Moments(3)
    moments.update(torch.empty(0, 3))
    assert moments.count == 0
    assert moments.mean.isnan().all()
    assert moments.covariance().isnan().all()
    assert moments.eigenvalues().shape == (0,)


def test_mps_accumulates_on_the_cpu():
    assert Moments(3, device="mps").device == torch.device("cpu")


def test_bad_arguments_are_named():
    moments = Moments(4)
    with pytest.raises(ValueError, match="dim is 0"):
        Moments(0)
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\)"):
        moments.update(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"mask has dtype torch\.int64"):
        moments.update(torch.ones(2, 4), torch.ones(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"mask has shape \(3,\)"):
        moments.update(torch.ones(2, 4), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="other has dim 5"):
        moments.merge(Moments(5))
