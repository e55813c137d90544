from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from attention.entropy import entropy_bounds
from attention.streaming import row_statistics
from tests.attention.eager_reference import draw, eager, same


@pytest.mark.parametrize(("length", "mean"), [(64, 3.205753), (128, 3.8782), (512, 5.2462)])
def test_zero_queries_are_uniform(length: int, mean: float) -> None:
    _, k, _ = draw(1, 2, length, 8)
    found = row_statistics(torch.zeros(1, 2, length, 8), k, scaling=1.0)
    n = torch.arange(1, length + 1).float()
    harmonic = sum(1 / i for i in range(1, length + 1))
    same({"entropy": found["entropy"][0, 0]}, {"entropy": n.log()})
    assert found["entropy"].mean().item() == pytest.approx(mean, abs=5e-5)
    assert found["entropy"].mean().item() == pytest.approx(math.lgamma(length + 1) / length)
    assert found["normalised_entropy"][..., 0].isnan().all()
    torch.testing.assert_close(found["normalised_entropy"][..., 1:].mean().item(), 1.0)
    assert found["first_key"].mean().item() == pytest.approx(harmonic / length, rel=1e-5)
    previous = found["previous_key"][..., 1:].mean().item()
    assert previous == pytest.approx((harmonic - 1) / (length - 1), rel=1e-5)
    assert found["distance"].mean().item() == pytest.approx((length - 1) / 4, rel=1e-5)
    assert (found["row_norm"] == 0).all()


def heads_of_known_pattern(length: int) -> tuple[Tensor, Tensor]:
    """Head 0 looks only at key 0, head 1 only at the key before; keys are one-hot positions."""
    k = torch.eye(length).expand(1, 2, length, length)
    q = torch.zeros(1, 2, length, length)
    q[0, 0, :, 0] = 300.0
    q[0, 1, torch.arange(1, length), torch.arange(length - 1)] = 300.0
    q[0, 1, 0, 0] = 300.0
    return q, k


def test_one_hot_heads() -> None:
    found = row_statistics(*heads_of_known_pattern(30), scaling=1.0, chunk=7)
    assert found["entropy"].abs().max() < 1e-6
    torch.testing.assert_close(found["first_key"][0, 0], torch.ones(30))
    torch.testing.assert_close(found["distance"][0, 0].mean().item(), 29 / 2)
    torch.testing.assert_close(found["previous_key"][0, 1, 1:], torch.ones(29))
    torch.testing.assert_close(found["max_logit"], torch.full((1, 2, 30), 300.0))
    assert found["previous_key"][..., 0].isnan().all()


@pytest.mark.parametrize(("m", "delta"), [(1, 3.0), (5, -2.0), (7, 12.0)])
def test_two_level_logits(m: int, delta: float) -> None:
    length = 24
    k = torch.zeros(1, 1, length, 1)
    k[0, 0, :m] = delta
    found = row_statistics(torch.ones(1, 1, length, 1), k, scaling=1.0)
    z = m * math.exp(delta) + length - m
    closed = math.log(z) - m * delta * math.exp(delta) / z
    assert found["entropy"][0, 0, -1].item() == pytest.approx(closed, abs=1e-5)
    norm = abs(delta) * math.sqrt(m * (length - m) / length)
    assert found["row_norm"][0, 0, -1].item() == pytest.approx(norm, rel=1e-6)


def test_slopes_alone_are_geometric() -> None:
    a, n = 0.3, torch.arange(1, 51).double()
    zeros = torch.zeros(1, 1, 50, 4)
    found = row_statistics(zeros, zeros, scaling=1.0, bias=torch.tensor([a]), chunk=9)
    r = math.exp(-a)
    closed = ((1 - r**n) / (1 - r)).log() + a * (r / (1 - r) - n * r**n / (1 - r**n))
    torch.testing.assert_close(found["entropy"][0, 0].double(), closed, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("spread", "expected"), [(1.0, 7.8178), (1.5, 7.1928)])
def test_gaussian_logits(spread: float, expected: float) -> None:
    generator = torch.Generator().manual_seed(0)
    k = torch.randn(1, 16, 4096, 1, generator=generator)
    q = torch.full((1, 16, 64, 1), spread)
    q = F.pad(q, (0, 0, 4096 - 64, 0))
    found = row_statistics(q, k, scaling=1.0)
    assert found["entropy"][..., -1].mean().item() == pytest.approx(expected, abs=0.03)


def test_sink_alone_takes_its_share() -> None:
    """One sink logit of 0 beside uniform keys: n + 1 equal outcomes."""
    zeros = torch.zeros(1, 1, 20, 4)
    found = row_statistics(zeros, zeros, scaling=1.0, sink=torch.zeros(1))
    n = torch.arange(1, 21).float()
    torch.testing.assert_close(found["entropy"][0, 0], (n + 1).log())
    torch.testing.assert_close(found["normalised_entropy"][0, 0, 1:], torch.ones(19))
    torch.testing.assert_close(found["first_key"][0, 0], 1 / (n + 1))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.floats(0.0, 12.0), st.integers(0, 2**16))
