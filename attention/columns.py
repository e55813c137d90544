"""Single attention probabilities and their column sums, from q, k and each row's normaliser.

A second pass after `attention.streaming`: with ln Σ exp s of a row known, p_ij = exp(s_ij − ln Σ exp s)
can be had for any few entries, so what keys receive is summed without a (position, position) matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attention.operands import check_normaliser

_BLOCK = 2**22  # probabilities in memory at a time


@torch.no_grad()
def row_probabilities(
    q: Tensor,
    k: Tensor,
    log_normaliser: Tensor,
    *,
    scaling: float,
    rows: slice,
    keys: slice | Tensor | None = None,
    key_mask: Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
) -> Tensor:
    """Attention of a few queries to all or a few keys.

    Parameters
    ----------
    q, k, scaling, key_mask, causal, window, softcap, bias
        As `attention.streaming.row_statistics`.
    log_normaliser : tensor (batch, head, position)
        Of that function.
    rows
        The queries, with start and stop.
    keys
        The keys: a slice, or an int tensor of positions; all by default.
    sink
        Taken so that the same keywords serve; its mass is in `log_normaliser` already.

    Returns
    -------
    float tensor (batch, head, row, key)
        0 at keys that a query does not see, at padding and at padded queries. In float32, in float64 if q
        is. Memory: a few times the result.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    _check(q, k, log_normaliser)
    dtype = torch.promote_types(q.dtype, torch.float32)
    places = torch.arange(q.shape[2], device=q.device)
    asked, given = places[rows], places if keys is None else places[keys]
    groups = q.shape[1] // k.shape[1]
    wanted = q[:, :, rows].to(dtype) * scaling
    queries = wanted.view(len(q), k.shape[1], groups, *wanted.shape[2:])
    chosen = k[:, :, given].to(dtype)
    s = (queries @ chosen[:, :, None].transpose(-1, -2)).flatten(1, 2)
    if softcap is not None:
        s = softcap * torch.tanh(s / softcap)
    if bias is not None:
        s = s + _bias(bias.to(dtype), q, asked, given)
    apart = asked[:, None] - given
    seen = torch.ones_like(apart, dtype=torch.bool)
    if causal:
        seen &= apart >= 0
    if window is not None:
        seen &= apart < window
    if key_mask is not None:
        real = key_mask.bool()
        seen = seen & real[:, None, asked, None] & real[:, None, None, given]
    p = torch.exp(s - log_normaliser[:, :, rows, None].to(dtype))
    return torch.where(seen, p, 0)


@torch.no_grad()
def column_sums(
    q: Tensor,
    k: Tensor,
    log_normaliser: Tensor,
    *,
    scaling: float,
    keys: Tensor | None = None,
    stop: int | None = None,
    key_mask: Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """What keys receive: Σ_i p_ik over the queries.

    Parameters
    ----------
    q, k, scaling, key_mask, causal, window, softcap, bias, sink
        As `row_probabilities`.
    log_normaliser : tensor (batch, head, position)
        Of `attention.streaming.row_statistics`.
    keys : int tensor (key,), optional
        Positions of the keys wanted; all by default.
    stop
        Sum over the first `stop` queries only: under a causal mask, what a text cut there gives.
    chunk
        Queries at a time; by default as many as make 4 M probabilities. Changes rounding only.

    Returns
    -------
    float64 tensor (batch, head, key)
        float32 on devices without float64. Over all keys they sum to the number of real queries, less
        the mass of a learned sink. A NaN in a real row is a NaN in every key.

    Raises
    ------
    ValueError
        If shapes do not fit, or chunk is below 1.

    Notes
    -----
    The sums behind Gu et al. 2025 (arXiv 2410.10781), whose code stores every matrix. Costs the product
    of q and k once more and holds one chunk: batch · head · chunk · key numbers.
    """
    _check(q, k, log_normaliser)
    batch, heads, length, _ = q.shape
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk} must be at least 1, or None for the default")
    width = length if keys is None else len(keys)
    size = chunk or max(1, _BLOCK // max(1, batch * heads * width))
    exact = torch.float32 if q.device.type == "mps" else torch.float64
    total = q.new_zeros(batch, heads, width, dtype=exact)
    end = length if stop is None else min(stop, length)
    for start in range(0, end, size):
        rows = slice(start, min(start + size, end))
        # No query before `rows.stop` sees a later key.
        which: slice | Tensor = slice(0, rows.stop if causal else length) if keys is None else keys
        part = row_probabilities(
            q, k, log_normaliser, scaling=scaling, rows=rows, keys=which, key_mask=key_mask,
            causal=causal, window=window, softcap=softcap, bias=bias, sink=sink,
        )  # fmt: skip
        total[..., : part.shape[-1]] += part.sum(-2, dtype=exact)
    return total


def _bias(bias: Tensor, q: Tensor, rows: Tensor, keys: Tensor) -> Tensor:
    """Bias of a block (batch or 1, head, row, key)."""
    if bias.ndim == 1:
        return -bias[None, :, None, None] * (rows[:, None] - keys).abs()
    whole = bias.broadcast_to(q.shape[0], q.shape[1], q.shape[2], q.shape[2])
    return whole[:, :, rows[:, None], keys]


def _check(q: Tensor, k: Tensor, log_normaliser: Tensor) -> None:
    fits = q.ndim == k.ndim == 4 and q.shape[1] % k.shape[1] == 0
    if not fits or (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]):
        raise ValueError(
            f"q {tuple(q.shape)} and k {tuple(k.shape)} must be (batch, head, position, feature), alike "
            "but for the heads"
        )
    check_normaliser(q, log_normaliser)
