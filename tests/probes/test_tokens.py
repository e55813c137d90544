from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probes.tokens import token_statistics


def draw(
    rows: int, vocabulary: int, width: int, *, size: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, unembedding and targets; logits have `size` as standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=generator) * size / math.sqrt(width)
    weight = torch.randn(vocabulary, width, generator=generator)
    return hidden, weight, torch.randint(0, vocabulary, (rows,), generator=generator)


def full(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The definitions on all float64 logits at once."""
    log_p = torch.log_softmax(logits, -1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(-1)
    own = logits.gather(-1, targets.clamp(min=0)[..., None])
    has = targets >= 0
    surprisal = -log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return {
        "surprisal": surprisal.where(has, torch.nan),
        "entropy": entropy,
        "varentropy": (p * (log_p + entropy[..., None]).square()).sum(-1),
        "top1": logits.argmax(-1),
        "target_rank": (logits > own).sum(-1).where(has, -1),
    }


def same(found: dict[str, Tensor], wanted: dict[str, Tensor], atol: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        if value.is_floating_point():
            assert value.dtype == torch.float32
            torch.testing.assert_close(
                value.double(), wanted[name].double(), atol=atol, rtol=1e-6, equal_nan=True
            )
        else:
            assert value.dtype == torch.int64
            assert torch.equal(value, wanted[name]), name


OPTIONS: list[dict[str, Any]] = [
    {},
    {"vocab_size": 950},
    {"softcap": 12.0},
    {"bias": torch.linspace(-3, 3, 1003).sin()},
    {"bias": torch.linspace(-9, 9, 1003), "vocab_size": 951, "softcap": 15.0},
]


@pytest.mark.parametrize("size", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("options", OPTIONS)
def test_agrees_with_all_logits_in_float64(options: dict[str, Any], size: float) -> None:
    hidden, weight, targets = draw(60, 1003, 24, size=size)
    targets %= options.get("vocab_size", 1003)
    targets[::7] = -1
    logits = hidden.double() @ weight.double().T
    if "bias" in options:
        logits += options["bias"].double()
    if "softcap" in options:
        logits = options["softcap"] * torch.tanh(logits / options["softcap"])
    wanted = full(logits[:, : options.get("vocab_size", 1003)], targets)
    for chunk in (None, 1, 37, 1003):
        same(token_statistics(hidden, weight, targets, chunk=chunk, **options), wanted)
    assert wanted["surprisal"].isnan().sum() == 9


def test_many_rows_and_a_wide_vocabulary() -> None:
    """More rows than one group, and more blocks than one."""
    hidden, weight, targets = draw(2100, 3000, 8, size=4.0)
    found = token_statistics(hidden, weight, targets)
    wanted = full(hidden.double() @ weight.double().T, targets)
    ranks = found.pop("target_rank"), wanted.pop("target_rank")
    same(found, wanted, 2e-5)
    # Two logits nearer than float32 tells apart may change places.
    assert (ranks[0] - ranks[1]).abs().max() <= 1
    assert (ranks[0] != ranks[1]).float().mean() < 0.01


@pytest.mark.parametrize("order", ["rising", "falling", "spike"])
def test_running_sums_survive_any_order_of_the_vocabulary(order: str) -> None:
    """Logits from −400 to 400, in blocks whose maxima rise, fall or jump."""
    logits = torch.linspace(-400, 400, 500)
    if order == "falling":
        logits = logits.flip(0)
    if order == "spike":
        logits = torch.zeros(500).index_fill(0, torch.tensor([333]), 400.0)
    targets = torch.tensor([0, 333, 499])
    found = token_statistics(torch.ones(3, 1), logits[:, None], targets, chunk=20)
    wanted = full(logits.double().expand(3, -1), targets)
    same(found, wanted, 1e-4)


@pytest.mark.parametrize("vocabulary", [1, 2, 977])
def test_uniform_predictions(vocabulary: int) -> None:
    hidden, weight, targets = torch.zeros(5, 3), torch.ones(vocabulary, 3), torch.zeros(5).long()
    found = token_statistics(hidden, weight, targets, chunk=10)
    for name in ("surprisal", "entropy"):
        torch.testing.assert_close(found[name], torch.full((5,), math.log(vocabulary)))
    assert (found["varentropy"] < 1e-6).all()
    assert (found["target_rank"] == 0).all()
    assert (found["top1"] == 0).all()


def test_two_level_predictions() -> None:
    """m tokens δ above the rest: surprisal is two-valued, so entropy and varentropy are closed."""
    m, delta, size = 7, 3.0, 400
    weight = torch.zeros(size, 1)
    weight[10 : 10 + m] = delta
    found = token_statistics(torch.ones(2, 1), weight, torch.tensor([12, 300]), chunk=64)
    z = m * math.exp(delta) + size - m
    share = m * math.exp(delta) / z
    assert found["entropy"][0].item() == pytest.approx(math.log(z) - share * delta, rel=1e-6)
    assert found["varentropy"][0].item() == pytest.approx(share * (1 - share) * delta**2, rel=1e-5)
    wanted = [math.log(z) - delta, math.log(z)]
    assert found["surprisal"].tolist() == pytest.approx(wanted, rel=1e-6)
    assert found["top1"].tolist() == [10, 10]
    assert found["target_rank"].tolist() == [0, m]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**16))
def test_ranks_and_first_of_equals_under_many_ties(size: int, chunk: int, seed: int) -> None:
    """Small whole numbers: every logit is exact, so ties are ties."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randint(-2, 3, (6, 3), generator=generator).float()
    weight = torch.randint(-2, 3, (size, 3), generator=generator).float()
    targets = torch.randint(-1, size, (6,), generator=generator)
    logits = hidden @ weight.T
    found = token_statistics(hidden, weight, targets, chunk=chunk)
    for row, target in enumerate(targets.tolist()):
        values = logits[row].tolist()
        rank = -1 if target < 0 else sum(v > values[target] for v in values)
        assert found["target_rank"][row] == rank
        assert found["top1"][row] == values.index(max(values))


def test_the_target_never_outranks_itself() -> None:
    hidden, weight, _ = draw(400, 500, 33, size=5.0)
    best = (hidden.double() @ weight.double().T).argmax(-1)
    assert (token_statistics(hidden, weight, best, chunk=64)["target_rank"] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_upcast_first(dtype: torch.dtype) -> None:
    hidden, weight, targets = draw(40, 300, 16, size=3.0)
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    bias = torch.linspace(-1, 1, 300).to(dtype)
    wanted = full(hidden.double() @ weight.double().T + bias.double(), targets)
    same(token_statistics(hidden, weight, targets, bias=bias, chunk=64), wanted)


def test_shape_order_and_shift_do_not_matter() -> None:
    hidden, weight, targets = draw(24, 200, 8, size=3.0)
    wanted = token_statistics(hidden, weight, targets)
    shaped = token_statistics(hidden.view(2, 3, 4, 8), weight, targets.view(2, 3, 4))
    assert all(x.shape == (2, 3, 4) for x in shaped.values())
    same({name: x.flatten() for name, x in shaped.items()}, wanted)
    same(token_statistics(hidden, weight, targets, bias=torch.full((200,), 50.0)), wanted, 1e-4)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    found = token_statistics(hidden, weight[order], order.argsort()[targets])
    found["top1"] = order[found["top1"]]
    same(found, wanted)
    none = token_statistics(hidden[:0], weight, targets[:0])
    assert none.keys() == wanted.keys()
    assert all(x.shape == (0,) for x in none.values())


def test_nan_is_not_hidden() -> None:
    hidden, weight, targets = draw(6, 50, 4)
    hidden[2] = torch.nan
    found = token_statistics(hidden, weight, targets, chunk=16)
    for name in ("surprisal", "entropy", "varentropy"):
        assert found[name].isnan().tolist() == [i == 2 for i in range(6)]
    weight[40] = torch.nan
    assert token_statistics(hidden, weight, targets, chunk=16)["entropy"].isnan().all()


@pytest.mark.parametrize(
    ("targets", "vocab_size"),
    [(torch.zeros(5).long(), None), (torch.full((4,), 9), None), (torch.full((4,), 5), 5)],
)
def test_bad_arguments(targets: Tensor, vocab_size: int | None) -> None:
    with pytest.raises(ValueError, match="targets"):
        token_statistics(torch.zeros(4, 3), torch.zeros(9, 3), targets, vocab_size=vocab_size)
