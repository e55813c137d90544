"""Projections against their algebra, and what they do to logits and covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.spectrum import eigenvalues
from probes.directions import principal_directions


def cloud(seed: int = 0, n: int = 60, d: int = 9) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) * (1 + np.arange(d)) ** -1.5
    return torch.as_tensor(rng.normal(size=(n, d)) @ mixing + 5 * rng.normal(size=d))


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 9), st.booleans())
def test_parts_add_up_and_projecting_twice_is_once(seed, k, keep):
    x = cloud(seed)
    found = principal_directions(x.numpy(), keep_mean=keep)
    kept, rest = found.retained(x, k), found.removed(x, k)
    mean = x.mean(0) if keep else 0.0
    torch.testing.assert_close(kept + rest, x + mean)
    torch.testing.assert_close(found.retained(kept, k), kept)
    torch.testing.assert_close(found.removed(rest, k), rest)
    if keep:
        torch.testing.assert_close(kept.mean(0), x.mean(0))
        torch.testing.assert_close(rest.mean(0), x.mean(0))


@pytest.mark.parametrize("keep", [True, False])
def test_all_directions_are_everything_and_none_nothing(keep):
    x = cloud()
    found = principal_directions(x.numpy(), keep_mean=keep)
    torch.testing.assert_close(found.retained(x, 9), x)
    torch.testing.assert_close(found.removed(x, 0), x)
    nothing = x.mean(0).expand_as(x) if keep else torch.zeros_like(x)
    torch.testing.assert_close(found.removed(x, 9), nothing)


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(1, 8))
def test_the_spectrum_is_split_at_k(seed, k):
    x = cloud(seed)
    spectrum = eigenvalues(x.numpy())
    found = principal_directions(x.numpy())
    zeros, small = np.zeros, 1e-10 * spectrum[0]
    kept = eigenvalues(found.retained(x, k).numpy())
    np.testing.assert_allclose(kept, np.append(spectrum[:k], zeros(9 - k)), atol=small)
    rest = eigenvalues(found.removed(x, k).numpy())
    np.testing.assert_allclose(rest, np.append(spectrum[k:], zeros(k)), atol=small)


def test_logits_are_those_of_a_projected_unembedding_and_have_rank_k():
    x, rng = cloud(), np.random.default_rng(4)
    weight = torch.as_tensor(rng.normal(size=(30, 9)))
    found = principal_directions(x.numpy(), keep_mean=False)
    # An independent covariance: numpy's own, and its eigenvectors.
    vectors = np.linalg.eigh(np.cov(x.numpy().T))[1][:, ::-1][:, :3]
    projector = torch.as_tensor(vectors @ vectors.T)
    logits = found.retained(x, 3) @ weight.T
    torch.testing.assert_close(logits, x @ (weight @ projector).T)
    assert np.linalg.matrix_rank(logits.numpy()) == 3
    rest = found.removed(x, 3) @ weight.T
    torch.testing.assert_close(rest, x @ (weight - weight @ projector).T)


def test_a_rotated_cloud_gives_rotated_states():
    x, rng = cloud(), np.random.default_rng(2)
    turn = torch.as_tensor(np.linalg.qr(rng.normal(size=(9, 9)))[0])
    plain, turned = (principal_directions(c.numpy()) for c in (x, x @ turn))
    torch.testing.assert_close(turned.removed(x @ turn, 4), plain.removed(x, 4) @ turn)


def test_shapes_and_types_are_kept_and_bad_states_refused():
    x = cloud().float().reshape(6, 10, 9)
    found = principal_directions(x.reshape(-1, 9).numpy())
    for state in (found.removed(x, 2), found.retained(x, 2)):
        assert state.shape == x.shape
        assert state.dtype == torch.float32
    with pytest.raises(ValueError, match="NaN or Inf"):
        principal_directions(np.full((5, 3), np.nan))


def test_few_states_span_only_their_own_directions():
    x = cloud(n=5)
    found = principal_directions(x.numpy())
    assert found.basis.shape == (9, 4)
    torch.testing.assert_close(found.basis.T @ found.basis, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(found.retained(x, 4), x)
    elsewhere = cloud(1)
    torch.testing.assert_close(
        found.retained(found.removed(elsewhere, 4), 4), x.mean(0).expand_as(elsewhere)
    )
