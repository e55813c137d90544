from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from attention.centred_norm import causal_row_norms
from attention.fused import (
    attend_with_fused_statistics,
    entropy_error_bound,
    fused_statistics,
    usable,
)
from attention.streaming import row_statistics
from tests.attention.eager_reference import draw, eager, padding, same

Statistics = dict[str, Tensor]
# The fused kernel sees centred keys only, and keeps no maximum.
ABSOLUTE = ("max_logit", "log_normaliser", "top_mass")


def without_maximum(statistics: Statistics) -> Statistics:
    return {name: x for name, x in statistics.items() if name not in ABSOLUTE}


@pytest.mark.parametrize("side", [None, "left", "right", "holes"])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_agrees_with_all_probabilities_in_float64(side: str | None, kv_heads: int) -> None:
    q, k, v = draw(3, 4, 37, 8, kv=kv_heads, size=2.0)
    mask = None if side is None else padding(3, 37, side)
    wanted_output, wanted, _ = eager(q, k, v, scaling=0.4, key_mask=mask)
    output, found = attend_with_fused_statistics(q, k, v, scaling=0.4, key_mask=mask)
    assert found.keys() == wanted.keys()
    assert all(found.pop(name).isnan().all() for name in ABSOLUTE)
    same(found, without_maximum(wanted))
    torch.testing.assert_close(output.double(), wanted_output, atol=5e-6, rtol=1e-5)
    same(without_maximum(fused_statistics(q, k, scaling=0.4, key_mask=mask)), found)
    assert all(x.dtype == torch.float32 for x in found.values())


