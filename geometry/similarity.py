"""Centred kernel alignment: how alike two representations of the same samples are."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geometry.spectrum import FloatArray

_EPS = float(np.finfo(np.float64).eps)
_CANCELLED = 4.0  # times n eps of the terms: what a difference of them may be by rounding


def linear_cka(x: ArrayLike, y: ArrayLike, *, debiased: bool = False) -> float:
    """Linear centred kernel alignment of two representations of the same samples.

    Parameters
    ----------
    x, y
        Shapes (sample, d1) and (sample, d2), rows matched, any real dtype; centred here.
    debiased
        Use the unbiased estimator of HSIC (HSIC_1 of Song et al. 2012, JMLR 13; as in Nguyen et
        al., 2010.15327, eq. 3) in place of the biased one. The biased CKA of independent data
        grows towards 1 as features outnumber samples; the debiased stays around 0 and can be
        negative.

    Returns
    -------
    float
        HSIC(x, y) / √(HSIC(x, x) HSIC(y, y)): 1 for a rotation or scaling of the same data. NaN if
        either does not vary, holds NaN or Inf, or (debiased) has no positive HSIC with itself.

    Raises
    ------
    ValueError
        If the inputs are not two matrices over the same samples, or have fewer than 2 samples
        (4 when debiased).

    Notes
    -----
    Kornblith et al. 2019, 1905.00414. HSIC with linear kernels is made of ⟨K, L⟩ = ‖XᵀY‖² and the
    kernels' diagonals; the former is computed over features or over samples, whichever multiplies
    less. Memory: centred float64 copies of both, and two or three products of the smaller side.
    """
    a, b = np.asarray(x), np.asarray(y)
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise ValueError(f"x and y have shapes {a.shape} and {b.shape}; give (sample, d) for each")
    n, least = len(a), 4 if debiased else 2
    if n < least:
        raise ValueError(f"x and y have {n} samples; give at least {least}")
    with np.errstate(invalid="ignore", over="ignore"):  # Inf and overflow end as NaN
        return _alignment(_centred(a), _centred(b), debiased)


def cka_matrix(x: ArrayLike, *, debiased: bool = False) -> FloatArray:
    """Linear centred kernel alignment of every pair of representations of the same samples.

    Parameters
    ----------
    x
        Shape (layer, sample, feature), any real dtype; samples matched; centred here.
    debiased
        As in `linear_cka`.

    Returns
    -------
    numpy.ndarray
        Shape (layer, layer), symmetric, 1 on the diagonal; NaN in the row and column of a layer
        that does not vary or holds NaN or Inf.

    Raises
    ------
    ValueError
        If `x` does not have three dimensions, or has too few samples.

    Notes
    -----
    Each layer's kernel is made once, and all inner products are one product of the flattened
    kernels: layer·n²·d + layer²·n² multiply-adds and layer·n² float64. Where layers are few or
    samples many, the products of features (layer²·n·d²) are cheaper and need d² float64 alone;
    whichever multiplies less is taken. Memory besides: a centred float64 copy.
    """
    array = np.asarray(x)
    if array.ndim != 3:
        raise ValueError(f"x has shape {array.shape}; give (layer, sample, feature)")
    layers, n, d = array.shape
    least = 4 if debiased else 2
    if n < least:
        raise ValueError(f"x has {n} samples; give at least {least}")
    with np.errstate(invalid="ignore", over="ignore"):
        centred = np.stack([_centred(layer) for layer in array])
        if layers * n * n * (d + layers) <= layers * (layers + 1) / 2 * n * d * d:
            kernels = np.stack([(layer @ layer.T).ravel() for layer in centred])
            inner = kernels @ kernels.T
        else:
            inner = np.empty((layers, layers))
            for i, j in zip(*np.triu_indices(layers), strict=True):
                inner[i, j] = inner[j, i] = _square(centred[i].T @ centred[j])
        if debiased:
            diagonals = (centred**2).sum(axis=2)
            for i, j in np.ndindex(layers, layers):
                inner[i, j] = _debias(inner[i, j], diagonals[i], diagonals[j])
        own = np.diagonal(inner)
        scale = np.sqrt(np.where(own > 0.0, own, np.nan))
        return np.asarray(inner / scale[:, None] / scale)


def _alignment(a: FloatArray, b: FloatArray, debiased: bool) -> float:
    """CKA of centred representations."""
    aa, bb, ab = _inner_products(a, b)
    if debiased:
        diagonal_a, diagonal_b = (a**2).sum(axis=1), (b**2).sum(axis=1)
        aa = _debias(aa, diagonal_a, diagonal_a)
        bb = _debias(bb, diagonal_b, diagonal_b)
        ab = _debias(ab, diagonal_a, diagonal_b)
    if not (aa > 0.0 and bb > 0.0):  # NaN included
        return float("nan")
    return float(ab / np.sqrt(aa) / np.sqrt(bb))


def _centred(x: NDArray[Any]) -> FloatArray:
    """Centred float64 copy; 0 in columns where only the round-off of a constant is left."""
    out: FloatArray = x - x.mean(axis=0, dtype=np.float64)
    size, spread = np.abs(x.astype(np.float64)).max(axis=0), np.abs(out).max(axis=0)
    out[:, spread <= len(x) * _EPS * size] = 0.0
    return out


def _inner_products(a: FloatArray, b: FloatArray) -> tuple[float, float, float]:
    """⟨K, K⟩, ⟨L, L⟩ and ⟨K, L⟩ of K = a aᵀ and L = b bᵀ."""
    n, d1, d2 = len(a), a.shape[1], b.shape[1]
    over_features = n * (d1 * d1 + d2 * d2 + d1 * d2)
    if over_features <= n * n * (d1 + d2):
        return _square(a.T @ a), _square(b.T @ b), _square(a.T @ b)
    kernel_a, kernel_b = a @ a.T, b @ b.T
    return _square(kernel_a), _square(kernel_b), float(np.vdot(kernel_a, kernel_b))


def _square(matrix: FloatArray) -> float:
    return float(np.vdot(matrix, matrix))


def _debias(inner: float, k: FloatArray, m: FloatArray) -> float:
    """HSIC_1 times n(n − 3), from ⟨K, M⟩ and the diagonals k and m of centred kernels; rounding is 0.

    HSIC_1 takes the kernels without their diagonals, K̃. It does not change when features are
    centred, and then K̃ 1 = −k, so no product with the kernels is left to compute.
    """
    n = len(k)
    own, both = k @ m * n / (n - 2), k.sum() * m.sum() / ((n - 1) * (n - 2))
    found = float(inner - own + both)
    # Alike distances leave nothing off the diagonal but the rounding of these three.
    return found if abs(found) > _CANCELLED * _EPS * n * float(abs(inner) + own + both) else 0.0


def kernel_cka(k: ArrayLike, m: ArrayLike, *, debiased: bool = False) -> float:
    """Centred kernel alignment of two kernels over the same samples.

    Parameters
    ----------
    k, m
        Symmetric kernels, shape (sample, sample), rows matched; centred here.
    debiased
        As in `linear_cka`.

    Returns
    -------
    float
        As `linear_cka`, which this equals for kernels x xᵀ and y yᵀ. NaN if either is constant up to
        the precision of its dtype.

    Raises
    ------
    ValueError
        If they are not two square matrices of one size, or have fewer than 2 samples (4 when debiased).

    Notes
    -----
    Kornblith et al. 2019, 1905.00414, eq. 1 and §3; the debiased estimator as in `linear_cka`. Memory: a
    centred float64 copy of each.
    """
    a, b = np.asarray(k), np.asarray(m)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or a.shape != b.shape:
        raise ValueError(f"k and m have shapes {a.shape} and {b.shape}; give (n, n) for each")
    n, least = len(a), 4 if debiased else 2
    if n < least:
        raise ValueError(f"k and m have {n} samples; give at least {least}")
    with np.errstate(invalid="ignore", over="ignore"):
        one, two = _centred_kernel(a), _centred_kernel(b)
        oo, tt, ot = _square(one), _square(two), float(np.vdot(one, two))
        if debiased:
            oo = _debias(oo, one.diagonal(), one.diagonal())
            tt = _debias(tt, two.diagonal(), two.diagonal())
            ot = _debias(ot, one.diagonal(), two.diagonal())
    if not (oo > 0.0 and tt > 0.0):  # NaN included
        return float("nan")
    return float(ot / np.sqrt(oo) / np.sqrt(tt))


def _centred_kernel(k: NDArray[Any]) -> FloatArray:
    """The kernel of centred features; 0 where only the round-off of a constant is left."""
    eps = float(np.finfo(k.dtype).eps) if k.dtype.kind == "f" else _EPS
    out: FloatArray = k.astype(np.float64)
    size = np.abs(out).max()
    means = out.mean(axis=0)
    out -= means
    out -= out.mean(axis=1, keepdims=True)
    if np.abs(out).max() <= 2 * eps * size:
        out[:] = 0.0
    return out
