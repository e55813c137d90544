"""Kernel of predictions, effective number and Dirichlet energy against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.predictive import (
    DIRICHLET_CONVENTIONS,
    bhattacharyya_kernel,
    dirichlet_energy,
    effective_number,
)
from geometry.similarity import kernel_cka, linear_cka


def cloud(n: int = 30, d: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def kernel(n: int = 30, seed: int = 1) -> np.ndarray:
    """Bhattacharyya coefficients of random distributions, in NumPy."""
    root = np.sqrt(np.random.default_rng(seed).dirichlet(np.full(12, 0.3), n))
    return np.asarray(root @ root.T)


@pytest.mark.parametrize("chunk", [None, 1, 7])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_the_kernel_is_its_definition(chunk: int | None, cap: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(9, 4, generator=generator), torch.randn(15, 4, generator=generator)
    bias = torch.randn(15, generator=generator)
    found = bhattacharyya_kernel(hidden, weight, bias=bias, vocab_size=13, softcap=cap, chunk=chunk)
    z = (hidden.double() @ weight.double().T + bias.double())[:, :13]
    root = (z if cap is None else cap * torch.tanh(z / cap)).softmax(1).sqrt()
    torch.testing.assert_close(found, root @ root.T, atol=1e-6, rtol=0)
    assert bool((found == found.T).all())
    assert found.diagonal().tolist() == [1.0] * 9


def test_predictions_without_a_token_in_common_and_the_same_prediction() -> None:
    weight = 200 * torch.eye(3)
    states = torch.eye(3)[[0, 1, 2, 2]]
    found = bhattacharyya_kernel(states, weight)
    wanted = torch.eye(4).double()
    wanted[2, 3] = wanted[3, 2] = 1
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    assert effective_number(found) == pytest.approx(2 * 2**0.5)  # masses ¼ ¼ ½: e^{1.5 ln 2}
    states[0, 0] = torch.nan
    assert bool(bhattacharyya_kernel(states, weight).isnan().all())


@given(st.integers(2, 40))
def test_effective_numbers_run_from_one_to_all(n: int) -> None:
    assert effective_number(np.ones((n, n))) == pytest.approx(1)
    assert effective_number(np.eye(n)) == pytest.approx(n)
    groups = np.kron(np.eye(3), np.ones((n, n)))
    assert effective_number(groups) == pytest.approx(3)


def brute(x: np.ndarray, k: np.ndarray) -> float:
    return float(
        sum(
            0.5 * k[i, j] * ((x[i] - x[j]) ** 2).sum() for i in range(len(x)) for j in range(len(x))
        )
    )


def test_the_energy_is_its_definition() -> None:
    x, k = cloud(), kernel()
    assert dirichlet_energy(x, k, convention="sum") == pytest.approx(brute(x, k))
    ones = np.ones_like(k)
    assert dirichlet_energy(x, k, convention="normalised") == pytest.approx(
        brute(x, k) / brute(x, ones)
    )
    off = k[~np.eye(len(k), dtype=bool)].mean()
    assert dirichlet_energy(x, k, convention="relative") == pytest.approx(
        brute(x, k) / brute(x, ones) / off
    )


def test_two_groups_that_predict_alike_within_and_differently_between() -> None:
    """At ±1, similarity 1 within and b between: all distance lies between the groups."""
    b, m = 0.25, 5
    k = np.kron(np.array([[1, b], [b, 1]]), np.ones((m, m)))
    x = np.repeat([-1.0, 1.0], m)[:, None]
    assert dirichlet_energy(x, k, convention="sum") == pytest.approx(4 * b * m * m)
    assert dirichlet_energy(x, k, convention="normalised") == pytest.approx(b)
    pairs = ((m - 1) + m * b) / (2 * m - 1)
    assert dirichlet_energy(x, k) == pytest.approx(b / pairs)
    apart = np.tile([-1.0, 1.0], m)[:, None]  # distance that goes across the groups
    assert dirichlet_energy(apart, k) > 0.8


def test_distance_that_has_nothing_to_do_with_the_kernel_gives_one() -> None:
    x, k = cloud(200, 40), kernel(200)
    assert dirichlet_energy(x, k) == pytest.approx(1, abs=0.01)
    assert dirichlet_energy(x, np.ones((200, 200))) == pytest.approx(1)
    assert dirichlet_energy(x, np.eye(200), convention="normalised") == pytest.approx(0, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100), st.sampled_from(DIRICHLET_CONVENTIONS))
def test_turning_moving_scaling_and_order(seed: int, scale: float, convention: str) -> None:
    rng = np.random.default_rng(seed)
    x, k = rng.normal(size=(20, 4)), kernel(20, seed)
    turn, order = np.linalg.qr(rng.normal(size=(4, 4)))[0], rng.permutation(20)
    before = dirichlet_energy(x, k, convention=convention)
    after = dirichlet_energy(
        (scale * x @ turn + rng.normal(size=4))[order],
        k[np.ix_(order, order)],
        convention=convention,
    )
    assert after == pytest.approx(before * (scale**2 if convention == "sum" else 1), rel=1e-9)
    assert before > 0


def test_a_constant_a_missing_number_and_wrong_shapes() -> None:
    x, k = cloud(), kernel()
    assert np.isnan(dirichlet_energy(np.ones_like(x), k))
    broken = k.copy()
    broken[0, 1] = np.nan
    assert np.isnan(dirichlet_energy(x, broken))
    assert np.isnan(effective_number(broken))
    with pytest.raises(ValueError, match="is unknown"):
        dirichlet_energy(x, k, convention="mean")
    with pytest.raises(ValueError, match=r"\(n, d\) and \(n, n\)"):
        dirichlet_energy(x[1:], k)
    with pytest.raises(ValueError, match=r"give \(n, n\)"):
        effective_number(k[1:])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.integers(1, 60), st.integers(1, 60))
def test_cka_of_linear_kernels_is_linear_cka(seed: int, debiased: bool, d1: int, d2: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(25, d1)) + 3, rng.normal(size=(25, d2))
    y[:, 0] += x[:, 0]
    found = kernel_cka(x @ x.T, y @ y.T, debiased=debiased)
    assert found == pytest.approx(linear_cka(x, y, debiased=debiased), rel=1e-8, abs=1e-10)


def test_kernel_cka_by_hand_and_its_bounds() -> None:
    """HSIC with centring matrices written out; HSIC_1 as Song et al. print it."""
    k, m = kernel(12, 3), kernel(12, 4)
    n = 12
    h = np.eye(n) - 1 / n

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.trace(a @ h @ b @ h))

    def hsic1(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        one = np.ones(n)
        return float(
            np.trace(a @ b)
            + (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
            - 2 * (one @ a @ b @ one) / (n - 2)
        )

    for debiased, form in ((False, hsic), (True, hsic1)):
        wanted = form(k, m) / np.sqrt(form(k, k) * form(m, m))
        assert kernel_cka(k, m, debiased=debiased) == pytest.approx(wanted)
        assert kernel_cka(k, 3 * k + 1, debiased=debiased) == pytest.approx(1)
    assert np.isnan(kernel_cka(np.ones((12, 12), np.float32), m))
    with pytest.raises(ValueError, match=r"\(n, n\) for each"):
        kernel_cka(k, m[:4, :4])
    with pytest.raises(ValueError, match="at least 4"):
        kernel_cka(k[:3, :3], m[:3, :3], debiased=True)
