"""Row statistics of attention from queries and keys, a few query rows at a time.

No (position, position) matrix is made. Every row is centred by the mean of its visible logits inside
the matrix product that makes them: keys lose their mean, and one more feature holds −q·(mean visible
key). A centred row gives its norm without cancellation, its largest logit is never below zero, and
an entry set to zero changes neither; so hidden keys are zero rows of k and of v, and cost nothing.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import torch
from torch import Tensor

from attention.finishing import finish
from attention.operands import Operands, Rule, check, operands

_EXP_SAFE = 60.0  # exp(60) times any row length and value stays far below the float32 maximum
_ROWS = 128  # query rows a block: more would compute more of the hidden triangle
_GROUP = 2**21  # scores a block to aim at by taking several samples at once
_BLOCK = 2**22  # scores a block at most, by taking fewer rows


def row_statistics(
    q: Tensor,
    k: Tensor,
    *,
    scaling: float,
    key_mask: Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """Statistics of each attention row over its visible keys.

    Key j is visible to query i if it is not padding and, when causal, i − window < j ≤ i. With p the
    softmax of the visible logits s:

    ====================  ======================================================================
    entropy               −Σ p ln p, nats
    normalised_entropy    entropy / ln(visible); NaN where visible is 1
    max_logit             max s
    log_normaliser        ln Σ exp s, so that p_ij = exp(s_ij − log_normaliser)
    top_mass              max p
    effective_support     exp(entropy), keys
    row_norm              ‖s − mean s‖₂, the r of `attention.entropy.entropy_bounds`
    first_key             p at the first key of the sample that is not padding; 0 if a window hides it
    previous_key          p at key i − 1; NaN where that key is not visible
    distance              Σ p (i − j), tokens
    visible               number of visible keys
    lower_bound           least entropy that this row_norm and number of keys allow, nats
    upper_bound           greatest
    bound_share           (entropy − lower) / (upper − lower); NaN where they are 1e-3 nats apart or less
    ====================  ======================================================================

    Parameters
    ----------
    q : float tensor (batch, head, position, feature)
        After rotary embedding and query-key norms.
    k : float tensor (batch, kv_head, position, feature)
        head must be a multiple of kv_head; query head h reads key head h // (head / kv_head).
    scaling
        Factor on q·k.
    key_mask : bool tensor (batch, position), optional
        False at padding, wherever it is. A padded query has NaN in every statistic.
    causal
        Whether query i sees no key after i.
    window
        Sliding window: query i sees keys i − window + 1 … i. Needs `causal`.
    softcap
        c of c·tanh(s/c), applied to scaled logits before the bias and the mask.
    bias : tensor, optional
        Finite, added to the logits: (head,) are ALiBi slopes m, adding −m (i − j) if causal and
        −m |i − j| if not; anything else must broadcast to (batch, head, position, position).
    sink : tensor (head,), optional
        A learned logit that takes part in the softmax as one more outcome without a value. Its mass is
        in `log_normaliser` and in `entropy`, `normalised_entropy` divides by ln(visible + 1), and the
        bounds are those of visible + 1 logits; the other statistics are of keys alone, so `distance`
        gives it no tokens.
    chunk
        Query rows a block; by default 128, fewer if head·128·position exceeds 4 M. Changes rounding
        only.

    Returns
    -------
    dict of float32 tensors (batch, head, position)

    Raises
    ------
    ValueError
        Shapes that do not fit, a window that is not causal, a chunk or window below 1.

    Notes
    -----
    H = ln Σ exp(s) − E_p[s] (Jha & Reagen 2025, arXiv 2501.03489, Eq. 9–10). Computed in float32 from
    upcast input, in float64 if the input is. Rounding below zero becomes 0; below −1e-3 becomes NaN.
    A NaN in a key is a NaN in every row of its head and sample. Memory: two blocks of
    (head, chunk, position), of several samples if short, and one copy of q and k of those samples.
    No gradients.
    """
    rule = Rule(scaling, causal, window, softcap, bias, sink)
    return _stream(q, k, None, key_mask, rule, chunk)[1]


def attend_with_statistics(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scaling: float,
    key_mask: Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Attention output and `row_statistics`, from the same probabilities.

    Parameters
    ----------
    v : float tensor (batch, kv_head, position, value_feature)
    q, k, scaling, key_mask, causal, window, softcap, bias, sink, chunk
        See `row_statistics`.

    Returns
    -------
    output : tensor (batch, head, position, value_feature), dtype of q
        Zero at padded queries.
    statistics : dict of float32 tensors (batch, head, position)

    Raises
    ------
    ValueError
        As `row_statistics`, and a v whose shape is not that of k up to the last dimension.

    Notes
    -----
    Memory as `row_statistics`, a copy of v of those samples, and the output.
    """
    rule = Rule(scaling, causal, window, softcap, bias, sink)
    output, statistics = _stream(q, k, v, key_mask, rule, chunk)
    return output.to(q.dtype), statistics


