"""Where a change of spectral entropy comes from: an exact ledger by rank.

With p = λ / Σλ the entropy S = −Σ p ln p (ln RankMe of the centred covariance) moves as

    dS/dt = −Cov_p(g, ln p) = −Σ_i p_i (g_i − ḡ)(ln p_i + S),    g_i = d ln λ_i / dt,  ḡ = Σ p_i g_i,

so it falls exactly when heavy directions grow faster than the rest. The terms of the sum are the
contributions of the ranks: one that stands above the spectrum's mean log weight −S lowers S by
growing faster than the mean, and raises it by falling behind. A common factor of all λ moves none.

Between two spectra the terms are integrated along the path on which every ln λ_i is linear. Ranks
are compared with ranks: nothing says that the i-th direction is the same one at both ends.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, xlogy

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

EDGES = (1, 10, 100, 500)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_MOST = 4096  # panels of 16 nodes: enough for any two spectra that float64 can hold
_BLOCK = 1 << 22  # numbers held at a time


class Ledger(NamedTuple):
    """What each rank contributed to the change of entropy between two spectra.

    Attributes
    ----------
    contributions : (rank,) in nats; they add up to `end` − `start`.
    start, end : spectral entropies, in nats.
    born, died : how many eigenvalues were 0 at the start only, and at the end only.
    panels : of 16 Gauss–Legendre nodes each.
    error : |Σ contributions − (end − start)|.
    """

    contributions: FloatArray
    start: float
    end: float
    born: int
    died: int
    panels: int
    error: float


def entropy_rate(eigenvalues: ArrayLike, growth: ArrayLike) -> FloatArray:
    """Rate of change of the spectral entropy by rank: the terms of −Cov_p(g, ln p).

    Parameters
    ----------
    eigenvalues
        Spectrum, shape (…, rank), not negative.
    growth
        g = d ln λ / dt, broadcast against it. Ignored where the eigenvalue is 0.

    Returns
    -------
    numpy.ndarray
        Shape (…, rank), in nats per unit of t; their sum over ranks is dS/dt. NaN throughout a
        spectrum that is all zero or holds NaN.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        p = values / values.sum(axis=-1, keepdims=True)
    rates = np.where(p == 0.0, 0.0, np.asarray(growth, dtype=np.float64))
    mean = (p * rates).sum(axis=-1, keepdims=True)
    entropy = entr(p).sum(axis=-1, keepdims=True)
    return np.asarray(-(rates - mean) * (xlogy(p, p) + p * entropy))


def entropy_ledger(start: ArrayLike, end: ArrayLike, *, tolerance: float = 1e-11) -> Ledger:
    """What each rank contributed to the change of spectral entropy from one spectrum to another.

    Parameters
    ----------
    start, end
        Eigenvalues of the centred covariance at two checkpoints, shape (rank,), not negative.
    tolerance
        Nats. Panels are halved until neither the sum nor any contribution moves by more.

    Returns
    -------
    Ledger
        Contributions NaN throughout if either spectrum is all zero or holds NaN or Inf.

    Raises
    ------
    ValueError
        If the shapes differ, an eigenvalue is negative or no rank is positive in both.

    Notes
    -----
    A logarithm cannot run to or from an eigenvalue of 0. What is done is the limit of a vanishing
    one: an eigenvalue that dies falls to 0 at the start of the path, one that is born rises at its
    end, those of each kind in proportion, all others held. Both jumps have a closed form
    (`_appearance`). An eigenvalue that is 0 at both ends contributes 0.

    Memory: at most 4 million float64, a few times over. Exact up to quadrature and round-off.
    """
    one, two = (np.asarray(v, dtype=np.float64) for v in (start, end))
    if one.ndim != 1 or one.shape != two.shape:
        raise ValueError(f"start and end have shapes {one.shape} and {two.shape}; give (rank,)")
    if (one < 0).any() or (two < 0).any():
        raise ValueError("an eigenvalue is negative; give spectra, which are >= 0")
    if not (np.isfinite(one).all() and np.isfinite(two).all() and one.any() and two.any()):
        nan = float("nan")
        return Ledger(np.full(one.shape, nan), nan, nan, 0, 0, 0, nan)
    one, two = one / one.max(), two / two.max()
    both, died, born = (one > 0) & (two > 0), (one > 0) & (two == 0), (one == 0) & (two > 0)
    if not both.any():
        raise ValueError("no rank is positive in both; give spectra in descending order")
    found = _appearance(two, born) - _appearance(one, died)
    moved, panels = _moved(one[both], two[both], tolerance)
    found[both] += moved
    first, last = (float(entr(v / v.sum()).sum()) for v in (one, two))
    error = abs(float(found.sum()) - (last - first))
    return Ledger(found, first, last, int(born.sum()), int(died.sum()), panels, error)


