"""Column sums and single probabilities against whole matrices, and sinks against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attention.columns import column_sums, row_probabilities
from attention.sinks import (
    is_sink,
    key_importance,
    relative_output_norm,
    uniform_column_sums,
    uniform_importance,
)
from attention.streaming import row_statistics

LENGTH = 23


def inputs(seed: int = 0, heads: int = 4, kv_heads: int = 2, scale: float = 1.0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(2, heads, LENGTH, 8, generator=generator) * scale
    k = torch.randn(2, kv_heads, LENGTH, 8, generator=generator) * scale
    return q, k


def matrix(q: torch.Tensor, k: torch.Tensor, rule: dict[str, Any]) -> torch.Tensor:
    """The whole softmax in float64, from the definition."""
    q, k = q.double(), k.double().repeat_interleave(q.shape[1] // k.shape[1], 1)
    s = q @ k.transpose(-1, -2) * rule["scaling"]
    if rule.get("softcap"):
        s = rule["softcap"] * torch.tanh(s / rule["softcap"])
    i = torch.arange(LENGTH)
    if rule.get("bias") is not None:
        bias = rule["bias"].double()
        if bias.ndim == 1:
            bias = -bias[:, None, None] * (i[:, None] - i).abs()
        s = s + bias
    seen = i[:, None] >= i
    if not rule.get("causal", True):
        seen = torch.ones_like(seen)
    if rule.get("window"):
        seen = seen & (i[:, None] - i < rule["window"])
    seen = seen.expand(len(q), 1, -1, -1)
    if rule.get("key_mask") is not None:
        seen = seen & rule["key_mask"][:, None, None, :]
    s = s.masked_fill(~seen, -torch.inf)
    if rule.get("sink") is not None:
        slot = rule["sink"].double()[None, :, None, None].expand(*s.shape[:-1], 1)
        p = torch.cat([s, slot], -1).softmax(-1)[..., :-1]
    else:
        p = s.softmax(-1)
    if rule.get("key_mask") is not None:
        p = p.masked_fill(~rule["key_mask"][:, None, :, None], 0)
    return p.nan_to_num(0)


MASK = torch.ones(2, LENGTH, dtype=torch.bool)
MASK[1, 15:] = False
RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "padding": {"key_mask": MASK},
    "padding on the left": {"key_mask": MASK.flip(1)},
    "window": {"window": 5},
    "softcap": {"softcap": 1.5},
    "slopes": {"bias": torch.tensor([0.5, 0.25, 0.1, 0.0])},
    "bias": {"bias": torch.randn(1, 4, LENGTH, LENGTH, generator=torch.Generator().manual_seed(9))},
    "sink": {"sink": torch.tensor([0.0, 1.0, -2.0, 3.0])},
    "not causal": {"causal": False},
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_sums_are_those_of_the_whole_matrix(name: str, chunk: int | None) -> None:
    rule = {"scaling": 0.4, **RULES[name]}
    q, k = inputs()
    lse = row_statistics(q, k, **rule)["log_normaliser"]
    p = matrix(q, k, rule)
    found = column_sums(q, k, lse, **rule, chunk=chunk)
    torch.testing.assert_close(found, p.sum(-2), atol=2e-5, rtol=1e-5)
    some = torch.tensor([0, 3, 22])
    few = column_sums(q, k, lse, **rule, keys=some, chunk=chunk)
    torch.testing.assert_close(few, found[..., some], atol=1e-5, rtol=0)
    rows = row_probabilities(q, k, lse, **rule, rows=slice(4, 9))
    torch.testing.assert_close(rows.double(), p[..., 4:9, :], atol=2e-6, rtol=1e-5)


@given(seed=st.integers(0, 10_000), scale=st.floats(0, 6), queries=st.integers(1, LENGTH))
def test_over_all_keys_they_sum_to_the_number_of_rows(
    seed: int, scale: float, queries: int
) -> None:
    q, k = inputs(seed, scale=scale)
    lse = row_statistics(q, k, scaling=0.4)["log_normaliser"]
    sums = column_sums(q, k, lse, scaling=0.4, stop=queries)
    torch.testing.assert_close(
        sums.sum(-1), torch.full((2, 4), queries, dtype=torch.float64), atol=2e-4, rtol=0
    )


@given(seed=st.integers(0, 10_000))
def test_the_first_column_is_the_mean_first_key_of_the_rows(seed: int) -> None:
    """Reference §5 item 16: the sink from rows is the sink from columns."""
    q, k = inputs(seed)
    found = row_statistics(q, k, scaling=0.4, key_mask=MASK)
    sums = column_sums(q, k, found["log_normaliser"], scaling=0.4, key_mask=MASK)
    length = MASK.sum(1)[:, None].numpy()
    alpha = key_importance(sums[..., :1], length)[..., 0]
    np.testing.assert_allclose(alpha, found["first_key"].nanmean(-1), atol=2e-6)


def test_a_cut_text_has_the_importance_of_its_own() -> None:
    q, k = inputs()
    lse = row_statistics(q, k, scaling=0.4)["log_normaliser"]
    cut, kept = q[:, :, :9], k[:, :, :9]
    own = row_statistics(cut, kept, scaling=0.4)["log_normaliser"]
    alone = column_sums(cut, kept, own, scaling=0.4)
    within = column_sums(q, k, lse, scaling=0.4, stop=9)
    torch.testing.assert_close(within[..., :9], alone, atol=1e-5, rtol=0)
    assert (within[..., 9:] == 0).all()


def test_a_nan_row_is_nan_in_every_sum_it_takes_part_in() -> None:
    q, k = inputs()
    q[0, 1, 5] = torch.nan
    lse = row_statistics(q, k, scaling=0.4)["log_normaliser"]
    sums = column_sums(q, k, lse, scaling=0.4)
    assert sums[0, 1, :6].isnan().all()
    assert not sums[1].isnan().any()
    assert not sums[0, 0].isnan().any()


def test_zero_queries_attend_uniformly() -> None:
    """Reference §5 item 2: α_1 = H_T / T = 0.074123 at T = 64, which is no sink."""
    q, k = torch.zeros(1, 2, 64, 8), torch.randn(1, 2, 64, 8)
    lse = row_statistics(q, k, scaling=0.3)["log_normaliser"]
    alpha = key_importance(column_sums(q, k, lse, scaling=0.3), 64)
    np.testing.assert_allclose(
        alpha, np.broadcast_to(uniform_importance(64), (1, 2, 64)), atol=1e-6
    )
    assert alpha[0, 0, 0] == pytest.approx(0.074123, abs=1e-6)
    assert alpha[0, 0, -1] == pytest.approx(1 / 64)
    assert (is_sink(alpha) == 0).all()
    np.testing.assert_allclose(uniform_column_sums(64).sum(), 64)
    by_hand = [sum(1 / i for i in range(k, 65)) / (64 - k + 1) for k in range(1, 65)]
    np.testing.assert_allclose(uniform_importance(64), by_hand)


def test_a_pure_sink_has_importance_one() -> None:
    """Reference §5 item 3, and what row 0 adds by force to a head that never looks there."""
    p = np.zeros((8, 8))
    p[:, 0] = 1
    assert key_importance(p.sum(0), 8)[0] == 1
    assert is_sink(key_importance(p.sum(0), 8))[0] == 1
    own = np.eye(8)
    assert key_importance(own.sum(0), 8)[0] == pytest.approx(1 / 8)
    assert key_importance(own.sum(0), 8, first_row=False)[0] == 0
    assert key_importance(p.sum(0), 8, first_row=False)[0] == 1
    # Three positions: row 0 alone carries a head over ε = 0.3.
    assert is_sink(key_importance(np.eye(3).sum(0), 3))[0] == 1
    assert is_sink(key_importance(np.eye(3).sum(0), 3, first_row=False))[0] == 0


def test_importance_is_that_of_the_published_code() -> None:
    """`(A / arange(T, 0, −1)).sum(−2)` of sail-sg/Attention-Sink, on a random causal pattern."""
    p = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    p = p.masked_fill(torch.ones(64, 64).triu(1).bool(), -torch.inf).softmax(-1).numpy()
    theirs = (p / np.arange(64, 0, -1)).sum(-2)
    np.testing.assert_allclose(key_importance(p.sum(-2), 64), theirs)
    some = np.array([0, 5, 60])
    np.testing.assert_allclose(key_importance(p.sum(-2)[:, some], 64, keys=some), theirs[:, some])


def test_keys_without_queries_and_nan_have_no_sink() -> None:
    assert np.isnan(key_importance(np.zeros(4), 2)[2:]).all()
    assert np.isnan(is_sink(np.array([np.nan]))).all()
    assert is_sink(0.3) == 0
    assert is_sink(0.2, threshold=0.1) == 1


def test_relative_norms_do_not_know_the_scale_of_their_block() -> None:
    norms = np.array([[1.0, 3.0], [10.0, 30.0]])
    np.testing.assert_allclose(relative_output_norm(norms), [[0.5, 1.5], [0.5, 1.5]])
    assert np.isnan(relative_output_norm([[np.nan, 1.0]])).all()
    assert np.isnan(relative_output_norm([[0.0, 0.0]])).all()


@pytest.mark.parametrize("wrong", ["heads", "normaliser", "chunk"])
def test_what_does_not_fit_is_refused(wrong: str) -> None:
    q, k = inputs()
    lse = torch.zeros(2, 4, LENGTH)
    if wrong == "heads":
        k = k[:, :1].repeat(1, 3, 1, 1)
    if wrong == "normaliser":
        lse = lse[..., :-1]
    with pytest.raises(ValueError, match="must be"):
        column_sums(q, k, lse, scaling=1.0, chunk=0 if wrong == "chunk" else None)
