"""Row statistics of causal attention from one call of a fused kernel, for long contexts.

The entropy of a row is its log-sum-exp less its mean logit, and a mean logit is the logit of the mean
key: E_p[s] = q·E_p[k]. So attention whose values are the keys, positions and a mark on the first key
gives every mean that is needed; one more key column, −1e30 at padding, hides it without a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attention.centred_norm import causal_row_norms
from attention.finishing import finish
from attention.operands import Rule, centre_keys, check, landmarks, real_keys

_HIDDEN = -1e30  # exp of it is 0, and sums of it stay finite
_PIECE = 2**22  # elements of queries at once: 16 MB in float32
_STEP = 4  # widths the kernels like
_MARGIN, _FLOOR, _WIDE = 3.0, 32.0, 8.0  # of `entropy_error_bound`, measured


def fused_statistics(
    q: Tensor,
    k: Tensor,
    *,
    scaling: float,
    key_mask: Tensor | None = None,
    window: int | None = None,
    tolerance: float = 1e-4,
) -> dict[str, Tensor]:
    """`attention.streaming.row_statistics` of causal attention, for long contexts.

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
    window
        Only one that hides nothing (at least the length) is accepted.
    tolerance
        Largest `entropy_error_bound` to accept, nats.

    Returns
    -------
    dict of float32 tensors (batch, head, position)
        The keys of `row_statistics`. `max_logit`, `log_normaliser` and `top_mass` are NaN: fused kernels
        keep no maximum, and their keys are centred.

    Raises
    ------
    ValueError
        Shapes that do not fit, a window that hides keys, a device or dtype without a kernel, an error
        bound above `tolerance` or not finite. `usable` tells beforehand.

    Notes
    -----
    H = lse − E_p[s] (Jha & Reagen 2025, arXiv 2501.03489, Eq. 9–10). Computed in float32 from upcast
    input, in float64 if the input is (CPU). Rounding below zero becomes 0; below −1e-3 becomes NaN.
    The CUDA branch follows the operator's signature and has not been run.

    Memory is linear in length: the result, and for the heads of one piece (16 MB of queries, at least
    one kv_head and its group) a copy of queries and one of the output, feature + 4 wide, and one of
    keys a kv_head. No gradients.
    """
    rule = Rule(scaling, True, window, None, None, None)
    return _fused(q, k, None, key_mask, rule, tolerance)[1]


def attend_with_fused_statistics(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scaling: float,
    key_mask: Tensor | None = None,
    window: int | None = None,
    tolerance: float = 1e-4,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Attention output and `fused_statistics`, from the same call.

    Parameters
    ----------
    v : float tensor (batch, kv_head, position, value_feature)
    q, k, scaling, key_mask, window, tolerance
        See `fused_statistics`.

    Returns
    -------
    output : tensor (batch, head, position, value_feature), dtype of q
        Zero at padded queries.
    statistics : dict of float32 tensors (batch, head, position)

    Raises
    ------
    ValueError
        As `fused_statistics`, and a v whose shape is not that of k up to the last dimension.

    Notes
    -----
    Memory as `fused_statistics` with copies feature + value_feature + 4 wide. A value that is not
    finite also spoils the statistics of its head and sample.
    """
    rule = Rule(scaling, True, window, None, None, None)
    output, statistics = _fused(q, k, v, key_mask, rule, tolerance)
    return output, statistics


def usable(
    q: Tensor,
    k: Tensor,
    *,
    scaling: float,
    key_mask: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
    causal: bool = True,
    tolerance: float = 1e-4,
) -> bool:
    """Whether the fused form applies and its rounding error is small enough.

    Parameters
    ----------
    q, k, scaling, key_mask, window, softcap, bias, sink, causal
        As `attention.streaming.row_statistics` takes them.
    tolerance
        Largest `entropy_error_bound` to accept, nats.

    Returns
    -------
    bool
        False for anything but plain causal attention, where no kernel is known for the device and
        dtype, and where q or k is not finite. Reads q and k once.
    """
    plain = causal and softcap is None and bias is None and sink is None
    rule = Rule(scaling, causal, window, softcap, bias, sink)
    return plain and _refusal(q, k, key_mask, rule, tolerance) is None


