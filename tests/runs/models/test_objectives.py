"""Losses of post-training against closed forms and finite differences."""

import math

import pytest
import torch

from runs.models.objectives import (
    answer_log_likelihoods,
    group_advantages,
    imitation_loss,
    policy_loss,
    preference_loss,
)


def test_only_the_answer_counts() -> None:
    tokens = torch.tensor([[1, 2, 3, 0], [2, 3, 0, 0]])
    mask = torch.tensor([[False, False, True, True], [False, True, True, False]])
    logits = torch.zeros(2, 4, 5)
    assert imitation_loss(logits, tokens, mask).item() == pytest.approx(math.log(5))
    sure = torch.full((2, 4, 5), -1e4)
    sure[0, 1, 3] = sure[0, 2, 0] = sure[1, 0, 3] = sure[1, 1, 0] = 0.0
    assert imitation_loss(sure, tokens, mask).item() == pytest.approx(0.0, abs=1e-6)
    found = answer_log_likelihoods(torch.randn(2, 4, 5), tokens, mask)
    assert ((found != 0) == mask[:, 1:]).all()


def test_preference_loss_is_ln_two_at_the_reference() -> None:
    ones, zeros = torch.randn(6), torch.randn(6)
    assert preference_loss(ones, zeros, ones, zeros, beta=0.3).item() == pytest.approx(math.log(2))
    better = preference_loss(ones + 2, zeros - 1, ones, zeros, beta=0.3)
    assert better.item() == pytest.approx(math.log1p(math.exp(-0.9)), rel=1e-5)


def test_advantages_are_standardised_within_a_problem() -> None:
    reward = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    found = group_advantages(reward)
    assert found[0].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert found[0].std(correction=0).item() == pytest.approx(1.0)
    assert (found[1] == 0).all()


def test_policy_gradient_is_that_of_the_expected_reward() -> None:
    """With every action drawn as often as its probability says, the gradient is exact."""
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    chance = logits.softmax(0)
    (chance * reward).sum().backward(retain_graph=True)
    wanted = logits.grad.clone()
    logits.grad = None
    mask = torch.ones(3, 1, dtype=torch.bool)
    weights = 3 * chance.detach() * (reward - (chance.detach() * reward).sum())
    policy_loss(logits.log_softmax(0)[:, None], mask, weights).backward()
    torch.testing.assert_close(-logits.grad, wanted)
