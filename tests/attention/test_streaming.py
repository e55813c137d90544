from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from attention.streaming import attend_with_statistics, row_statistics
from tests.attention.eager_reference import draw, eager, padding, same

NAMES = {
    "entropy",
    "normalised_entropy",
    "max_logit",
    "log_normaliser",
    "row_norm",
    "first_key",
    "previous_key",
    "distance",
    "visible",
    "top_mass",
    "effective_support",
    "lower_bound",
    "upper_bound",
    "bound_share",
}
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


def rotation(width: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    q: Tensor = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return q


def test_what_must_not_matter() -> None:
    q, k, _ = draw(3, 4, 50, 8, size=2.0)
    wanted = row_statistics(q, k, scaling=0.4)
    loose = 4.0
    shifted = row_statistics(q, k + torch.linspace(-1, 1, 8), scaling=0.4)
    moved = {n: shifted.pop(n) - wanted[n] for n in ("max_logit", "log_normaliser")}
    assert moved["max_logit"].abs().max() > 0.1
    torch.testing.assert_close(moved["max_logit"], moved["log_normaliser"], atol=1e-4, rtol=0)
    same(shifted, {n: x for n, x in wanted.items() if n not in moved}, loose)
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
    q, k, v = draw(3, 16, 600, 4)
    mask = padding(3, 600, "left")
    bias = torch.linspace(-1, 1, 3).view(3, 1, 1, 1) * torch.arange(600.0) / 50
    output, found = attend_with_statistics(q, k, v, scaling=0.5, key_mask=mask, bias=bias)
    for b in range(3):
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
    arguments: dict[str, Any] = {"k": k, "v": v, "scaling": 1.0} | change
    with pytest.raises(ValueError, match=message):
        attend_with_statistics(q, **arguments)


def test_statistics_are_the_documented_ones() -> None:
    q, k, _ = draw(1, 2, 5, 4)
    found = row_statistics(q, k, scaling=1.0)
    assert found.keys() == NAMES
    assert {x.shape for x in found.values()} == {(1, 2, 5)}
