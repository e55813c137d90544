"""Norms of what a head's weights do: W_Q W_Kᵀ and W_V W_O, without ever forming them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


class Spectrum(NamedTuple):
    """Size of a matrix: its largest singular value, and ‖W‖_F² / ‖W‖₂²."""

    norm: FloatArray
    stable_rank: FloatArray


def triangle(w: ArrayLike) -> FloatArray:
    """R of the QR decomposition: it stands for w in every singular value of a product with w.

    Parameters
    ----------
    w : array (…, d, k)
        For instance W_Q of each head, x W_Q = q.

    Returns
    -------
    float64 array (…, min(d, k), k)
        O(d k²) a head.
    """
    found: Any = np.linalg.qr(np.asarray(w, dtype=np.float64), mode="r")  # its stub knows no mode
    return np.asarray(found, dtype=np.float64)


def product_spectrum(
    left: ArrayLike, right: ArrayLike, middle: ArrayLike | None = None, *, scaling: float = 1.0
) -> Spectrum:
    """Spectral norm and stable rank of scaling · left middle rightᵀ.

    Parameters
    ----------
    left, right : arrays (…, d, k) and (…, d', k)
        W_Q and W_K of each head, or their `triangle`s, which give the same; for W_V W_O, W_V and W_Oᵀ.
    middle : array (…, k, k), optional
        Between the two: `relative_rotation` of one offset. None is the identity.
    scaling
        Factor, 1/√d_h for logits.

    Returns
    -------
    Spectrum of float64 arrays (…)
        Stable rank NaN where the norm is 0 up to the rounding of the product; both NaN where an entry is
        not finite.

    Notes
    -----
    ‖W_Q M W_Kᵀ‖ = ‖R_Q M R_Kᵀ‖ with W = Q R, for Q has orthonormal columns. Costs O((d + d') k²) and a
    singular value decomposition of k × k; the d × d' product is not made.
    """
    a, b = triangle(left), triangle(right)
    inner = a if middle is None else a @ np.asarray(middle, dtype=np.float64)
    product: FloatArray = scaling * (inner @ np.swapaxes(b, -1, -2))
    finite = np.asarray(np.isfinite(product).all(axis=(-2, -1)))
    values = np.linalg.svd(np.where(finite[..., None, None], product, 0.0), compute_uv=False)
    top = np.where(finite, values[..., 0], np.nan)
    # A product that cancels leaves rounding in the size of its factors.
    size = abs(scaling) * _size(inner) * _size(b)
    there = np.where(top > inner.shape[-1] * np.finfo(np.float64).eps * size, top, np.nan)
    return Spectrum(top, np.square(values).sum(axis=-1) / np.square(there))


def _size(matrices: FloatArray) -> FloatArray:
    """Frobenius norm of each matrix; 0 where an entry is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        norm = np.sqrt(np.square(matrices).sum(axis=(-2, -1)))
    return np.where(np.isfinite(norm), norm, 0.0)


def relative_rotation(cosine: ArrayLike, sine: ArrayLike, size: int) -> FloatArray:
    """What rotary embedding puts between W_Q and W_Kᵀ at one offset, R_i R_jᵀ as a matrix.

    Parameters
    ----------
    cosine, sine : arrays (rotary,)
        Of the angles Δθ, each pair's angle in both halves of the rotated features.
    size
        Features of a head; those from `rotary` on are not rotated.

    Returns
    -------
    float64 array (size, size)
        M with q_i · k_j = (x_i W_Q) M (x_j W_K)ᵀ for a query Δ = i − j positions after its key, in the
        layout that rotates feature f with feature f + rotary/2 (arXiv 2104.09864).
    """
    c, s = (np.asarray(x, dtype=np.float64) for x in (cosine, sine))
    half = len(c) // 2
    first, second = np.arange(half), np.arange(half, 2 * half)
    found = np.eye(size)
    found[first, first], found[second, second] = c[:half], c[half:]
    found[first, second], found[second, first] = s[:half], -s[half:]
    return found


def matrix_logit_norm(q: ArrayLike, k: ArrayLike, *, scaling: float) -> FloatArray:
    """‖S‖₂ of all logits of one sequence, those of later keys too.

    Parameters
    ----------
    q, k : arrays (…, position, feature)
        After rotary embedding.
    scaling
        Factor on q·k.

    Returns
    -------
    float64 array (…)
        At least the norm of every row, and of every part of a row. O(position · feature²): S is not made.
    """
    return product_spectrum(q, k, scaling=scaling).norm


def weight_logit_norm(
    x: ArrayLike, w_q: ArrayLike, w_k: ArrayLike, *, scaling: float, rotated: bool
) -> FloatArray:
    """A bound on ‖S‖₂ that knows of the sequence only how large its states are.

    Parameters
    ----------
    x : array (position, d)
        What the projections read; with biases, a column of ones and a row of biases in W.
    w_q, w_k : arrays (…, d, k)
        Projections of each head, x W = q.
    scaling
        Factor on q·k, with that of a scaled rotary embedding if it has one.
    rotated
        Whether rotary embedding turns q and k.

    Returns
    -------
    float64 array (…)
        ‖W_Q W_Kᵀ‖₂ ‖X Xᵀ‖₂ scaling, Theorem 3.1 of arXiv 2303.06296 with the 1/√d_h it leaves out. With
        rotation no one matrix makes the logits, and the turned queries may have a larger ‖·‖₂ than X W_Q,
        never a larger ‖·‖_F: ‖W_Q‖₂ ‖W_K‖₂ ‖X‖_F² scaling.

    Notes
    -----
    Of use to see how loose it is: it grows with the number of positions, a row's norm with its root.
    """
    states = np.asarray(x, dtype=np.float64)
    if rotated:
        norms = [np.linalg.norm(triangle(w), 2, axis=(-2, -1)) for w in (w_q, w_k)]
        turned: FloatArray = norms[0] * norms[1] * np.square(states).sum() * scaling
        return turned
    largest = np.linalg.norm(triangle(states), 2) ** 2
    return product_spectrum(w_q, w_k, scaling=scaling).norm * largest
