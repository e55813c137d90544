"""Row statistics from attention patterns that somebody else has computed."""

from __future__ import annotations

import torch
from torch import Tensor

from attention.row_bounds import bound_share, norm_with_sink, row_bounds


@torch.no_grad()
def pattern_statistics(
    pattern: Tensor, scores: Tensor, *, key_mask: Tensor | None = None, sink: bool = False
) -> dict[str, Tensor]:
    """The statistics of `row_statistics`, from whole matrices.

    Parameters
    ----------
    pattern : tensor (batch, head, position, position)
        Probabilities of keys.
    scores : tensor (batch, head, position, position)
        Logits after scaling, soft cap and bias; hidden keys hold the dtype's minimum, or less than half
        of it, as an additive mask leaves them.
    key_mask : bool tensor (batch, position), optional
        False at padding. A padded query has NaN in every statistic.
    sink
        Whether what a row lacks to 1 is the mass of a learned sink, one outcome more of `entropy`.

    Returns
    -------
    dict of float32 tensors (batch, head, position)
        As `attention.streaming.row_statistics`.

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    Costs several float64 copies of the matrices, 8 · batch · head · position² bytes each: for models
    whose patterns are there anyway, and as an oracle.
    """
    if pattern.shape != scores.shape or pattern.shape[-1] != pattern.shape[-2]:
        raise ValueError(
            f"pattern {tuple(pattern.shape)} and scores {tuple(scores.shape)} must be one "
            "(batch, head, position, position)"
        )
    seen = scores > torch.finfo(scores.dtype).min / 2
    if key_mask is not None:
        seen = seen & key_mask[:, None, None, :]
    p = torch.where(seen, pattern, 0).double()
    s = torch.where(seen, scores, 0).double()
    visible = seen.sum(-1)
    entropy = torch.special.entr(p).sum(-1)
    if sink:
        entropy += torch.special.entr((1 - p.sum(-1)).clamp_min(0))
    outcomes = visible + int(sink)
    place = torch.arange(p.shape[-1], device=p.device, dtype=p.dtype)
    mean = s.sum(-1, keepdim=True) / visible.clamp_min(1)[..., None]
    first = torch.zeros(len(p), dtype=torch.int64, device=p.device)
    if key_mask is not None:
        first = key_mask.long().argmax(-1)
    before = torch.nn.functional.pad(p.diagonal(-1, -2, -1), (1, 0))
    there = torch.nn.functional.pad(seen.diagonal(-1, -2, -1), (1, 0))
    top = torch.where(seen, s, -torch.inf).amax(-1)
    normaliser = top - p.amax(-1).log()
    norm = torch.where(seen, s - mean, 0).square().sum(-1).sqrt()
    whole = norm
    if sink:
        slot = (1 - p.sum(-1)).clamp_min(0).log() + normaliser
        whole = norm_with_sink(norm, slot - mean[..., 0], visible)
    lower, upper = row_bounds(whole, outcomes)
    found = {
        "entropy": entropy,
        "effective_support": entropy.exp(),
        "lower_bound": lower,
        "upper_bound": upper,
        "bound_share": bound_share(entropy, lower, upper),
        "normalised_entropy": torch.where(visible > 1, entropy / outcomes.log(), torch.nan),
        "max_logit": top,
        "log_normaliser": normaliser,
        "top_mass": p.amax(-1),
        "row_norm": norm,
        "first_key": p.gather(-1, first[:, None, None, None].expand(*p.shape[:-1], 1))[..., 0],
        "previous_key": torch.where(there, before, torch.nan),
        "distance": p.sum(-1) * place - (p * place).sum(-1),
        "visible": visible,
    }
    if key_mask is not None:
        real = key_mask[:, None, :].bool()
        found = {name: torch.where(real, value, torch.nan) for name, value in found.items()}
    return {name: value.float() for name, value in found.items()}