def _scores(x: Operands, rule: Rule, rows: slice, keys: slice, out: Tensor) -> Tensor:
    """Write the centred logits of a block into out, hidden ones zero; returns their row means.

    out is (batch, kv_head, group, row, key), the means (batch, kv_head, group, row).
    """
    batch, kv_heads, group, count, width = out.shape
    q = x.q[:, :, :, rows].reshape(batch * kv_heads, group * count, -1)
    k = x.k[:, :, keys].flatten(0, 1)
    torch.bmm(q, k.transpose(1, 2), out=out.view(batch * kv_heads, group * count, width))
    if x.offset is not None:
        rule.zero_hidden(out, rows.start, keys.start)
        return x.offset[:, :, :, rows]
    if rule.softcap is not None:
        out.div_(rule.softcap).tanh_().mul_(rule.softcap)
    if rule.bias is not None:
        out += _bias(rule, rows, keys, x).view(-1, kv_heads, group, count, width)
    _zero_all_hidden(out, x, rule, rows, keys)
    mean = out.sum(-1, keepdim=True) / x.visible[:, None, None, rows, None]
    out -= mean
    _zero_all_hidden(out, x, rule, rows, keys)
    return mean.squeeze(-1)


def _zero_all_hidden(s: Tensor, x: Operands, rule: Rule, rows: slice, keys: slice) -> None:
    if x.padding is not None:
        s.masked_fill_(x.padding[:, None, None, None, keys], 0)
    rule.zero_hidden(s, rows.start, keys.start)


def _bias(rule: Rule, rows: slice, keys: slice, x: Operands) -> Tensor:
    """Bias of a block, broadcastable to (batch, head, row, key) with all heads there."""
    assert rule.bias is not None
    heads, length = x.q.shape[1] * x.q.shape[2], x.q.shape[3]
    bias = rule.bias.to(x.q.dtype)
    if bias.ndim == 1:
        place = torch.arange(length, device=bias.device)
        apart = (place[rows, None] - place[keys]).abs()
        return -bias[None, :, None, None] * apart
    bias = bias.broadcast_to(x.q.shape[0], heads, length, length)
    return bias[:, :, rows, keys]


_KEPT = threading.local()


