"""Do segmentations of training agree: with each other over seeds, and with a published one.

A segmentation is its boundaries, in tokens or steps. Distances are in log10 of these, since a phase
of training is a stretch of its logarithm. What seeds disagree about is training noise; the interval
that the fit of one seed's curves gives a boundary is probe noise. They are kept apart throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.special import entr
from scipy.stats import t as student

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

LEVEL = 0.95


class Match(NamedTuple):
    """Boundaries of one segmentation matched with those of another, one to one.

    Attributes
    ----------
    found, wanted : (match,) indices of the matched boundaries.
    extra : (…,) indices of `found` without a partner.
    missed : (…,) indices of `wanted` without a partner.
    distances : (match,) how far apart each pair is.
    """

    found: Index
    wanted: Index
    extra: Index
    missed: Index
    distances: Array

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 if neither has a boundary."""
        whole = 2 * self.found.size + self.extra.size + self.missed.size
        return 2 * self.found.size / whole if whole else 1.0


class Overlap(NamedTuple):
    """How alike two divisions of the same points into segments are.

    Attributes
    ----------
    rand : share of pairs of points on which they agree; 1 for the same division.
    adjusted_rand : the same, 0 on average for unrelated divisions with these sizes (Hubert & Arabie).
    variation : variation of information in nats (Meilă 2003): 0 for the same division.
    """

    rand: float
    adjusted_rand: float
    variation: float


@dataclass(frozen=True)
class Consensus:
    """Boundaries that several seeds share.

    Attributes
    ----------
    places : (boundary,) geometric mean over the seeds that have it, increasing.
    share : (boundary,) of the seeds that have it.
    training_error : (boundary,) jackknife standard error over seeds of log10 of the place; NaN if one
        seed alone has it.
    lower, upper : (boundary,) 95 % interval of the place over seeds, Student t.
    probe_error : (boundary,) root mean square, over its seeds, of each fit's own standard error in
        log10; NaN if no intervals were given.
    members : (seed, boundary) each seed's own boundary; NaN where it has none.
    """

    places: Array
    share: Array
    training_error: Array
    lower: Array
    upper: Array
    probe_error: Array
    members: Array


def match_boundaries(
    found: npt.ArrayLike, wanted: npt.ArrayLike, *, tolerance: float | npt.ArrayLike
) -> Match:
    """Match boundaries one to one: as many as possible, and of those matchings the nearest.

    Parameters
    ----------
    found, wanted
        Shapes (n,) and (m,): places on an axis where distance means something, such as log10
        tokens, or numbers of checkpoints.
    tolerance
        Greatest distance of a pair; one number, or one for each wanted boundary.

    Returns
    -------
    Match

    Raises
    ------
    ValueError
        If a place is not finite or a tolerance is negative.

    Notes
    -----
    An assignment problem of n × m, solved exactly.
    """
    a, b = (np.asarray(places, dtype=np.float64).ravel() for places in (found, wanted))
    reach = np.broadcast_to(np.asarray(tolerance, dtype=np.float64), b.shape)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a boundary is not finite; leave out what was not found")
    if not (reach >= 0).all():
        raise ValueError(f"tolerance is {tolerance!r}; give 0 or more")
    gaps = np.abs(a[:, None] - b)
    allowed = gaps <= reach
    # A pair out of reach costs more than all that are within reach together.
    cost = np.where(allowed, gaps, 1.0 + 2 * min(a.size, b.size) * reach.max(initial=0.0))
    rows, columns = linear_sum_assignment(cost)
    kept = allowed[rows, columns]
    rows, columns = rows[kept], columns[kept]
    return Match(
        rows,
        columns,
        np.setdiff1d(np.arange(a.size), rows),
        np.setdiff1d(np.arange(b.size), columns),
        gaps[rows, columns],
    )


def segment_of(boundaries: npt.ArrayLike, at: npt.ArrayLike) -> Index:
    """Number of the segment each point is in; a point on a boundary is in the one it opens."""
    edges = np.sort(np.asarray(boundaries, dtype=np.float64))
    return np.searchsorted(edges, np.asarray(at, dtype=np.float64), side="right")


def overlap(one: npt.ArrayLike, two: npt.ArrayLike) -> Overlap:
    """Rand indices and variation of information of two divisions of the same points.

    Parameters
    ----------
    one, two
        Segment (or state) of each point, shape (point,), any labels: such as `segment_of` on a
        grid that is even in log tokens, or a hidden-Markov state at each checkpoint.

    Returns
    -------
    Overlap

    Raises
    ------
    ValueError
        If the shapes differ or there are fewer than two points.
    """
    a, b = np.asarray(one), np.asarray(two)
    if a.ndim != 1 or a.shape != b.shape or a.size < 2:
        raise ValueError(f"divisions have shapes {a.shape} and {b.shape}; give (point,), 2 or more")
    rows, columns = np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1]
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1.0)
    together = _pairs(table)
    in_one, in_two, every = (
        _pairs(table.sum(axis=1)),
        _pairs(table.sum(axis=0)),
        _pairs(np.array(a.size)),
    )
    rand = (every + 2 * together - in_one - in_two) / every
    expected, most = in_one * in_two / every, (in_one + in_two) / 2
    adjusted = 1.0 if most == expected else (together - expected) / (most - expected)
    joint = entr(table / a.size).sum()
    single = [entr(table.sum(axis=axis) / a.size).sum() for axis in (0, 1)]
    return Overlap(float(rand), float(adjusted), float(max(2 * joint - sum(single), 0.0)))


