"""Permutation tests: how often labels that say nothing do as well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geometry.separation_null import p_value, permuted_labels

__all__ = ["p_value", "permutation_p_value", "permuted_labels"]


def permutation_p_value(
    statistic: Callable[[NDArray[np.intp]], float],
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    count: int = 99,
    seed: int = 0,
    larger: bool = True,
) -> float:
    """P-value of a statistic of labels, against labels dealt out anew.

    Parameters
    ----------
    statistic
        From class numbers (sample,) to a number.
    labels
        Class of each sample, shape (sample,).
    groups, count, seed
        As in `permuted_labels`: within documents if these are given.
    larger
        Whether large values speak against the null.

    Returns
    -------
    float
        (1 + #as extreme) / (1 + count); NaN if a value is NaN.
    """
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    observed = float(statistic(codes))
    if np.isnan(observed):
        return float("nan")
    drawn = permuted_labels(codes, groups=groups, count=count, seed=seed)
    return p_value(observed, [statistic(row) for row in drawn], larger=larger)
