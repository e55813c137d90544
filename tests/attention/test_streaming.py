from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from attention.entropy import entropy_bounds
from attention.streaming import attend_with_statistics, row_statistics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAMES = {
    "entropy",
    "normalised_entropy",
    "max_logit",
    "row_norm",
    "first_key",
    "previous_key",
    "distance",
    "visible",
}
TOLERANCE = {"entropy": 2e-5, "distance": 2e-4, "max_logit": 2e-5, "row_norm": 5e-5}


def draw(
    *shape: int, kv: int | None = None, seed: int = 0, size: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v with the last dimension as features; logits have about `size` as standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    batch, heads, length, width = shape
    q = torch.randn(batch, heads, length, width, generator=generator) * size
    k = torch.randn(batch, kv or heads, length, width, generator=generator) + 0.5
    v = torch.randn(batch, kv or heads, length, width + 1, generator=generator)
    return q, k, v


def visible_keys(length: int, mask: Tensor | None, causal: bool, window: int | None) -> Tensor:
    i, j = torch.arange(length)[:, None], torch.arange(length)
    seen = torch.ones(length, length, dtype=torch.bool)
    if causal:
        seen &= j <= i
    if window is not None:
        seen &= j > i - window
    return seen[None, None] & (
        torch.ones(1, 1, 1, length, dtype=torch.bool) if mask is None else mask[:, None, None]
    )


def eager(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scaling: float,
    key_mask: Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The definitions in float64 with all probabilities at once; bias is a full tensor here."""
    q, k, v = q.double(), k.double(), v.double()
    batch, heads, length, _ = q.shape
    k, v = (x.repeat_interleave(heads // x.shape[1], 1) for x in (k, v))
    s = torch.einsum("bhid,bhjd->bhij", q, k) * scaling
    if softcap is not None:
        s = softcap * torch.tanh(s / softcap)
    if bias is not None:
        s = s + bias
    seen = visible_keys(length, key_mask, causal, window).expand_as(s)
    masked = s.masked_fill(~seen, -torch.inf)
    if sink is not None:
        slot = sink.double().view(1, heads, 1, 1).expand(batch, heads, length, 1)
        masked = torch.cat([masked, slot], -1)
    p = torch.nan_to_num(torch.softmax(masked, -1))
    entropy = torch.special.entr(p).sum(-1)
    p = p[..., :length]
    n = seen.sum(-1).double()
    centred = torch.where(seen, s - (s * seen).sum(-1, keepdim=True) / n[..., None], 0)
    first = 0 if key_mask is None else key_mask.int().argmax(-1)[:, None]
    place = torch.arange(length).double()
    before = F.pad(p.diagonal(-1, -2, -1), (1, 0))
    has_before = F.pad(seen.diagonal(-1, -2, -1), (1, 0))
    outcomes = n if sink is None else n + 1
    statistics = {
        "entropy": entropy,
        "normalised_entropy": torch.where(n > 1, entropy / outcomes.log(), torch.nan),
        "max_logit": masked[..., :length].amax(-1),
        "row_norm": centred.norm(dim=-1),
        "first_key": (p * (place == torch.as_tensor(first)[..., None, None])).sum(-1)
        if key_mask is not None
        else p[..., 0],
        "previous_key": torch.where(has_before, before, torch.nan),
        "distance": (p * (place[:, None] - place)).sum(-1),
        "visible": n,
    }
    output = p @ v
    if key_mask is not None:
        valid = key_mask[:, None]
        statistics = {name: x.where(valid, torch.nan) for name, x in statistics.items()}
        output = output.where(valid[..., None], 0.0)
    return output, statistics, p


def same(found: dict[str, Tensor], wanted: dict[str, Tensor], scale: float = 1.0) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(
            value.double(),
            wanted[name].double(),
            atol=scale * TOLERANCE.get(name, 5e-6),
            rtol=2e-6 * scale,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def padding(batch: int, length: int, side: str) -> Tensor:
    """Sample b loses 2 + 3 b tokens."""
    lost = 2 + 3 * torch.arange(batch)[:, None]
    place = torch.arange(length)
    if side == "holes":
        return (place + lost) % 5 != 0
    return place >= lost if side == "left" else place < length - lost


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"window": 5},
    "window of one": {"window": 1},
    "wide window": {"window": 500},
    "bidirectional": {"causal": False},
    "softcap": {"softcap": 2.0},
    "bias": {"bias": torch.linspace(-2, 2, 37 * 37).reshape(1, 1, 37, 37).sin()},
    "bias of each sample": {"bias": torch.linspace(-9, 9, 3 * 37).reshape(3, 1, 1, 37).cos()},
    "sink": {"sink": torch.tensor([0.5, -1.0, 3.0, 70.0])},
    "all": {
        "window": 9,
        "softcap": 3.0,
        "sink": torch.tensor([0.5, -1.0, 3.0, 0.0]),
        "bias": torch.linspace(-2, 2, 4 * 37).reshape(4, 1, 37),
    },
}


@pytest.mark.parametrize("side", [None, "left", "right", "holes"])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_all_probabilities_in_float64(case: str, side: str | None) -> None:
    q, k, v = draw(3, 4, 37, 8, kv=2, size=2.0)
    mask = None if side is None else padding(3, 37, side)
    options = CASES[case] | {"scaling": 0.4, "key_mask": mask}
    wanted_output, wanted, _ = eager(q, k, v, **options)
    output, found = attend_with_statistics(q, k, v, chunk=8, **options)
    same(found, wanted)
    torch.testing.assert_close(output.double(), wanted_output, atol=5e-6, rtol=1e-5)
    same(row_statistics(q, k, chunk=8, **options), found)
    assert all(x.dtype == torch.float32 for x in found.values())


@pytest.mark.parametrize("causal", [True, False])
def test_slopes_are_a_bias_on_distance(causal: bool) -> None:
    q, k, v = draw(2, 4, 21, 8)
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.0])
    place = torch.arange(21.0)
    full = -slopes[:, None, None] * (place[:, None] - place).abs()
    _, wanted, _ = eager(q, k, v, scaling=0.3, causal=causal, bias=full)
    same(row_statistics(q, k, scaling=0.3, causal=causal, bias=slopes, chunk=6), wanted)


@pytest.mark.parametrize("size", [1.0, 20.0, 80.0])
def test_precision_holds_at_large_logits(size: float) -> None:
    q, k, v = draw(1, 2, 300, 16, size=size)
    output, found = attend_with_statistics(q, k, v, scaling=0.25)
    wanted_output, wanted, _ = eager(q, k, v, scaling=0.25)
    if size > 50:
        assert wanted["max_logit"].max() > 250
    assert (found["entropy"] - wanted["entropy"]).abs().max() < 1e-6 * (20 + 5 * size)
    assert (found["row_norm"] / wanted["row_norm"] - 1)[..., 1:].abs().max() < 2e-5
    assert (output - wanted_output).abs().max() < 1e-5 * size
    assert not found["entropy"].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_upcast_first(dtype: torch.dtype) -> None:
    q, k, v = (x.to(dtype) for x in draw(2, 4, 40, 16, kv=2, size=6.0))
    output, found = attend_with_statistics(q, k, v, scaling=0.25)
    wanted_output, wanted, _ = eager(q, k, v, scaling=0.25)
    same(found, wanted)
    assert output.dtype == dtype
    torch.testing.assert_close(output, wanted_output.to(dtype))


def test_double_precision_is_kept() -> None:
    q, k, v = (x.double() for x in draw(2, 2, 40, 16, size=6.0))
    output, _ = attend_with_statistics(q, k, v, scaling=0.25)
    torch.testing.assert_close(output, eager(q, k, v, scaling=0.25)[0], atol=1e-13, rtol=1e-12)


def test_output_is_that_of_sdpa() -> None:
    q, k, v = draw(2, 6, 130, 16, kv=3)
    output, _ = attend_with_statistics(q, k, v, scaling=0.25)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.25, enable_gqa=True)
    torch.testing.assert_close(output, wanted, atol=2e-6, rtol=1e-5)


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
    assert found["entropy"][0, 0, -1].item() == pytest.approx(closed, abs=2e-6)
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


def rotation(width: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.linalg.qr(torch.randn(width, width, generator=generator))[0]


def test_what_must_not_matter() -> None:
    q, k, _ = draw(3, 4, 50, 8, size=2.0)
    wanted = row_statistics(q, k, scaling=0.4)
    loose = 4.0
    shifted = row_statistics(q, k + torch.linspace(-1, 1, 8), scaling=0.4)
    for name in ("max_logit",):
        assert (shifted.pop(name) - wanted[name]).abs().max() > 0.1
    same(shifted, {n: x for n, x in wanted.items() if n != "max_logit"}, loose)
    r = rotation(8)
    same(row_statistics(q @ r, k @ r, scaling=0.4), wanted, loose)
    same(row_statistics(3 * q, k / 3, scaling=0.4), wanted, loose)
    same(row_statistics(q, k, scaling=0.4, window=50), wanted, loose)
    order = torch.tensor([2, 0, 1])
    turned = row_statistics(q[order], k[order], scaling=0.4)
    same(turned, {n: x[order] for n, x in wanted.items()}, loose)
    heads = torch.tensor([3, 1, 0, 2])
    turned = row_statistics(q[:, heads], k[:, heads], scaling=0.4)
    same(turned, {n: x[:, heads] for n, x in wanted.items()}, loose)


@pytest.mark.parametrize("options", [{}, {"window": 11}, {"causal": False}, {"softcap": 4.0}])
@pytest.mark.parametrize("chunk", [1, 7, 50, 64])
def test_chunk_size_changes_only_rounding(chunk: int, options: dict[str, Any]) -> None:
    q, k, v = draw(2, 4, 50, 8, kv=2, size=3.0)
    mask = padding(2, 50, "left")
    whole = attend_with_statistics(q, k, v, scaling=0.4, key_mask=mask, **options)
    parts = attend_with_statistics(q, k, v, scaling=0.4, key_mask=mask, chunk=chunk, **options)
    same(parts[1], whole[1], 4.0)
    torch.testing.assert_close(parts[0], whole[0], atol=5e-6, rtol=1e-5)


def test_samples_are_taken_in_groups_without_mixing() -> None:
    """A batch too large for one block gives what its samples give alone."""
    q, k, v = draw(5, 8, 200, 4)
    mask = padding(5, 200, "left")
    bias = torch.linspace(-1, 1, 5).view(5, 1, 1, 1) * torch.arange(200.0) / 50
    output, found = attend_with_statistics(q, k, v, scaling=0.5, key_mask=mask, bias=bias)
    for b in range(5):
        one = slice(b, b + 1)
        alone = attend_with_statistics(
            q[one], k[one], v[one], scaling=0.5, key_mask=mask[one], bias=bias[one]
        )
        same({n: x[one] for n, x in found.items()}, alone[1])
        torch.testing.assert_close(output[one], alone[0], atol=2e-6, rtol=1e-5)


def test_joint_permutation_of_keys_without_a_mask() -> None:
    q, k, _ = draw(1, 3, 20, 8, size=2.0)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    wanted = row_statistics(q, k, scaling=0.4, causal=False)
    found = row_statistics(q, k[:, :, order], scaling=0.4, causal=False)
    for name in ("entropy", "max_logit", "row_norm", "visible"):
        same({name: found[name]}, {name: wanted[name]}, 4.0)


@pytest.mark.parametrize("garbage", [0.0, 1e4, float("nan"), float("inf")])
def test_padding_is_never_seen(garbage: float) -> None:
    """Left and right padding, whatever it holds, leave valid rows as they are without it."""
    q, k, v = draw(1, 4, 30, 8, kv=2, size=2.0)
    wanted_output, wanted = attend_with_statistics(q, k, v, scaling=0.4)
    q, k, v = (F.pad(x, (0, 0, 6, 5), value=garbage) for x in (q, k, v))
    mask = torch.zeros(1, 41, dtype=torch.bool)
    mask[:, 6:36] = True
    output, found = attend_with_statistics(q, k, v, scaling=0.4, key_mask=mask, chunk=16)
    same({n: x[..., 6:36] for n, x in found.items()}, wanted, 4.0)
    torch.testing.assert_close(output[:, :, 6:36], wanted_output, atol=5e-6, rtol=1e-5)
    assert all(x[..., ~mask[0]].isnan().all() for x in found.values())
    assert (output[:, :, ~mask[0]] == 0).all()


def test_grouped_heads_are_repeated_keys() -> None:
    q, k, v = draw(2, 6, 33, 8, kv=2)
    output, found = attend_with_statistics(q, k, v, scaling=0.4)
    again = attend_with_statistics(
        q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1), scaling=0.4
    )
    same(found, again[1])
    torch.testing.assert_close(output, again[0], atol=2e-6, rtol=1e-5)


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


def test_nan_is_not_hidden() -> None:
    q, k, _ = draw(1, 2, 12, 4)
    k[0, 1, 5] = torch.nan
    found = row_statistics(q, k, scaling=0.5)
    assert found["entropy"][0, 1, 5:].isnan().all()
    assert found["row_norm"][0, 1, 5:].isnan().all()
    assert not found["entropy"][0, 0].isnan().any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_gpt_neox_through_the_attention_interface(side: str) -> None:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.6,
        attn_implementation="eager",
    )
    model = GPTNeoXForCausalLM(config).eval()
    tokens = torch.randint(0, 64, (3, 24))
    mask = padding(3, 24, side)
    with torch.no_grad():
        wanted = model(tokens, attention_mask=mask.long(), output_attentions=True)
    seen: list[dict[str, Tensor]] = []

    def listen(module: Any, q: Tensor, k: Tensor, v: Tensor, _: Any, **options: Any) -> Any:
        output, found = attend_with_statistics(
            q, k, v, scaling=options["scaling"], key_mask=mask, chunk=8
        )
        seen.append(found)
        return output.transpose(1, 2), None

    AttentionInterface.register("test_streaming", listen)
    AttentionMaskInterface.register("test_streaming", sdpa_mask)
    model.set_attn_implementation("test_streaming")
    with torch.no_grad():
        logits = model(tokens, attention_mask=mask.long()).logits
    torch.testing.assert_close(logits[mask], wanted.logits[mask], atol=1e-4, rtol=1e-4)
    first, place = mask.int().argmax(-1), torch.arange(24.0)
    assert len(seen) == 2
    for found, p in zip(seen, wanted.attentions, strict=True):
        valid = mask[:, None].expand(p.shape[:3])
        pattern = {
            "entropy": torch.special.entr(p.double()).sum(-1),
            "first_key": torch.stack([p[b, :, :, i] for b, i in enumerate(first)]),
            "distance": (p * (place[:, None] - place)).sum(-1),
        }
        for name, value in pattern.items():
            assert (found[name] - value)[valid].abs().max() < 1e-4
        assert found["entropy"][valid].std() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(1, 3, 5, 4)}, "multiple of kv_head"),
        ({"k": torch.zeros(1, 2, 6, 4)}, "must have the batch"),
        ({"v": torch.zeros(1, 2, 6, 4)}, "v "),
        ({"key_mask": torch.ones(1, 4, dtype=torch.bool)}, "key_mask"),
        ({"window": 0}, "window=0"),
        ({"window": 2, "causal": False}, "causal=True"),
        ({"chunk": 0}, "chunk=0"),
        ({"sink": torch.zeros(3)}, "sink of length 3"),
        ({"bias": torch.zeros(3)}, "bias of length 3"),
        ({"bias": torch.zeros(2, 5, 3)}, "must broadcast"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    q, k, v = torch.zeros(1, 4, 5, 4), torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 4)
    arguments = {"k": k, "v": v, "scaling": 1.0} | change
    with pytest.raises(ValueError, match=message):
        attend_with_statistics(q, **arguments)


def test_statistics_are_the_documented_ones() -> None:
    q, k, _ = draw(1, 2, 5, 4)
    found = row_statistics(q, k, scaling=1.0)
    assert found.keys() == NAMES
    assert {x.shape for x in found.values()} == {(1, 2, 5)}
