"""Attention at fixed distances behind each query, without a (position, position) matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attention.operands import Rule, check, check_normaliser


@torch.no_grad()
def offset_mass(
    q: Tensor,
    k: Tensor,
    log_normaliser: Tensor,
    offsets: Sequence[int],
    *,
    scaling: float,
    key_mask: Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
) -> Tensor:
    """Probability that query i gives to key i − Δ, for a few Δ.

    Parameters
    ----------
    q, k : float tensor (batch, head or kv_head, position, feature)
        As `attention.streaming.row_statistics` takes them.
    log_normaliser : float tensor (batch, head, position)
        Of that function, under the same rule.
    offsets
        Distances Δ ≥ 0 in tokens; 1 is the previous token.
    scaling, key_mask, causal, window, softcap, bias, sink
        See `row_statistics`. A sink is in the normaliser already.

    Returns
    -------
    float32 tensor (batch, head, position, offset)
        float64 if q is. NaN where key i − Δ is not visible to query i: before the first, padding, or
        beyond the window; and at padded queries.

    Raises
    ------
    ValueError
        A negative offset, a normaliser of another shape, or what `row_statistics` refuses.

    Notes
    -----
    p_ij = exp(s_ij − ln Σ exp s): one product of feature length a query and offset, so time and memory
    are (batch, head, position, feature), once at a time; a diagonal of previous-token, duplicate-token or
    induction heads costs what its query costs. No gradients.
    """
    rule = Rule(scaling, causal, window, softcap, bias, sink)
    check(q, k, None, key_mask, rule, None)
    check_normaliser(q, log_normaliser)
    batch, heads, length, _ = q.shape
    if any(offset < 0 for offset in offsets):
        raise ValueError(f"offsets {tuple(offsets)} must be 0 or more")
    dtype = torch.promote_types(q.dtype, torch.float32)
    grouped = q.view(batch, k.shape[1], -1, length, q.shape[-1])
    found = q.new_full((batch, heads, length, len(offsets)), torch.nan, dtype=dtype)
    for column, offset in enumerate(offsets):
        if offset >= length or (window is not None and offset >= window):
            continue
        later = grouped[:, :, :, offset:].to(dtype)
        earlier = k[:, :, None, : length - offset].to(dtype)
        scores = ((later * earlier).sum(-1) * scaling).flatten(1, 2)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if bias is not None:
            scores = scores + _bias_at(bias.to(scores), offset, (batch, heads, length))
        mass = torch.exp(scores - log_normaliser[:, :, offset:].to(dtype))
        if key_mask is not None:
            real = key_mask[:, offset:] & key_mask[:, : length - offset]
            mass = mass.masked_fill(~real[:, None], torch.nan)
        found[:, :, offset:, column] = mass
    return found


def _bias_at(bias: Tensor, offset: int, shape: tuple[int, int, int]) -> Tensor:
    """Bias of key i − offset for queries offset …, broadcastable to (batch, head, query)."""
    if bias.ndim == 1:
        return -bias[None, :, None] * offset
    batch, heads, length = shape
    full = bias.broadcast_to(batch, heads, length, length)
    return full.diagonal(-offset, -2, -1)
