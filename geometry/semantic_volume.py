"""Semantic volume: the volume that the directions of some states span."""

import numpy as np
from numpy.typing import ArrayLike

from geometry.matrix_entropy import unit_rows
from geometry.spectrum import eigenvalues

RIDGE = 1e-6


def semantic_volume(x: ArrayLike, *, ridge: float = RIDGE) -> float:
    """Log-volume of the parallelepiped of states divided by their norm.

    Parameters
    ----------
    x
        States, shape (sample, feature), any real dtype.
    ridge
        Added to the Gram matrix's diagonal, without which more states than features, or two alike,
        span no volume.

    Returns
    -------
    float
        ½ ln det(U Uᵀ + ridge·I), U the rows of unit norm: the logarithm of the volume they span, 0 for
        orthonormal states (½ n ln(1 + ridge), to be exact), lower the more alike they are. It depends
        on n: compare sets of the same number of states. NaN without a state, with a state of 0, or
        with one that is not finite.

    Raises
    ------
    ValueError
        If `x` is not a matrix or the ridge is not positive.

    Notes
    -----
    Li et al. 2025, 2502.21239, whose score is ln det(VᵀV + εI) of normalised embeddings of perturbed
    queries or sampled answers, after PCA: twice this, without the PCA. Invariant under rotation,
    scaling of each state, and order. Eigenvalues of the smaller side; memory as
    `geometry.spectrum.eigenvalues`.
    """
    if ridge <= 0:
        raise ValueError(f"ridge is {ridge}; give a positive one")
    array = np.asarray(x)
    if not np.isfinite(array).all():
        return float("nan")
    units = unit_rows(array, centered=False)
    n = len(array)
    if n == 0 or len(units) < n:
        return float("nan")
    values = n * eigenvalues(units, centered=False)
    logs = np.log(values + ridge).sum() + (n - len(values)) * np.log(ridge)
    return float(logs / 2)
