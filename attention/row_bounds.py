"""What the logits of a row allow its entropy to be, and where between the two it lies."""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST = 1e4  # exp(−g) is 0 long before; inf · 0 would be NaN
_GAP = 1e-3  # nats; the rounding of a float32 entropy near uniform, 1e-6, is 0.1 % of it


def row_bounds(row_norm: Tensor, outcomes: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest entropy of rows with a given centred norm.

    Parameters
    ----------
    row_norm : float tensor (…)
        ‖s − mean s‖₂ over all outcomes of the softmax.
    outcomes : float tensor (…)
        How many there are, 1 or more: visible keys, and a learned sink if there is one.

    Returns
    -------
    lower, upper : tensors (…) of the dtype of `row_norm`
        Nats; both 0 at one outcome, equal at two, NaN where an argument is.

    Notes
    -----
    The formulas are those of `attention.entropy.entropy_bounds`. Costs a dozen tensors of that shape.
    """
    many = outcomes.clamp(min=2)
    others = many - 1
    g = row_norm * (many / others).sqrt()
    b = (-g).exp()
    gb = g.clamp(max=_LARGEST) * b
    lower = (others * b).log1p() + others * gb / (1 + others * b)
    upper = others.log() + (b / others).log1p() + gb / (others + b)
    alone = (outcomes < 2) & ~row_norm.isnan()
    return lower.masked_fill(alone, 0), upper.masked_fill(alone, 0)


def bound_share(entropy: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Where an entropy lies between its bounds: 0 at the lower, 1 at the upper.

    Parameters
    ----------
    entropy, lower, upper : float tensors (…)
        Nats.

    Returns
    -------
    tensor (…)
        Not clipped, so that rounding, or a row beyond its bounds, is seen. NaN where the bounds are
        within 1e-3 nats of each other: with one or two outcomes and for nearly equal logits.

    Notes
    -----
    Numerator and denominator vanish together, like the third power of the logits, so the share carries
    the error of the entropy over the distance of its bounds: with float32 rows of up to 300 keys 1e-6
    nats at logits of 0.3, so 8e-4 at the floor and 1e-4 where the bounds are 0.01 apart.
    """
    gap = upper - lower
    return torch.where(gap > _GAP, (entropy - lower) / gap, torch.nan)


def norm_with_sink(row_norm: Tensor, gap: Tensor, visible: Tensor) -> Tensor:
    """Centred norm of n logits and one more.

    Parameters
    ----------
    row_norm : float tensor (…)
        ‖s − mean s‖₂ of the n logits.
    gap : float tensor (…)
        The further logit less the mean of the others.
    visible : float tensor (…)
        n.

    Returns
    -------
    tensor (…)
        √(row_norm² + gap² n / (n + 1)).
    """
    return torch.hypot(row_norm, gap * (visible / (visible + 1)).sqrt())