def by_band(contributions: ArrayLike, *, edges: tuple[int, ...] = EDGES) -> FloatArray:
    """Contributions of ranks added up in bands.

    Parameters
    ----------
    contributions
        Shape (…, rank), rank 1 first.
    edges
        Last rank of every band but the open one: (1, 10, 100, 500) makes 1, 2–10, 11–100, 101–500
        and 501 on.

    Returns
    -------
    numpy.ndarray
        Shape (…, len(edges) + 1); 0 in a band beyond the last rank.

    Raises
    ------
    ValueError
        If the edges do not increase from 1 or more.
    """
    if not edges or edges[0] < 1 or any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"edges is {edges}; give ranks that increase, from 1 or more")
    values = np.asarray(contributions, dtype=np.float64)
    return np.stack([part.sum(axis=-1) for part in np.split(values, edges, axis=-1)], axis=-1)


def band_names(edges: tuple[int, ...] = EDGES) -> tuple[str, ...]:
    """What the bands of `by_band` are called: `1`, `2–10`, …, `501+`."""
    firsts = [1, *(edge + 1 for edge in edges)]
    closed = [str(a) if a == b else f"{a}–{b}" for a, b in zip(firsts, edges, strict=False)]
    return (*closed, f"{firsts[-1]}+")


def _moved(one: FloatArray, two: FloatArray, tolerance: float) -> tuple[FloatArray, int]:
    """Contributions along the log-linear path between two positive spectra, and the panels used."""
    begin, growth = np.log(one), np.log(two) - np.log(one)
    wanted = entr(two / two.sum()).sum() - entr(one / one.sum()).sum()
    before = _integrated(begin, growth, 1)
    panels = 2
    while True:
        found = _integrated(begin, growth, panels)
        settled = np.abs(found - before).max() <= tolerance
        if (settled and abs(found.sum() - wanted) <= 10 * tolerance) or panels >= _MOST:
            return found, panels
        before, panels = found, 2 * panels


def _integrated(begin: FloatArray, growth: FloatArray, panels: int) -> FloatArray:
    """Composite Gauss–Legendre integral over t in 0…1 of the rates at ln λ = begin + t growth."""
    times = ((np.arange(panels)[:, None] + (_NODES + 1) / 2) / panels).ravel()
    weights = np.tile(_WEIGHTS / (2 * panels), panels)
    total = np.zeros(begin.shape)
    size = max(_BLOCK // begin.size, 1)
    for first in range(0, times.size, size):
        part = slice(first, first + size)
        logs = begin + times[part, None] * growth
        spectra = np.exp(logs - logs.max(axis=1, keepdims=True))
        total += weights[part] @ entropy_rate(spectra, growth)
    return total


def _appearance(spectrum: FloatArray, new: Mask) -> FloatArray:
    """Contributions (rank,) when the `new` eigenvalues rise from 0 in proportion, the rest held.

    Their share q of the whole rises from 0 to Q, and dq = q(1 − q) dg, so a new rank with share b
    of the new gives −b ∫ (ln q + ln b + S(q)) dq, and an old one with share c of the old
    c ∫ (ln(1 − q) + ln c + S(q)) dq, where S(q) = h(q) + q S_new + (1 − q) S_old.
    """
    found = np.zeros(spectrum.shape)
    if not new.any():
        return found
    old = (spectrum > 0) & ~new
    b, c = spectrum[new] / spectrum[new].sum(), spectrum[old] / spectrum[old].sum()
    q = spectrum[new].sum() / spectrum.sum()
    rest = spectrum[old].sum() / spectrum.sum()  # 1 − q loses a small rest
    log_q = xlogy(q, q) - q
    log_rest = -xlogy(rest, rest) - q
    mixing = q**2 / 4 - xlogy(q**2, q) / 2 + 0.25 + xlogy(rest**2, rest) / 2 - rest**2 / 4
    entropy = mixing + q**2 / 2 * entr(b).sum() + (q - q**2 / 2) * entr(c).sum()
    found[new] = -b * (log_q + entropy) - q * xlogy(b, b)
    found[old] = c * (log_rest + entropy) + q * xlogy(c, c)
    return found
