"""Continuous piecewise-linear fits of several curves with common knots, many fits at a time.

The unit is a batch: many sets of curves (one observed, hundreds simulated) are fitted at once, so
that a null distribution costs little more than a fit. All fits share the hinge basis

    h_0 = 1,  h_1 = x,  h_j = max(x - x_j, 0)  for every checkpoint j that may be a knot,

and see the curves only through Hᵀy and the one Gram matrix HᵀH. The criterion is the sum over
curves of ln(residual sum of squares): the concentrated Gaussian likelihood, which puts curves of
any unit on one scale, that of their residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

GAP = 3  # least number of checkpoints in a segment; a knot counts for the segment it opens
_SWEEPS = 4
_SPARE = 1e-9  # a hinge with less than this share of its norm left is a combination of the others
_ZERO = 1e-12  # a residual sum of squares below this share of the whole is rounding


@dataclass(frozen=True)
class Basis:
    """The hinge basis of one axis.

    Attributes
    ----------
    x : (point,) the axis, increasing.
    knots : (knot,) positions in x that may be knots.
    columns : (2 + knot, point) the basis, each row of unit length.
    norms : (2 + knot,) the lengths divided out.
    gram : (2 + knot, 2 + knot) inner products of the basis.
    """

    x: Array
    knots: Index
    columns: Array
    norms: Array
    gram: Array


def hinge_basis(x: Array) -> Basis:
    """Return the hinge basis of an increasing axis x (point,). Memory: 2 point² float64."""
    knots = np.arange(GAP, x.size - GAP + 1)
    hinges = np.maximum(x - x[knots, None], 0.0)
    columns = np.vstack([np.ones(x.size), x - x.mean(), hinges])
    norms = np.sqrt((columns**2).sum(axis=1))
    columns = columns / norms[:, None]
    return Basis(x, knots, columns, norms, columns @ columns.T)


def most_breaks(points: int) -> int:
    """Return the number of breaks that always fits, wherever the first of them fall."""
    return max((points - 1) // (2 * GAP - 1), 0)


def grow(basis: Basis, moments: Array, power: Array, chosen: Index) -> Index:
    """Return the chosen knots and the one that lowers the criterion most, in order.

    Parameters
    ----------
    moments : (batch, curve, 2 + knot) Hᵀy.
    power : (batch, curve) yᵀy.
    chosen : (batch, k) knots in use, as indices into ``basis.knots``.

    Returns
    -------
    (batch, k + 1)
    """
    picked = _picked(chosen)
    rows = basis.gram[picked]
    small = np.take_along_axis(rows, picked[:, None, :], axis=2)
    seen = np.take_along_axis(moments, picked[:, None, :], axis=2)
    right = np.concatenate([rows[..., 2:], np.swapaxes(seen, 1, 2)], axis=2)
    solved = np.linalg.solve(small, right)
    onto, slopes = solved[..., : basis.knots.size], solved[..., basis.knots.size :]
    # What is left of each curve and of each hinge once the chosen knots are fitted.
    rest = power - np.einsum("bcs,bsc->bc", seen, slopes)
    left = moments[..., 2:] - np.swapaxes(slopes, 1, 2) @ rows[..., 2:]
    whole = np.diagonal(basis.gram)[2:]
    spare = whole - (rows[..., 2:] * onto).sum(axis=1)
    usable = spare > _SPARE * whole
    gains = left**2 / np.where(usable, spare, np.inf)[:, None, :]
    rss = np.maximum(rest[..., None] - gains, _ZERO * power[..., None])
    score = np.log(rss).sum(axis=1)
    near = np.abs(basis.knots - basis.knots[chosen][..., None]) < GAP
    score[near.any(axis=1) | ~usable] = np.inf
    best = score.argmin(axis=1)[:, None]
    return np.sort(np.concatenate([chosen, best], axis=1), axis=1)


def paths(basis: Basis, y: Array, breaks: int) -> list[Index]:
    """Return the best knots found for 0, 1, …, `breaks` breaks.

    Each number starts from the knots before it, adds the best further one, and moves all of them
    in turn to their best places until none moves.

    Parameters
    ----------
    y : (batch, curve, point); no curve constant.

    Returns
    -------
    For each k an index (batch, k) into ``basis.knots``, increasing.
    """
    moments, power = y @ basis.columns.T, (y**2).sum(axis=2)
    found: list[Index] = [np.empty((y.shape[0], 0), dtype=np.intp)]
    for count in range(1, breaks + 1):
        chosen = grow(basis, moments, power, found[-1])
        for _ in range(_SWEEPS if count > 1 else 0):
            before = chosen
            for place in range(count):
                chosen = grow(basis, moments, power, np.delete(chosen, place, axis=1))
            if np.array_equal(before, chosen):
                break
        found.append(chosen)
    return found


def fit(basis: Basis, y: Array, chosen: Index) -> tuple[Array, Array]:
    """Return fitted values (batch, curve, point) and slopes (batch, segment, curve)."""
    picked = _picked(chosen)
    small = basis.gram[picked[:, :, None], picked[:, None, :]]
    seen = np.take_along_axis(y @ basis.columns.T, picked[:, None, :], axis=2)
    weights = np.swapaxes(np.linalg.solve(small, np.swapaxes(seen, 1, 2)), 1, 2)
    fitted = weights @ basis.columns[picked]
    changes = (weights / basis.norms[picked][:, None, :])[..., 1:]
    return fitted, np.swapaxes(np.cumsum(changes, axis=2), 1, 2)


def _picked(chosen: Index) -> Index:
    line = np.broadcast_to(np.array([0, 1], dtype=np.intp), (chosen.shape[0], 2))
    return np.concatenate([line, chosen + 2], axis=1)
