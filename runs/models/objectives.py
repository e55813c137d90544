"""What post-training minimises: imitation, preference, and reward that a program checks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid


def answer_log_likelihoods(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Log-likelihood of each token of the answers, 0 elsewhere.

    Parameters
    ----------
    logits
        Shape (sequence, position, vocabulary).
    tokens
        Shape (sequence, position).
    mask
        True at tokens of the answer, same shape; position 0 has no prediction and never counts.

    Returns
    -------
    Tensor
        Shape (sequence, position − 1): entry i speaks of token i + 1.
    """
    flat = logits[:, :-1].flatten(0, 1)
    found = -cross_entropy(flat, tokens[:, 1:].flatten(), reduction="none")
    return found.view(tokens.shape[0], -1) * mask[:, 1:]


def imitation_loss(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean surprisal of the answers' tokens, in nats: supervised fine-tuning."""
    return -answer_log_likelihoods(logits, tokens, mask).sum() / mask[:, 1:].sum()


def preference_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float
) -> Tensor:
    """Direct preference optimisation, from log-likelihoods of whole answers.

    Parameters
    ----------
    chosen, rejected, ref_chosen, ref_rejected
        Shape (pair,): of the better and the worse answer, under the model and the frozen reference.
    beta
        How strongly the reference holds.

    Returns
    -------
    Tensor
        Mean of −ln σ(β[(c − c_ref) − (r − r_ref)]); ln 2 where the model is the reference.

    Notes
    -----
    Rafailov et al. 2023 (arXiv 2305.18290) eq. 7; arXiv 2509.23024 eq. 3 reads it as noise-contrastive
    estimation with one negative.
    """
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    return -logsigmoid(beta * margin).mean()


def group_advantages(reward: Tensor) -> Tensor:
    """Reward of each draw against the other draws of its problem.

    Parameters
    ----------
    reward
        Shape (problem, draw).

    Returns
    -------
    Tensor
        Same shape: minus the mean of the problem, divided by its standard deviation; 0 where all draws
        earned the same, which teach nothing.

    Notes
    -----
    Group-relative policy optimisation, Shao et al. 2024 (arXiv 2402.03300) §4.1.2.
    """
    centred = reward - reward.mean(dim=1, keepdim=True)
    spread = reward.std(dim=1, correction=0, keepdim=True)
    return torch.where(spread > 0, centred / spread.clamp_min(1e-12), torch.zeros_like(reward))


def policy_loss(logp: Tensor, mask: Tensor, advantage: Tensor) -> Tensor:
    """Policy gradient of draws that the model itself has just made.

    Parameters
    ----------
    logp
        Shape (sequence, position): log-likelihood of each drawn token, 0 outside of the answers.
    mask
        Same shape: True at drawn tokens.
    advantage
        Shape (sequence,).

    Returns
    -------
    Tensor
        −Σ A log p / number of drawn tokens. One update a batch of draws: the ratio of new to old
        policy that clipping acts on is 1 throughout, and no divergence from a reference is added.
    """
    return -(advantage[:, None] * logp).sum() / mask.sum().clamp_min(1)