def test_entropy_stays_between_its_bounds(length: int, size: float, seed: int) -> None:
    q, k, v = draw(1, 2, length, 6, seed=seed, size=size)
    found = row_statistics(q, k, scaling=0.4, chunk=16)
    h, n = found["entropy"].double(), found["visible"].double()
    lower, upper = entropy_bounds(found["row_norm"].numpy(), found["visible"].numpy())
    assert (h.numpy() >= lower - 3e-5).all()
    assert (h.numpy() <= upper + 3e-5).all()
    p = eager(q, k, v, scaling=0.4)[2]
    top, collision = p.amax(-1), p.square().sum(-1)
    fano = torch.special.entr(top) + torch.special.entr(1 - top)
    assert (h >= -collision.log() - 3e-5).all()
    assert (-collision.log() >= -top.log() - 1e-12).all()
    assert (h <= fano + (1 - top) * (n - 1).clamp(min=1).log() + 3e-5).all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 30), st.floats(0.0, 12.0), st.integers(0, 2**16),
    st.sampled_from(["window", "softcap", "bias", "sink", "padding", "not causal"]),
)  # fmt: skip
def test_captured_bounds_hold_whatever_the_rule(
    length: int, size: float, seed: int, what: str
) -> None:
    """Every kind of attention that has rows; with a sink its logit is one of the row's."""
    q, k, _ = draw(2, 2, length, 6, seed=seed, size=size)
    mask = torch.arange(length) >= torch.tensor([[0], [length // 3]])
    options: dict[str, dict[str, Any]] = {
        "window": {"window": 1 + seed % 7},
        "softcap": {"softcap": 3.0},
        "bias": {"bias": torch.tensor([0.1, 2.0])},
        "sink": {"sink": torch.tensor([seed % 11 - 5.0, 30.0])},
        "padding": {"key_mask": mask},
        "not causal": {"causal": False},
    }
    found = row_statistics(q, k, scaling=0.4, **options[what])
    real = found["entropy"].isfinite()
    lower, h, upper = (found[n][real] for n in ("lower_bound", "entropy", "upper_bound"))
    assert (lower - 5e-5 <= h).all()
    assert (h <= upper + 5e-5).all()
    share = found["bound_share"][real]
    wide = upper - lower > 1e-3
    torch.testing.assert_close(share[wide], ((h - lower) / (upper - lower))[wide])
    assert share[~wide].isnan().all()


def test_one_logit_apart_is_at_either_end() -> None:
    """Two-level rows are the extreme ones: the one key above the rest at 0, below it at 1."""
    k = torch.zeros(1, 1, 12, 1)
    k[0, 0, 0] = 4.0
    q = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 12, 1)
    found = row_statistics(q, k, scaling=1.0)
    share = found["bound_share"][0]
    assert share[:, :2].isnan().all()  # one key, and two whose bounds meet
    torch.testing.assert_close(share[0, 2:], torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(share[1, 2:], torch.ones(10), atol=1e-5, rtol=0)
    n = torch.arange(1, 13).double()
    top = math.exp(4.0) / (math.exp(4.0) + n - 1)
    torch.testing.assert_close(found["top_mass"][0, 0].double(), top, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("m", "delta"), [(1, 3.0), (5, 12.0)])
def test_effective_support_of_equal_keys(m: int, delta: float) -> None:
    """As many keys as share the mass: all of them when equal, m when m are far above."""
    k = torch.zeros(1, 1, 40, 1)
    equal = row_statistics(torch.ones(1, 1, 40, 1), k, scaling=1.0)
    torch.testing.assert_close(equal["effective_support"][0, 0], torch.arange(1, 41).float())
    k[0, 0, :m] = 10 * delta
    found = row_statistics(torch.ones(1, 1, 40, 1), k, scaling=1.0)
    assert found["effective_support"][0, 0, -1].item() == pytest.approx(m, rel=1e-5)
    assert found["top_mass"][0, 0, -1].item() == pytest.approx(1 / m, rel=1e-5)


def test_entropy_falls_with_inverse_temperature() -> None:
    """dH/dβ = −β Var_p(s), and H(β = 0) = ln n."""
    q, k, v = (x.double() for x in draw(1, 2, 40, 8))

    def entropy(beta: float) -> Tensor:
        return eager(q, k, v, scaling=beta)[1]["entropy"]

    for beta in (0.2, 0.7):
        statistics, step = row_statistics(q, k, scaling=beta)["entropy"].double(), 1e-4
        torch.testing.assert_close(statistics, entropy(beta), atol=1e-6, rtol=1e-6)
        up, down = (row_statistics(q, k, scaling=beta + sign * 0.05)["entropy"] for sign in (1, -1))
        assert (up[..., 1:] < down[..., 1:]).all()
        p = eager(q, k, v, scaling=beta)[2]
        s = q @ k.mT
        variance = (p * s.square()).sum(-1) - (p * s).sum(-1).square()
        slope = (entropy(beta + step) - entropy(beta - step)) / (2 * step)
        torch.testing.assert_close(slope, -beta * variance, atol=1e-5, rtol=1e-4)
    cold = row_statistics(q, k, scaling=0.0)["entropy"][0, 0]
    torch.testing.assert_close(cold, torch.arange(1, 41).float().log())
