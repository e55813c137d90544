"""The mean pullback Fisher metric against its definition, KL and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.fisher import FisherMetric
from geometry.softmax import probability_blocks


def draw(
    rows: int = 40, vocabulary: int = 23, width: int = 6, seed: int = 0, scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=generator) * scale
    weight = torch.randn(vocabulary, width, generator=generator)
    return hidden, weight, torch.randn(vocabulary, generator=generator)


def logits_of(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, cap: float | None
) -> torch.Tensor:
    z = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    return z if cap is None else cap * torch.tanh(z / cap)


def by_definition(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, cap: float | None
) -> torch.Tensor:
    """E[Jᵀ (diag p − p pᵀ) J] with the Jacobian of the logits by automatic differentiation."""
    total = torch.zeros(hidden.shape[1], hidden.shape[1], dtype=torch.float64)
    for state in hidden.double():
        p = logits_of(state[None], weight, bias, cap)[0].softmax(0)
        jacobian = torch.autograd.functional.jacobian(
            lambda h: logits_of(h[None], weight, bias, cap)[0], state
        )
        total += jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(hidden)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_the_mean_of_the_definition(cap: float | None, with_bias: bool) -> None:
    hidden, weight, bias = draw()
    offset = bias if with_bias else None
    metric = FisherMetric(weight, bias=offset, softcap=cap)
    metric.update(hidden)
    wanted = by_definition(hidden, weight, offset, cap)
    torch.testing.assert_close(metric.metric(), wanted, atol=1e-6, rtol=1e-5)
    values = torch.linalg.eigvalsh(wanted).flip(0)
    torch.testing.assert_close(metric.eigenvalues(), values, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cap", [None, 3.0])
def test_kl_between_neighbours_is_half_the_square_of_their_distance(cap: float | None) -> None:
    hidden, weight, bias = draw(rows=1)
    metric = FisherMetric(weight, bias=bias, softcap=cap)
    metric.update(hidden)
    direction = torch.randn(6, generator=torch.Generator().manual_seed(3)).double()
    ratios = []
    for epsilon in (1e-2, 1e-3):
        moved = hidden.double() + epsilon * direction
        one = logits_of(hidden, weight, bias, cap)[0].log_softmax(0)
        two = logits_of(moved, weight, bias, cap)[0].log_softmax(0)
        divergence = (one.exp() * (one - two)).sum()
        ratios.append(
            float(divergence / (epsilon**2 / 2 * direction @ metric.metric() @ direction))
        )
    assert ratios[0] == pytest.approx(1, abs=0.05)
    assert ratios[1] == pytest.approx(1, abs=5e-3)
    assert abs(ratios[1] - 1) < abs(ratios[0] - 1) / 4  # the next term is cubic


def test_uniform_predictions_see_the_covariance_of_the_unembedding() -> None:
    _, weight, _ = draw(vocabulary=50)
    metric = FisherMetric(weight + 1000.0)  # a mean to which softmax is blind
    metric.update(torch.zeros(7, 6))
    wanted = np.cov(weight.double().numpy(), rowvar=False, bias=True)
    np.testing.assert_allclose(metric.metric().numpy(), wanted, atol=3e-4)  # 1000 in float32
    exact = FisherMetric(weight)
    exact.update(torch.zeros(7, 6))
    np.testing.assert_allclose(exact.metric().numpy(), wanted, rtol=1e-6, atol=1e-9)


def test_two_tokens_have_one_direction() -> None:
    """p (1 − p) (w₁ − w₂)(w₁ − w₂)ᵀ: rank one, whatever the width."""
    weight = torch.tensor([[1.0, 0, 2], [0, 1, 0]])
    state = torch.tensor([[0.3, -0.2, 0.1]])
    metric = FisherMetric(weight)
    metric.update(state)
    p = torch.sigmoid((state.double() @ (weight[0] - weight[1]).double())[0])
    values = metric.eigenvalues()
    assert float(values[0]) == pytest.approx(float(p * (1 - p) * 6), rel=1e-6)
    assert values[1:].tolist() == [0, 0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 30.0), st.integers(1, 60))
def test_it_is_positive_and_does_not_depend_on_how_it_is_cut(
    seed: int, scale: float, cut: int
) -> None:
    """Confident predictions (large scale) leave a small difference of two large terms."""
    hidden, weight, bias = draw(rows=60, seed=seed, scale=scale)
    whole = FisherMetric(weight, bias=bias)
    whole.update(hidden)
    parts, rest = FisherMetric(weight, bias=bias, chunk=5), FisherMetric(weight, bias=bias, chunk=7)
    parts.update(hidden[:cut])
    rest.update(hidden[cut:])
    parts.merge(rest)
    assert parts.count == whole.count == 60
    size = float(whole.metric().trace())
    torch.testing.assert_close(parts.metric(), whole.metric(), atol=1e-5 * size, rtol=0)
    raw = np.linalg.eigvalsh(whole.metric().numpy())
    assert raw.min() >= -1e-13 * float((weight.double() ** 2).sum(1).max())
    assert float(whole.eigenvalues().min()) >= 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_turning_the_space_and_ordering_tokens_or_states_change_nothing(seed: int) -> None:
    hidden, weight, bias = draw(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    tokens = torch.randperm(len(weight), generator=generator)
    states = torch.randperm(len(hidden), generator=generator)
    one, two = (
        FisherMetric(weight, bias=bias),
        FisherMetric((weight @ turn)[tokens], bias=bias[tokens]),
    )
    one.update(hidden)
    two.update((hidden @ turn)[states])
    torch.testing.assert_close(one.eigenvalues(), two.eigenvalues(), rtol=1e-4, atol=1e-5)


def test_the_trace_is_the_mean_variance_of_the_rows_of_the_unembedding() -> None:
    hidden, weight, _ = draw()
    metric = FisherMetric(weight)
    metric.update(hidden)
    p, w = (hidden.double() @ weight.double().T).softmax(1), weight.double()
    wanted = (p @ w.square().sum(1) - (p @ w).square().sum(1)).mean()
    assert float(metric.eigenvalues().sum()) == pytest.approx(float(wanted), rel=1e-6)


def test_padding_of_the_vocabulary_takes_no_part() -> None:
    hidden, weight, bias = draw()
    padded = torch.cat([weight, torch.full((9, 6), 50.0)])
    one = FisherMetric(weight, bias=bias)
    two = FisherMetric(
        padded, bias=torch.cat([bias, torch.full((9,), 9.0)]), vocab_size=len(weight)
    )
    for metric in (one, two):
        metric.update(hidden)
    torch.testing.assert_close(one.metric(), two.metric(), atol=0, rtol=0)


def test_a_state_that_is_no_number_makes_everything_nan_and_nothing_is_nan() -> None:
    hidden, weight, _ = draw()
    hidden[3, 1] = torch.nan
    metric = FisherMetric(weight)
    assert bool(metric.eigenvalues().isnan().all())
    metric.update(hidden)
    assert bool(metric.eigenvalues().isnan().all())
    with pytest.raises(ValueError, match="another unembedding"):
        metric.merge(FisherMetric(weight[:5]))


@pytest.mark.parametrize("chunk", [None, 1, 4, 23, 100])
def test_blocks_cover_the_vocabulary_with_probabilities(chunk: int | None) -> None:
    hidden, weight, bias = draw(scale=5.0)
    parts = list(probability_blocks(hidden, weight, bias=bias, chunk=chunk, softcap=4.0))
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    found = torch.cat([part.p for part in parts], dim=1).double()
    logits = logits_of(hidden, weight, bias, 4.0)
    torch.testing.assert_close(found, logits.softmax(1), atol=1e-6, rtol=1e-5)
    slopes = torch.cat([part.slope for part in parts if part.slope is not None], dim=1)
    torch.testing.assert_close(slopes.double(), 1 - (logits / 4) ** 2, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="must be"):
        next(probability_blocks(hidden[:, :3], weight))
