"""Is a boundary a break or a bend: a change of slope at a checkpoint, or spread over a width.

A broken line imposes its corners. Here each corner may instead be a smooth transition

    g(x) = s · ln(1 + exp((x - c) / s)),   s = width / (2 ln 9),

whose slope goes from 10 % to 90 % of its change over `width`, and which is the hinge max(x - c, 0)
at width 0. The centre c is free between the checkpoints as well, so that a break that fell between
two of them is not mistaken for a bend.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from geometry.autoregression import draw, likelihood
from geometry.segmented import Array, Basis, Index
from geometry.sequential import Breaks, Noise, estimate_noise, likelihoods, p_value

_PLACES = 3  # centres tried in each spacing between checkpoints
_FINER = 2.0**0.5  # ratio of neighbouring widths tried
_SWEEPS = 4
_SPARE = 1e-9
_ZERO = 1e-12


@dataclass(frozen=True)
class Bends:
    """A fit with smooth transitions.

    Attributes
    ----------
    knots : (k,) checkpoints of the broken-line fit it started from, indices into ``basis.knots``.
    centres, widths : (k,) in units of x; width 0 is a break.
    spacing : (k,) distance to the farther neighbour of the knot's checkpoint.
    fitted : (curve, point).
    noise : AR(1) noise around `fitted`.
    bent : (k,) whether a width of one spacing or less is rejected.
    """

    knots: Index
    centres: Array
    widths: Array
    spacing: Array
    fitted: Array
    noise: Noise
    bent: npt.NDArray[np.bool_]


def transition(x: Array, centre: Array | float, width: Array | float) -> Array:
    """Return the smooth transition g at x, broadcast; width 0 is the hinge."""
    scale = np.asarray(width, dtype=np.float64) / (2.0 * np.log(9.0))
    safe = np.where(scale > 0, scale, 1.0)
    smooth = safe * np.logaddexp(0.0, (x - centre) / safe)
    curve: Array = np.where(scale > 0, smooth, np.maximum(x - centre, 0.0))
    return curve


def find_bends(
    basis: Basis,
    y: Array,
    breaks: Breaks,
    *,
    floor: Array,
    alpha: float,
    simulations: int,
    rng: np.random.Generator,
) -> Bends:
    """Return the boundaries, told apart into breaks and bends.

    A smooth curve needs several breaks to be followed. So the fewest smooth transitions are taken
    that no larger number of breaks follows better than by chance, if one of them is then a bend by
    test; else the breaks as they are.

    Parameters
    ----------
    y : (curve, point).
    breaks : at least one, from `geometry.sequential.sequential_breaks`.
    """
    for count in range(1, breaks.count + 1):
        fit = smooth_fit(basis, y, breaks.knots[count])
        free = y.shape[1] - 2 - 3 * count
        noise = estimate_noise(y - fit.fitted, floor, breaks.expected[count], free)
        fit = replace(fit, noise=noise)
        fewer = count < breaks.count
        if fewer and _breaks_p_value(basis, y, fit, breaks, floor, simulations, rng) <= alpha:
            continue
        p_values = [_width_p_value(basis.x, y, fit, i, simulations, rng) for i in range(count)]
        fit = replace(fit, bent=np.array(p_values) <= alpha)
        if fit.bent.any() or not fewer:
            break
    return fit


def _breaks_p_value(
    basis: Basis,
    y: Array,
    fit: Bends,
    breaks: Breaks,
    floor: Array,
    simulations: int,
    rng: np.random.Generator,
) -> float:
    """Test the smooth transitions against more breaks, as the number of breaks was tested.

    Centres and widths are held in the simulated fits, which costs those a little likelihood: the
    test leans towards keeping the smooth fit.
    """
    lines = fit.fitted + draw(rng, fit.noise.rho, fit.noise.sd, (simulations, *y.shape))
    rows = _rows(basis.x, fit.centres, fit.widths)
    both = np.concatenate([y[None], lines])
    smooth = likelihood(both - _project(both, rows), floor)[0].sum(axis=1)
    broken = likelihoods(basis, both, len(breaks.knots) - 1, floor)[1]
    return p_value(broken[fit.knots.size + 1 :] - smooth)


def smooth_fit(basis: Basis, y: Array, knots: Index) -> Bends:
    """Return the best smooth transitions, each moved and widened in turn until none changes."""
    x = basis.x
    places = basis.knots[knots]
    spacing = np.maximum(x[places + 1] - x[places], x[places] - x[places - 1])
    centres, widths = x[places].copy(), np.zeros(places.size)
    for _ in range(_SWEEPS):
        before = np.concatenate([centres, widths])
        for i in range(places.size):
            tried = _candidates(x, centres, i, spacing[i])
            score = _score(y[None], *_columns(x, centres, widths, i, tried))[0]
            centres[i], widths[i] = tried[:, score.argmin()]
        if np.array_equal(before, np.concatenate([centres, widths])):
            break
    fitted = _project(y, _rows(x, centres, widths))
    none = Noise(np.zeros(y.shape[0]), np.zeros(y.shape[0]))
    return Bends(knots, centres, widths, spacing, fitted, none, np.zeros(knots.shape, dtype=bool))


def _width_p_value(
    x: Array, y: Array, fit: Bends, i: int, simulations: int, rng: np.random.Generator
) -> float:
    """Test transition i: is its width more than one spacing, all others held."""
    tried = _candidates(x, fit.centres, i, fit.spacing[i])
    narrow = tried[1] <= fit.spacing[i]
    rest, columns = _columns(x, fit.centres, fit.widths, i, tried)
    score = _score(y[None], rest, columns)[0]
    best = int(np.where(narrow, score, np.inf).argmin())
    mean = _project(y, np.vstack([rest, columns[best]]))
    drawn = mean + draw(rng, fit.noise.rho, fit.noise.sd, (simulations, *y.shape))
    null = _score(drawn, rest, columns)
    observed = score[best] - score.min()
    ratios = null[:, narrow].min(axis=1) - null.min(axis=1)
    # A ratio of nothing is no evidence, however many of the simulated are nothing as well.
    return float((1 + (ratios >= observed).sum()) / (1 + simulations)) if observed > 0 else 1.0


def _candidates(x: Array, centres: Array, i: int, spacing: float) -> Array:
    """Return the centres and widths tried for transition i, (2, candidate)."""
    low = centres[i - 1] if i > 0 else x[0]
    high = centres[i + 1] if i + 1 < centres.size else x[-1]
    fine = np.interp(np.arange(_PLACES, _PLACES * (x.size - 2) + 1) / _PLACES, np.arange(x.size), x)
    fine = fine[(fine > low) & (fine < high)]
    widths = spacing * _FINER ** np.arange(-2, 60)
    widths = np.concatenate([[0.0], widths[widths <= x[-1] - x[0]]])
    return np.array([a.ravel() for a in np.meshgrid(fine, widths, indexing="ij")])


def _columns(x: Array, centres: Array, widths: Array, i: int, tried: Array) -> tuple[Array, Array]:
    """Return the rows of all transitions but i, and the rows tried for i."""
    others = np.arange(centres.size) != i
    rest = _rows(x, centres[others], widths[others])
    return rest, transition(x, tried[0, :, None], tried[1, :, None])


def _score(y: Array, rest: Array, columns: Array) -> Array:
    """Return sum over curves of ln(residual sum of squares) of rest plus each column.

    Shape (batch, column).
    """
    left = y - _project(y, rest)
    spare = columns - _project(columns, rest)
    power = (spare**2).sum(axis=1)
    usable = power > _SPARE * (columns**2).sum(axis=1)
    gains = (left @ spare.T) ** 2 / np.where(usable, power, np.inf)
    rss = np.maximum(
        (left**2).sum(axis=2)[..., None] - gains, _ZERO * (y**2).sum(axis=2)[..., None]
    )
    score: Array = np.log(rss).sum(axis=1)
    return score


def _rows(x: Array, centres: Array, widths: Array) -> Array:
    """Return the line and the transitions as rows (2 + k, point)."""
    smooth = transition(x, centres[:, None], widths[:, None])
    return np.vstack([np.ones_like(x), x - x.mean(), smooth])


def _project(y: Array, rows: Array) -> Array:
    """Return the least-squares fit of y (..., point) by the rows (row, point)."""
    directions = np.linalg.qr(rows.T)[0]
    fitted: Array = (y @ directions) @ directions.T
    return fitted
