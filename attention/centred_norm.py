"""Norm of each row of causal logits about its mean, without the rows.

Σ_j s_ij and Σ_j s_ij² are q·Σ k_j and qᵀ (Σ k_j k_jᵀ) q: keys of earlier blocks enter as one vector and
one (feature, feature) matrix, only the block on the diagonal is multiplied out.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 64  # query rows a block: about the head size, where both halves of the work are equal


def causal_row_norms(q: Tensor, k: Tensor, visible: Tensor) -> Tensor:
    """‖s_i − mean s_i‖₂ over the keys that query i sees.

    Parameters
    ----------
    q : float tensor (kv_head, group, position, feature)
        Times the scaling.
    k : float tensor (kv_head, position, feature)
        Zero at padding. Best with a mean near zero, since a common shift cancels only here.
    visible : float tensor (position,)
        Real keys at or before each position, at least 1.

    Returns
    -------
    float64 tensor (kv_head, group, position)

    Notes
    -----
    The difference of sums loses the square of ‖q‖‖k‖√n / norm, so all is float64: relative error about
    1e-16 of that square, below float32 rounding until the ratio is 1e4. Time
    O(position · feature · (feature + 64)); memory O(head · 64 · feature + kv_head · feature²).
    """
    kv_heads, group, length, features = q.shape
    gram = k.new_zeros(kv_heads, features, features, dtype=torch.float64)
    total = k.new_zeros(kv_heads, features, 1, dtype=torch.float64)
    norms = q.new_empty(kv_heads, group, length, dtype=torch.float64)
    for start in range(0, length, _ROWS):
        rows = slice(start, min(start + _ROWS, length))
        queries, keys = q[:, :, rows].double().flatten(1, 2), k[:, rows].double()
        s = queries @ keys.mT
        s.view(kv_heads, group, -1, keys.shape[1]).tril_()
        squares = torch.linalg.vecdot(s, s) + torch.linalg.vecdot(queries @ gram, queries)
        sums = s.sum(-1) + (queries @ total).squeeze(-1)
        squares, sums = (x.view(kv_heads, group, -1) for x in (squares, sums))
        norms[:, :, rows] = (squares - sums.square() / visible[rows]).clamp(min=0).sqrt()
        gram += keys.mT @ keys
        total += keys.sum(-2)[..., None]
    return norms
