"""pass@k: how often at least one of k draws is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from probes.means import Mean, clustered_mean


def pass_at_k(correct: ArrayLike, draws: ArrayLike, k: int) -> NDArray[np.float64]:
    """Unbiased estimate of the probability that one of k draws is right, a problem at a time.

    Parameters
    ----------
    correct
        Right draws c of each problem, any shape.
    draws
        Draws n of each problem, broadcastable to `correct`.
    k
        At least 1.

    Returns
    -------
    float64 array
        1 − C(n − c, k) / C(n, k); NaN where k > n, which nothing can tell.

    Raises
    ------
    ValueError
        If k is below 1, or a problem has more right draws than draws.

    Notes
    -----
    Chen et al. 2021 (arXiv 2107.03374) eq. 1; arXiv 2509.23024 §5. Through log-gamma, so that no
    binomial coefficient overflows. The plug-in 1 − (1 − c/n)^k is biased downward for k > 1.
    """
    c, n = np.broadcast_arrays(np.asarray(correct, float), np.asarray(draws, float))
    if k < 1:
        raise ValueError(f"k is {k}; give at least 1")
    if bool((c > n).any() or (c < 0).any()):
        raise ValueError("a problem has more right draws than draws, or fewer than none")
    wrong = n - c
    with np.errstate(invalid="ignore"):
        logs = gammaln(wrong + 1) + gammaln(n - k + 1) - gammaln(wrong - k + 1) - gammaln(n + 1)
    some = (wrong >= k) & (c > 0)
    none_right = np.where(some, np.exp(np.where(some, logs, 0.0)), np.where(c > 0, 0.0, 1.0))
    found: NDArray[np.float64] = np.where(k > n, np.nan, 1.0 - none_right)
    return found


def mean_pass_at_k(correct: ArrayLike, draws: ArrayLike, k: int, *, level: float = 0.95) -> Mean:
    """Mean of `pass_at_k` over problems; the interval is that of drawing other problems.

    Parameters
    ----------
    correct, draws
        Right draws and draws of each problem, shape (problem,).
    k
        As `pass_at_k`.
    level
        Of the interval: Student t over problems.

    Notes
    -----
    The spread between problems holds the noise of the draws as well, because a problem's estimate is
    unbiased: no second term is to be added.
    """
    values = np.atleast_1d(pass_at_k(correct, draws, k))
    return clustered_mean(values[:, None], np.arange(len(values)), level=level)
