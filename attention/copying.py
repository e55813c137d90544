"""Whether a head copies: eigenvalues of its path from tokens to logits."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def copying_eigenvalues(value: Tensor, output: Tensor, overlap: Tensor) -> Tensor:
    """Eigenvalues, other than zeros, of a head's map from source token to logits, W_E W_V W_O W_U.

    Parameters
    ----------
    value : tensor (head, feature, head_feature)
        W_V: from the residual stream to values, row vectors from the left.
    output : tensor (head, head_feature, feature)
        W_O: from values back to the residual stream.
    overlap : tensor (feature, feature)
        W_U W_E: unembedding (feature, token) times embedding (token, feature).

    Returns
    -------
    complex128 tensor (head, head_feature)

    Raises
    ------
    ValueError
        If shapes do not fit.

    Notes
    -----
    The (token, token) matrix W_E W_V W_O W_U of the OV circuit (Elhage et al. 2021, A Mathematical
    Framework for Transformer Circuits) has rank head_feature, and a product's eigenvalues other than 0 do
    not change when its factors go round: those of W_O (W_U W_E) W_V, (head_feature, head_feature), are
    all there are. Float64; memory feature² and head · feature · head_feature numbers.
    """
    heads, feature, width = value.shape
    if output.shape != (heads, width, feature) or overlap.shape != (feature, feature):
        raise ValueError(
            f"value {tuple(value.shape)}, output {tuple(output.shape)} and overlap "
            f"{tuple(overlap.shape)} must be (head, d, d_head), (head, d_head, d) and (d, d)"
        )
    small = output.double() @ overlap.double() @ value.double()
    found: Tensor = torch.linalg.eigvals(small)
    return found


@torch.no_grad()
def copying_score(eigenvalues: Tensor) -> Tensor:
    """Σ Re λ / Σ |λ| of each head: 1 if all tokens raise their own logits, −1 if they lower them.

    Parameters
    ----------
    eigenvalues : complex tensor (…, head_feature)

    Returns
    -------
    float64 tensor (…)
        NaN where all are zero.

    Notes
    -----
    Elhage et al. 2021, "Σ λ / Σ |λ|": the eigenvalues of a real matrix come in conjugate pairs, so their
    sum is real.
    """
    return eigenvalues.real.sum(-1) / eigenvalues.abs().sum(-1)
