"""The entropy penalty against loops, at its margin, and in the sign of its gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attention.regularisation import PENALTIES, entropy_penalty, highest_entropy

SHAPE = (3, 2, 4, 8)  # block, batch, head, position


def rows(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(SHAPE, generator=generator, dtype=torch.float64) * math.log(SHAPE[3])


def thresholds(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(SHAPE[0], SHAPE[2], generator=generator, dtype=torch.float64)


def by_loops(entropy, threshold, margin, top, convention):
    total = 0.0
    for block in range(SHAPE[0]):
        for head in range(SHAPE[2]):
            goal = float(threshold[0 if convention == "jha2025_code" else block, head]) * top
            cells = entropy[block, :, head].flatten().tolist()
            if convention == "jha2025_paper":
                cells = [sum(cells) / len(cells)]
            total += sum((c - goal) ** 2 for c in cells if abs(c - goal) > margin * top)
    return total / SHAPE[0] / SHAPE[2]


@pytest.mark.parametrize("convention", PENALTIES)
@pytest.mark.parametrize("reference", ["log_length", "causal_uniform"])
@given(seed=st.integers(0, 1000), margin=st.floats(0, 0.5))
def test_equals_loops_over_heads_and_rows(convention, reference, seed, margin):
    entropy, threshold = rows(seed), thresholds(seed + 1)
    found = entropy_penalty(
        entropy, threshold, margin=margin, convention=convention, reference=reference
    )
    top = math.log(8) if reference == "log_length" else math.log(math.factorial(8)) / 8
    expected = by_loops(entropy, threshold, margin, top, convention)
    assert float(found) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("convention", PENALTIES)
def test_zero_inside_the_margin_and_a_jump_at_it(convention):
    top = math.log(8)
    threshold = torch.full((3, 4), 0.5, dtype=torch.float64)
    inside = torch.full(SHAPE, (0.5 + 0.19) * top, dtype=torch.float64)
    outside = torch.full(SHAPE, (0.5 + 0.21) * top, dtype=torch.float64)
    assert float(entropy_penalty(inside, threshold, convention=convention)) == 0
    cells = 1 if convention == "jha2025_paper" else SHAPE[1] * SHAPE[3]
    assert float(entropy_penalty(outside, threshold, convention=convention)) == pytest.approx(
        cells * (0.21 * top) ** 2
    )


@pytest.mark.parametrize("convention", PENALTIES)
@pytest.mark.parametrize("place", [0.1, 0.9])
def test_descent_brings_entropy_and_threshold_together(convention, place):
    entropy = torch.full(SHAPE, place * math.log(8), requires_grad=True)
    threshold = torch.full((3, 4), 0.5, requires_grad=True)
    entropy_penalty(entropy, threshold, convention=convention).backward()
    assert entropy.grad is not None
    assert threshold.grad is not None
    above = place > 0.5
    assert bool(((entropy.grad > 0) == above).all())
    moved = threshold.grad if convention == "jha2025_paper" else threshold.grad[:1]
    assert bool(((moved < 0) == above).all())
    if convention == "jha2025_code":  # the other blocks' thresholds are never read
        assert not threshold.grad[1:].any()


def test_the_first_row_is_always_penalised_by_the_code_and_not_by_the_paper():
    length = 128
    seen = torch.arange(1, length + 1, dtype=torch.float64).log()
    entropy = seen.expand(1, 1, 1, length)  # uniform attention under a causal mask
    middle = torch.tensor([[float(seen.mean()) / math.log(length)]], dtype=torch.float64)
    assert float(entropy_penalty(entropy, middle)) == 0
    by_row = entropy_penalty(entropy, middle, convention="jha2025_code")
    assert float(by_row) >= float(seen.mean()) ** 2


def test_the_highest_entropy_of_the_paper_is_out_of_reach():
    for length, known in ((64, 3.205753), (128, 3.8782), (512, 5.2462)):  # reference oracles
        assert highest_entropy(length, "causal_uniform") == pytest.approx(known, abs=5e-5)
        assert highest_entropy(length, "causal_uniform") < highest_entropy(length) - 0.9
    # A head with uniform rows is as high as it can be, and still below a threshold of 1.
    uniform = torch.arange(1, 129, dtype=torch.float64).log().expand(1, 1, 1, 128)
    one = torch.ones(1, 1, dtype=torch.float64)
    assert float(entropy_penalty(uniform, one, margin=0.2)) > 0
    assert float(entropy_penalty(uniform, one, margin=1e-6, reference="causal_uniform")) == 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="give one of jha2025_paper, jha2025_code"):
        entropy_penalty(rows(), thresholds(), convention="paper")
    with pytest.raises(ValueError, match=r"\(block, batch, head, position\) and \(block, head\)"):
        entropy_penalty(rows(), thresholds()[:2])
    with pytest.raises(ValueError, match="margin is -1"):
        entropy_penalty(rows(), thresholds(), margin=-1)
    with pytest.raises(ValueError, match="give one of log_length, causal_uniform"):
        highest_entropy(8, "ln T")
    with pytest.raises(ValueError, match="length is 1"):
        highest_entropy(1)