def _scratch(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Room for a block, kept for the next call: new pages cost as much as the arithmetic on them."""
    kept = getattr(_KEPT, "scratch", None)
    if kept is None or kept.dtype != dtype or kept.device != device or len(kept) < size:
        with torch.inference_mode(False):  # else it could not be used outside of it
            kept = _KEPT.scratch = torch.empty(size, dtype=dtype, device=device)
    found: Tensor = kept[:size]
    return found


@torch.no_grad()
def _stream(
    q: Tensor, k: Tensor, v: Tensor | None, mask: Tensor | None, rule: Rule, chunk: int | None
) -> tuple[Tensor, dict[str, Tensor]]:
    check(q, k, v, mask, rule, chunk)
    batch, heads, length, _ = q.shape
    rows = min(length, chunk or max(16, min(_ROWS, _BLOCK // (heads * length))))
    samples = min(batch, max(1, _GROUP // (heads * rows * length)))
    dtype = torch.promote_types(q.dtype, torch.float32)
    scratch = _scratch(2 * samples * heads * rows * length, dtype, q.device).view(2, -1)
    parts = []
    for start in range(0, batch, samples):
        some = slice(start, start + samples)
        bias = rule.bias
        if bias is not None and bias.ndim == 4 and len(bias) > 1:
            bias = bias[some]
        part = replace(rule, bias=bias)
        x = operands(
            q[some],
            k[some],
            None if v is None else v[some],
            None if mask is None else mask[some],
            part,
        )
        parts.append(_rows(x, part, rows, scratch))
    names = parts[0][1]
    return torch.cat([output for output, _ in parts]), {
        name: torch.cat([statistics[name] for _, statistics in parts]) for name in names
    }


_MEASURED = (
    "entropy",
    "max_logit",
    "log_normaliser",
    "top_mass",
    "row_norm",
    "first_key",
    "previous_key",
    "distance",
)


def _rows(x: Operands, rule: Rule, rows: int, scratch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output and statistics of all rows of some samples, block by block."""
    shape = x.q.shape[:-1]
    length = shape[-1]
    output = x.q.new_empty(*shape, x.values.shape[-1] - 3)
    names = _MEASURED if rule.sink is None else (*_MEASURED, "sink_gap")
    found = {name: x.q.new_empty(shape) for name in names}
    for start in range(0, length, rows):
        here = slice(start, min(start + rows, length))
        keys = slice(*rule.keys(here.start, here.stop, length))
        block = (*shape[:3], here.stop - here.start, keys.stop - keys.start)
        s, p = (flat[: torch.Size(block).numel()].view(block) for flat in scratch)
        values, rest = _block(x, rule, here, keys, s, p)
        output[:, :, :, here] = values
        for name, value in rest.items():
            found[name][:, :, :, here] = value
    if x.padding is not None:
        output.masked_fill_(x.padding[:, None, None, :, None], 0)
    return output.flatten(1, 2), finish(found, x.visible, x.padding, rule)


def _block(
    x: Operands, rule: Rule, rows: slice, keys: slice, s: Tensor, p: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Output and statistics of one block of rows; s and p are scratch of its shape."""
    mean = _scores(x, rule, rows, keys, s)
    norm = torch.linalg.vector_norm(s, dim=-1)
    top = s.amax(-1)
    lead, slot = top, None
    if rule.sink is not None:
        slot = rule.sink.to(s).view(1, *s.shape[1:3], 1) - mean
        lead = torch.maximum(top, slot)
    # Only rows that need it: elsewhere a hidden key stays at s = 0 and adds nothing to Σ p s.
    shift = torch.where(lead > _EXP_SAFE, lead, 0)
    if bool(shift.any()):
        s -= shift[..., None]
    torch.exp(s, out=p)
    rule.zero_hidden(p, rows.start, keys.start)
    groups = s.shape[0] * s.shape[1]
    values = x.values[:, :, keys].flatten(0, 1)
    sums = torch.bmm(p.view(groups, -1, p.shape[-1]), values).view(*p.shape[:-1], -1)
    total = sums[..., -1].clone()
    energy = s.mul_(p).sum(-1)
    mass = total
    if slot is not None:
        extra = (slot - shift).exp()
        energy = energy + extra * (slot - shift)
        total = total + extra
    sums /= total[..., None]
    place = torch.arange(rows.start, rows.stop, device=s.device)
    more = {} if slot is None else {"sink_gap": slot}
    return sums[..., :-3], more | {
        "entropy": total.log() - energy / total,
        "max_logit": top + mean,
        "log_normaliser": total.log() + shift + mean,
        "top_mass": (top - shift).exp() / total,
        "row_norm": norm,
        "first_key": sums[..., -2],
        "previous_key": _previous(p, rows.start, keys.start) / total,
        "distance": mass / total * place - sums[..., -3],
    }


def _previous(p: Tensor, start: int, low: int) -> Tensor:
    """Weight on the key before each query, 0 at position 0; p is a block from (start, low)."""
    rows = p.shape[-2]
    first = max(0, low + 1 - start)  # rows whose previous key is left of the block
    column = start + first - 1 - low
    weights = p[..., first:, column : column + rows - first].diagonal(dim1=-2, dim2=-1)
    return torch.nn.functional.pad(weights, (first, 0))