def test_agrees_with_streaming_in_float64_over_several_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Longer than a block of the norm and of the kernel, pieces of one kv_head."""
    monkeypatch.setattr("attention.fused._PIECE", 1)
    q, k, v = draw(2, 6, 700, 24, kv=3)
    mask = padding(2, 700, "left")
    options: dict[str, Any] = {"scaling": 0.2, "key_mask": mask}
    wanted = row_statistics(q.double(), k.double(), **options)
    output, found = attend_with_fused_statistics(q, k, v, **options)
    same(without_maximum(found), without_maximum(wanted), 2.0)
    torch.testing.assert_close(output.double(), eager(q, k, v, **options)[0], atol=5e-6, rtol=1e-5)


def test_double_precision_is_kept() -> None:
    q, k, v = (x.double() for x in draw(2, 2, 40, 16, size=6.0))
    output, _ = attend_with_fused_statistics(q, k, v, scaling=0.25, tolerance=1e-11)
    torch.testing.assert_close(output, eager(q, k, v, scaling=0.25)[0], atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_upcast_first(dtype: torch.dtype) -> None:
    q, k, v = (x.to(dtype) for x in draw(2, 4, 40, 16, kv=2, size=6.0))
    output, found = attend_with_fused_statistics(q, k, v, scaling=0.25, tolerance=1e-3)
    wanted_output, wanted, _ = eager(q, k, v, scaling=0.25)
    same(without_maximum(found), without_maximum(wanted), 2.0)
    assert output.dtype == dtype
    torch.testing.assert_close(output, wanted_output.to(dtype))


@pytest.mark.parametrize(("length", "mean"), [(64, 3.205753), (512, 5.2462), (2048, 6.6269)])
def test_zero_queries_are_uniform(length: int, mean: float) -> None:
    _, k, _ = draw(1, 2, length, 8)
    found = fused_statistics(torch.zeros(1, 2, length, 8), k, scaling=1.0)
    n = torch.arange(1, length + 1).float()
    harmonic = sum(1 / i for i in range(1, length + 1))
    torch.testing.assert_close(found["entropy"][0, 0], n.log(), atol=5e-6, rtol=0)
    assert found["entropy"].mean().item() == pytest.approx(mean, abs=5e-5)
    assert found["normalised_entropy"][..., 0].isnan().all()
    torch.testing.assert_close(found["normalised_entropy"][..., 1:].mean().item(), 1.0)
    assert found["first_key"].mean().item() == pytest.approx(harmonic / length, rel=1e-5)
    previous = found["previous_key"][..., 1:].mean().item()
    assert previous == pytest.approx((harmonic - 1) / (length - 1), rel=1e-5)
    assert found["distance"].mean().item() == pytest.approx((length - 1) / 4, rel=1e-5)
    assert (found["row_norm"] == 0).all()


def test_one_hot_heads() -> None:
    """Head 0 looks only at key 0, head 1 only at the key before."""
    length = 30
    k = torch.eye(length).expand(1, 2, length, length)
    q = torch.zeros(1, 2, length, length)
    q[0, 0, :, 0] = 300.0
    q[0, 1, torch.arange(length), (torch.arange(length) - 1).clamp(min=0)] = 300.0
    found = fused_statistics(q, k, scaling=1.0, tolerance=1e-2)
    assert found["entropy"].abs().max() < 1e-4
    torch.testing.assert_close(found["first_key"][0, 0], torch.ones(length))
    assert found["distance"][0, 0].mean().item() == pytest.approx(29 / 2)
    torch.testing.assert_close(found["previous_key"][0, 1, 1:], torch.ones(29), atol=1e-4, rtol=0)
    assert found["previous_key"][..., 0].isnan().all()


@pytest.mark.parametrize(("m", "delta"), [(1, 3.0), (5, -2.0), (7, 12.0)])
def test_two_level_logits(m: int, delta: float) -> None:
    length = 24
    k = torch.zeros(1, 1, length, 1)
    k[0, 0, :m] = delta
    found = fused_statistics(torch.ones(1, 1, length, 1), k, scaling=1.0)
    z = m * math.exp(delta) + length - m
    closed = math.log(z) - m * delta * math.exp(delta) / z
    assert found["entropy"][0, 0, -1].item() == pytest.approx(closed, abs=1e-5)
    norm = abs(delta) * math.sqrt(m * (length - m) / length)
    assert found["row_norm"][0, 0, -1].item() == pytest.approx(norm, rel=1e-6)


def test_what_must_not_matter() -> None:
    q, k, _ = draw(3, 4, 50, 8, size=2.0)

    def statistics(q: Tensor, k: Tensor) -> Statistics:
        return without_maximum(fused_statistics(q, k, scaling=0.4))

    wanted = statistics(q, k)
    generator = torch.Generator().manual_seed(5)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    same(statistics(q, k + torch.linspace(-1, 1, 8)), wanted, 4.0)
    same(statistics(q @ rotation, k @ rotation), wanted, 4.0)
    same(statistics(3 * q, k / 3), wanted, 4.0)
    heads = torch.tensor([3, 1, 0, 2])
    same(statistics(q[:, heads], k[:, heads]), {n: x[:, heads] for n, x in wanted.items()}, 4.0)


@pytest.mark.parametrize("garbage", [0.0, 1e4, float("nan"), float("inf")])
def test_padding_is_never_seen(garbage: float) -> None:
    q, k, v = draw(1, 4, 30, 8, kv=2, size=2.0)
    wanted_output, wanted = attend_with_fused_statistics(q, k, v, scaling=0.4)
    q, k, v = (F.pad(x, (0, 0, 6, 5), value=garbage) for x in (q, k, v))
    mask = torch.zeros(1, 41, dtype=torch.bool)
    mask[:, 6:36] = True
    output, found = attend_with_fused_statistics(q, k, v, scaling=0.4, key_mask=mask)
    same({n: x[..., 6:36] for n, x in found.items()}, wanted, 4.0)
    torch.testing.assert_close(output[:, :, 6:36], wanted_output, atol=5e-6, rtol=1e-5)
    assert all(x[..., ~mask[0]].isnan().all() for x in found.values())
    assert (output[:, :, ~mask[0]] == 0).all()


def test_a_sample_without_a_real_token_is_all_nan() -> None:
    q, k, v = draw(2, 2, 9, 4)
    mask = torch.tensor([[True] * 9, [False] * 9])
    output, found = attend_with_fused_statistics(q, k, v, scaling=0.5, key_mask=mask)
    assert found["entropy"][1].isnan().all()
    assert (output[1] == 0).all()
    assert not found["entropy"][0].isnan().any()


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(2, 600),
    features=st.sampled_from([4, 16, 64, 128]),
    size=st.floats(-2, 2.5),
    offset=st.floats(0, 20),
    outlier=st.floats(1, 30),
    sink=st.floats(0, 30),
    seed=st.integers(0, 2**16),
)
def test_entropy_is_within_its_error_bound(
    length: int,
    features: int,
    size: float,
    offset: float,
    outlier: float,
    sink: float,
    seed: int,
) -> None:
    """Gaussian keys with a shift, a large feature and a first key along the mean query."""
    q, k, v = draw(1, 2, length, features, seed=seed)
    q, k = q + 0.5, k + offset
    q[..., 0] *= outlier
    k[..., 0] *= outlier
    k[:, :, 0] += sink
    scaling = 10**size / features
    bound = entropy_error_bound(q, k, scaling=scaling)
    found = fused_statistics(q, k, scaling=scaling, tolerance=math.inf)["entropy"]
    wanted = eager(q, k, v, scaling=scaling)[1]["entropy"]
    if bound < 1e-3:  # beyond, rounding may look like an error and be flagged
        assert not found.isnan().any()
    assert (found - wanted).abs().nan_to_num().max() <= bound


def test_bound_grows_with_logits_and_ignores_padding_and_shifts() -> None:
    q, k, _ = draw(1, 4, 40, 8, kv=2)
    bound = entropy_error_bound(q, k, scaling=1.0)
    assert entropy_error_bound(q, k + 100, scaling=1.0) == pytest.approx(bound, rel=1e-3)
    assert entropy_error_bound(10 * q, k, scaling=1.0) > 5 * bound
    assert entropy_error_bound(q.double(), k.double(), scaling=1.0) < 1e-8 * bound
    padded = [F.pad(x, (0, 0, 0, 3), value=math.nan) for x in (q, k)]
    mask = torch.arange(43)[None] < 40
    again = entropy_error_bound(padded[0], padded[1], scaling=1.0, key_mask=mask)
    assert again == pytest.approx(bound * (1 + math.log(43) / 2) / (1 + math.log(40) / 2))


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_norm_survives_a_large_common_logit(spread: float) -> None:
    """Keys far from zero beside their spread: the difference of sums cancels, float64 keeps it."""
    q, k, v = draw(1, 2, 150, 8)
    k = 30 + spread * k
    n = torch.arange(1, 151.0)
    found = causal_row_norms(q[0, :, None], k[0], n)
    wanted = eager(q, k, v, scaling=1.0)[1]["row_norm"][0]
    torch.testing.assert_close(found[:, 0, 1:], wanted[:, 1:], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"softcap": 2.0},
        {"bias": torch.zeros(4)},
        {"sink": torch.zeros(4)},
        {"causal": False},
        {"window": 19},
        {"tolerance": 1e-9},
        {"scaling": 1e6},
        {"k": torch.full((1, 2, 20, 8), torch.nan)},
        {"q": torch.full((1, 4, 20, 8), torch.inf)},
    ],
)
def test_refused_where_the_form_or_the_precision_fails(change: dict[str, Any]) -> None:
    q, k, v = draw(1, 4, 20, 8, kv=2)
    accepted: dict[str, Any] = {"q": q, "k": k, "scaling": 0.4, "window": 20}
    assert usable(**accepted)
    assert not usable(**accepted | change)
    if not change.keys() & {"softcap", "bias", "sink", "causal"}:
        with pytest.raises(ValueError, match=r"use attention\.streaming"):
            fused_statistics(**accepted | change)
        with pytest.raises(ValueError, match=r"use attention\.streaming"):
            attend_with_fused_statistics(**accepted | change, v=v)


def test_bad_shapes() -> None:
    q, k, v = draw(1, 4, 5, 4, kv=2)
    with pytest.raises(ValueError, match="multiple of kv_head"):
        fused_statistics(q[:, :3], k, scaling=1.0)
    with pytest.raises(ValueError, match="and a value feature"):
        attend_with_fused_statistics(q, k, v[:, :, :4], scaling=1.0)
    with pytest.raises(ValueError, match="key_mask"):
        fused_statistics(q, k, scaling=1.0, key_mask=torch.ones(1, 4))


def test_memory_is_linear_in_length() -> None:
    """No tensor of the length squared is asked for, padding or not."""
    length = 3000
    q, k, _ = draw(1, 1, length, 4)
    with torch.profiler.profile(profile_memory=True) as profile:
        fused_statistics(q, k, scaling=0.5, key_mask=padding(1, length, "left"))
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest < length**2 / 2