def log_grid(low: float, high: float, points: int = 400) -> Array:
    """Points even in the logarithm, at the middles of equal cells between two places."""
    cells = (np.arange(points) + 0.5) / points
    return np.asarray(low * (high / low) ** cells)


def consensus(
    segmentations: Sequence[npt.ArrayLike],
    *,
    tolerance: float,
    standard_errors: Sequence[npt.ArrayLike] | None = None,
) -> Consensus:
    """Boundaries that seeds share, with the spread between seeds and within each kept apart.

    Parameters
    ----------
    segmentations
        For each seed its boundaries, in tokens or steps, positive; none is allowed.
    tolerance
        In log10. A group spans at most twice this and has one boundary of a seed.
    standard_errors
        For each seed the standard error of each boundary in log10, from its own fit: probe noise.

    Returns
    -------
    Consensus

    Raises
    ------
    ValueError
        If there is no seed, a boundary is not positive, or errors do not match.

    Notes
    -----
    Groups are taken greedily: the stretch of twice the tolerance that most seeds reach into, the
    tightest of several. The jackknife leaves out one seed at a time; of a mean its standard error is
    that of the mean. With few seeds it is itself uncertain by a factor 1 ± 1/√(2(m − 1)).
    """
    logs = [_logs(places) for places in segmentations]
    if not logs:
        raise ValueError("segmentations is empty; give one for each seed")
    errors = None
    if standard_errors is not None:
        errors = [np.asarray(e, dtype=np.float64) for e in standard_errors]
        if [e.shape for e in errors] != [x.shape for x in logs]:
            raise ValueError(
                "standard_errors do not match: give one for each boundary of each seed"
            )
    groups = sorted(_groups(logs, tolerance), key=lambda g: _centre(g, logs))
    members = np.full((len(logs), len(groups)), np.nan)
    probe = np.full(len(groups), np.nan)
    for column, group in enumerate(groups):
        for seed, number in group.items():
            members[seed, column] = logs[seed][number]
        if errors is not None:
            own = np.array([errors[seed][number] for seed, number in group.items()])
            probe[column] = np.sqrt((own**2).mean())
    found = [jackknife(column[np.isfinite(column)]) for column in members.T]
    means, error, low, high = np.array(found).reshape(-1, 4).T
    share = np.isfinite(members).mean(axis=0)
    return Consensus(10**means, share, error, 10**low, 10**high, probe, 10**members)


def jackknife(values: npt.ArrayLike) -> tuple[float, float, float, float]:
    """Mean over seeds, its jackknife standard error, and the 95 % interval by Student t.

    Parameters
    ----------
    values
        One number a seed, shape (seed,). With one seed error and interval are NaN.
    """
    x = np.asarray(values, dtype=np.float64)
    mean, nan = float(x.mean()), float("nan")
    if x.size < 2:
        return mean, nan, nan, nan
    without = (x.sum() - x) / (x.size - 1)
    error = float(np.sqrt((x.size - 1) * ((without - without.mean()) ** 2).mean()))
    half = float(student.ppf((1 + LEVEL) / 2, x.size - 1)) * error
    return mean, error, mean - half, mean + half


def _groups(logs: list[Array], tolerance: float) -> list[dict[int, int]]:
    """Seed to number of its boundary, for every group."""
    left = {(seed, number) for seed, own in enumerate(logs) for number in range(own.size)}
    groups = []
    while left:
        best: tuple[int, float, dict[int, int]] | None = None
        for seed, number in sorted(left):
            start = logs[seed][number]
            inside = sorted(
                (float(logs[s][n]), s, n) for s, n in left
                if start <= logs[s][n] <= start + 2 * tolerance
            )  # fmt: skip
            group: dict[int, int] = {}
            for _, s, n in inside:  # of a seed's own, the first
                group.setdefault(s, n)
            width = max(logs[s][n] for s, n in group.items()) - start
            if best is None or (-len(group), width) < best[:2]:
                best = (-len(group), float(width), group)
        assert best is not None
        groups.append(best[2])
        left -= set(best[2].items())
    return groups


def _centre(group: dict[int, int], logs: list[Array]) -> float:
    return float(np.mean([logs[seed][number] for seed, number in group.items()]))


def _logs(places: npt.ArrayLike) -> Array:
    array = np.asarray(places, dtype=np.float64).ravel()
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(f"boundaries are {array.tolist()}; give positive tokens or steps")
    return np.asarray(np.log10(array))


def _pairs(counts: npt.NDArray[np.float64] | npt.NDArray[np.int_]) -> float:
    return float((counts * (counts - 1.0)).sum() / 2)