@torch.no_grad()
def entropy_error_bound(
    q: Tensor, k: Tensor, *, scaling: float, key_mask: Tensor | None = None
) -> float:
    """Bound on the rounding error of a fused entropy, before it is computed.

    Parameters
    ----------
    q, k, scaling, key_mask
        See `fused_statistics`.

    Returns
    -------
    float
        Nats, the largest of all heads and samples; NaN or inf if q or k is not finite.

    Notes
    -----
    With logits off by δ, lse − E_p[s] is off by E_p[δ] − Cov_p(s, δ), at most max|δ| (1 + std_p s); the
    standard deviation is at most about 1 + ½ ln n, whatever the logits. Rounding makes |δ| about
    ε M √feature, M = |scaling| max‖q_i‖ max‖k_j − mean k‖ (independent roundings); exp and sums over
    keys add a constant. Hence, with ε = 2⁻²³ (2⁻⁵² in float64),

        3 ε (1 + ½ ln n) (32 + (1 + √feature / 8) M).

    Its numbers are fitted to the error against float64 on a CPU: of 6000 draws of eight kinds (the
    structured ones with 5 % noise on their keys) at n ≤ 1500 the largest was 0.26 of it, 0.05 for
    Gaussian q and k of 64 or more; a search for the worst, one feature far larger than the others,
    found 0.57. Not covered: hundreds of keys equal to 1 % or better beside one that takes almost all of
    the mass, whose roundings all go one way; up to 1.2e-4 nats were seen there, 1.7 times the bound.
    Memory: one copy of k and the norms.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    padding, real = real_keys(key_mask, q, dtype)
    keys = k.to(dtype, copy=True)
    centre_keys(keys, k.shape[-1], padding, real)
    longest = torch.linalg.vector_norm(keys, dim=-1).amax(-1)
    queries = torch.linalg.vector_norm(q, dim=-1, dtype=dtype)
    if padding is not None:
        queries = queries.masked_fill(padding[:, None], 0)
    heads = queries.view(len(q), k.shape[1], -1).amax(-1)
    size = abs(scaling) * float((heads * longest).max())
    spread = 1 + 0.5 * math.log(q.shape[2])
    slope = 1 + math.sqrt(q.shape[3]) / _WIDE
    return _MARGIN * torch.finfo(dtype).eps * spread * (_FLOOR + slope * size)


def _refusal(q: Tensor, k: Tensor, mask: Tensor | None, rule: Rule, tolerance: float) -> str | None:
    """Why the fused form is not to be had, in one line; None if it is."""
    if rule.window is not None and rule.window < q.shape[2]:
        return f"window={rule.window} hides keys, which the fused form cannot"
    double = torch.promote_types(q.dtype, torch.float32) == torch.float64
    if q.device.type not in ("cpu", "cuda") or (double and q.device.type == "cuda"):
        return f"no fused kernel with a log-sum-exp is known for {q.dtype} on {q.device.type}"
    bound = entropy_error_bound(q, k, scaling=rule.scaling, key_mask=mask)
    if not bound <= tolerance:
        return f"rounding may reach {bound:.1e} nats, tolerance={tolerance:.1e}"
    return None


_MEASURED = ("entropy", "row_norm", "first_key", "previous_key", "distance")


@torch.no_grad()
def _fused(
    q: Tensor, k: Tensor, v: Tensor | None, mask: Tensor | None, rule: Rule, tolerance: float
) -> tuple[Tensor, dict[str, Tensor]]:
    check(q, k, v, mask, rule, None)
    if refusal := _refusal(q, k, mask, rule, tolerance):
        raise ValueError(f"{refusal}; use attention.streaming")
    batch, kv_heads, length, features = k.shape
    grouped = q.view(batch, kv_heads, -1, length, features)
    padding, real = real_keys(mask, q, torch.promote_types(q.dtype, torch.float32))
    visible = rule.band_sum(real).clamp(min=1)[..., 0]
    value_features = 0 if v is None else v.shape[-1]
    output = q.new_empty(*grouped.shape[:-1], value_features)
    found = {name: real.new_empty(grouped.shape[:-1]) for name in _MEASURED}
    width = features + value_features
    heads = max(1, _PIECE // (grouped.shape[2] * length * width))
    for sample in range(batch):
        one = slice(sample, sample + 1)
        for start in range(0, kv_heads, heads):
            some = (sample, slice(start, start + heads))
            keys = _keys(
                k[one, some[1]],
                None if v is None else v[one, some[1]],
                None if padding is None else padding[one],
                real[one],
            )
            values, statistics = _piece(grouped[some], keys, features, visible[sample], rule)
            output[some] = values[..., :value_features]
            for name, value in statistics.items():
                found[name][some] = value
    if padding is not None:
        output.masked_fill_(padding[:, None, None, :, None], 0)
    for name in ("max_logit", "log_normaliser", "top_mass"):  # of logits that are not centred
        found[name] = torch.full_like(found["entropy"], torch.nan)
    return output.flatten(1, 2), finish(found, visible, padding, rule)


def _keys(k: Tensor, v: Tensor | None, padding: Tensor | None, real: Tensor) -> Tensor:
    """Keys and values in one, (kv_head, position, width) of one sample.

    Columns: centred key, position, 1 at the first real key, −1e30 at padding, value, zeros. Queries are
    zero beside the key and 1 at the −1e30, so the same columns serve on both sides of the kernel.
    """
    features = k.shape[-1]
    used = features + 3 + (0 if v is None else v.shape[-1])
    keys = k.new_zeros(*k.shape[:-1], -(-used // _STEP) * _STEP, dtype=real.dtype)
    keys[..., :features] = k
    centre_keys(keys, features, padding, real)
    keys[..., features : features + 2] = landmarks(real)[:, None]
    if v is not None:
        keys[..., features + 3 : used] = v
    if padding is not None:
        keys[..., features:].masked_fill_(padding[:, None, :, None], 0)
        keys[..., features + 2].masked_fill_(padding[:, None], _HIDDEN)
    return keys[0]


def _piece(
    q: Tensor, keys: Tensor, features: int, visible: Tensor, rule: Rule
) -> tuple[Tensor, dict[str, Tensor]]:
    """Values and statistics of some heads of a sample; q is (kv_head, group, position, feature)."""
    queries = keys.new_zeros(*q.shape[:-1], keys.shape[-1])
    scaled = queries[..., :features]
    scaled.copy_(q)
    scaled *= rule.scaling
    queries[..., features + 2] = 1
    # Heads of a group share their keys by a stride of zero.
    shared = keys[:, None].expand(-1, q.shape[1], -1, -1)
    means, lse = _KERNELS[q.device.type](queries, shared)
    place = torch.arange(q.shape[2], device=q.device)
    before = torch.linalg.vecdot(scaled[:, :, 1:], shared[:, :, :-1, :features])
    previous = torch.nn.functional.pad((before - lse[..., 1:]).exp(), (1, 0))
    return means[..., features + 3 :], {
        "entropy": lse - torch.linalg.vecdot(scaled, means[..., :features]),
        "row_norm": causal_row_norms(scaled, keys[..., :features], visible),
        "first_key": means[..., features + 1],
        "previous_key": previous,
        "distance": place - means[..., features],
    }


def _on_cpu(q: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output, lse = flash(q, keys, keys, 0.0, True, scale=1.0)
    return output, lse


def _on_cuda(q: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    output, lse, *_ = efficient(q, keys, keys, None, True, 0.0, True, scale=1.0)
    return output, lse[..., : q.shape[2]]  # the kernel rounds the length up


_KERNELS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "cpu": _on_cpu,
    "cuda": _on_cuda,
}
