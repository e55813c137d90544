"""Contexts that are alike because the model predicts alike: kernel, effective number, smoothness."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import entr
from torch import Tensor

from geometry.softmax import probability_blocks
from geometry.spectrum import FloatArray

DIRICHLET_CONVENTIONS = ("sum", "normalised", "relative")


@torch.no_grad()
def bhattacharyya_kernel(
    hidden: Tensor,
    unembedding: Tensor,
    *,
    bias: Tensor | None = None,
    vocab_size: int | None = None,
    softcap: float | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Predictive similarity of contexts: B_ij = Σ_v √(p_i(v) p_j(v)).

    Parameters
    ----------
    hidden : tensor (context, feature)
        Final states, after the final norm.
    unembedding, bias, vocab_size, softcap, chunk
        As `geometry.softmax.probability_blocks`.

    Returns
    -------
    tensor (context, context)
        float64, symmetric, 1 on the diagonal, between 0 (no token in common) and 1 (the same
        prediction); positive semi-definite up to round-off.

    Notes
    -----
    The Bhattacharyya coefficient as a kernel over contexts: Zhang, 2507.19247, Def. 7.3. The squared
    Hellinger distance is 1 − B. Probabilities in float32, sums in float64. Memory: context² float64
    and a few blocks of about a million numbers; time context² · vocabulary.
    """
    count = len(hidden)
    total = torch.zeros(count, count, dtype=torch.float64, device=hidden.device)
    for block in probability_blocks(
        hidden, unembedding, bias=bias, vocab_size=vocab_size, softcap=softcap, chunk=chunk
    ):
        root = block.p.double().sqrt_()
        total.addmm_(root, root.T)
    total = (total + total.T) / 2
    mass = total.diagonal().sqrt()  # each row's own sum of p: 1 but for round-off
    total /= mass[:, None] * mass
    total.fill_diagonal_(1.0) if bool(torch.isfinite(total).all()) else total.fill_(torch.nan)
    return total


def effective_number(kernel: ArrayLike) -> float:
    """How many different predictions there are: exp of the von Neumann entropy of kernel / n.

    Parameters
    ----------
    kernel
        Shape (n, n), symmetric, positive semi-definite, ones on its diagonal.

    Returns
    -------
    float
        1 if all contexts are alike, n if no two have anything in common; NaN if an entry is not finite.

    Raises
    ------
    ValueError
        If it is not a square matrix.

    Notes
    -----
    exp(−Σ λ ln λ) over the eigenvalues of kernel / n: the Vendi score of Friedman & Dieng, 2210.02410,
    eq. 2, here of predictions. Eigenvalues below 0 are round-off and left out. Cost n³.
    """
    array = _square(kernel)
    if not np.isfinite(array).all():
        return float("nan")
    values = np.linalg.eigvalsh(array / len(array)).clip(min=0.0)
    return float(np.exp(entr(values / values.sum()).sum()))


def dirichlet_energy(x: ArrayLike, kernel: ArrayLike, *, convention: str = "relative") -> float:
    """How much a representation varies between contexts that a kernel calls alike.

    Parameters
    ----------
    x
        Representation, shape (n, feature).
    kernel
        Similarity of the same contexts, shape (n, n), symmetric, not negative.
    convention
        `sum`: E = ½ Σ_ij K_ij ‖x_i − x_j‖², in squared units of `x`; grows with n².
        `normalised`: E over its value for a kernel of ones, n Σ_i ‖x_i − x̄‖²: the mean of K over
        pairs, weighted by their squared distance.
        `relative`: `normalised` over the plain mean of K over pairs of different contexts; 1 if
        distance has nothing to do with K, below 1 if contexts that predict alike lie close.

    Returns
    -------
    float
        NaN if `x` does not vary but for rounding, or anything is not finite.

    Raises
    ------
    ValueError
        If shapes do not fit, n is below 2 or the convention is unknown.

    Notes
    -----
    `sum` is the Dirichlet energy of the graph whose weights are K, summed over coordinates, after Zhang,
    2507.19247, eq. 7.6, which is of one coordinate and over the measure of contexts: a mean over pairs
    is `sum` / n². The other two are ours: they leave out the scale of `x` and, the last, how alike
    predictions are on the whole. Cost n² feature; memory n² and a copy of `x`.
    """
    if convention not in DIRICHLET_CONVENTIONS:
        raise ValueError(f"convention {convention!r} is unknown; give {DIRICHLET_CONVENTIONS}")
    weights, points = _square(kernel), np.asarray(x, dtype=np.float64)
    n = len(weights)
    if points.ndim != 2 or len(points) != n or n < 2:
        raise ValueError(
            f"x has shape {points.shape} and the kernel {weights.shape}; give (n, d) and (n, n), n ≥ 2"
        )
    if not (np.isfinite(points).all() and np.isfinite(weights).all()):
        return float("nan")
    # The mean does not matter, and would cost digits.
    size = float(np.abs(points).max(initial=0.0))
    points = points - points.mean(axis=0)
    squares = (points**2).sum(axis=1)
    energy = float(weights.sum(axis=1) @ squares - np.vdot(weights @ points, points))
    if convention == "sum":
        return energy
    spread = n * float(squares.sum())
    rounding = np.finfo(np.float64).eps * n * size
    if spread <= n * n * points.shape[1] * rounding**2:  # what is left of a constant
        return float("nan")
    if convention == "normalised":
        return energy / spread
    # A context is at no distance from itself, so its own weight takes no part in either mean.
    pairs = (weights.sum() - weights.trace()) / (n * (n - 1))
    return energy / spread / pairs if pairs > 0 else float("nan")


def _square(kernel: ArrayLike) -> FloatArray:
    array = np.asarray(kernel, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"kernel has shape {array.shape}; give (n, n)")
    return array
