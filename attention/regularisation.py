"""A penalty that keeps the entropy of attention heads near thresholds of their own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

REFERENCES = {
    "log_length": "ln T (arXiv 2501.03489, algorithm 1); under a causal mask no head can reach it",
    "causal_uniform": "ln(T!)/T, the mean entropy of uniform attention under a causal mask",
}
PENALTIES = {
    "jha2025_paper": "of each head's mean over rows (arXiv 2501.03489, algorithm 1)",
    "jha2025_code": "of every row, summed over samples and rows, with the first block's thresholds",
}


def highest_entropy(length: int, reference: str = "log_length") -> float:
    """E_max of a sequence of T positions, in nats.

    Parameters
    ----------
    length
        T, at least 2.
    reference
        A key of `REFERENCES`.

    Returns
    -------
    float
        ln T or ln(T!)/T: 4.852 and 3.878 at T = 128.

    Raises
    ------
    ValueError
        If the reference is unknown or the length below 2.
    """
    if reference not in REFERENCES:
        raise ValueError(f"reference is {reference!r}; give one of {', '.join(REFERENCES)}")
    if length < 2:
        raise ValueError(f"length is {length}; give 2 or more")
    if reference == "log_length":
        return math.log(length)
    return math.lgamma(length + 1) / length


def entropy_penalty(
    entropy: Tensor,
    threshold: Tensor,
    *,
    margin: float = 0.2,
    convention: str = "jha2025_paper",
    reference: str = "log_length",
) -> Tensor:
    """Squared distance of entropies from θ E_max where it exceeds γ E_max, averaged over heads.

    Parameters
    ----------
    entropy : float tensor (block, batch, head, position)
        Entropies of attention rows, in nats, with their gradient.
    threshold : float tensor (block, head)
        θ, a share of E_max.
    margin
        γ, a share of E_max: closer to the threshold there is no penalty.
    convention
        `jha2025_paper`: of each head's mean over samples and rows. `jha2025_code`, as published beside
        the paper: of every row, *summed* over samples and rows, so that it grows with their number and
        the first row with its entropy of 0 is penalised as long as θ > γ; and with the thresholds of the
        first block for all. (That code has 1e-9 inside the logarithm, at most 1e-9 T nats, left out.)
    reference
        E_max, a key of `REFERENCES`.

    Returns
    -------
    scalar tensor, nats²
        To be multiplied by λ. It jumps at the margin, from 0 to (γ E_max)².

    Raises
    ------
    ValueError
        If a shape, a name or the margin does not fit.

    Notes
    -----
    arXiv 2501.03489, algorithm 1, and its repository at 728944d. Memory: that of `entropy`.
    """
    if convention not in PENALTIES:
        raise ValueError(f"convention is {convention!r}; give one of {', '.join(PENALTIES)}")
    if entropy.ndim != 4 or threshold.shape != (entropy.shape[0], entropy.shape[2]):
        raise ValueError(
            f"entropy {tuple(entropy.shape)} and threshold {tuple(threshold.shape)}: give "
            "(block, batch, head, position) and (block, head)"
        )
    if margin < 0:
        raise ValueError(f"margin is {margin}; give 0 or more")
    top = highest_entropy(entropy.shape[3], reference)
    if convention == "jha2025_paper":
        return _beyond(entropy.mean(dim=(1, 3)) - threshold * top, margin * top).mean()
    first = threshold[:1, None, :, None]
    return _beyond(entropy - first * top, margin * top).sum(dim=(1, 3)).mean()


def _beyond(deviation: Tensor, margin: float) -> Tensor:
    return torch.where(deviation.abs() > margin, deviation, 0.0).square()
