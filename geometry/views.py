"""Measures of paired views: how well two states of one group are told from those of other groups.

A group is whatever the inputs name: paraphrases, passages of one document, prompts of one task. LiDAR
takes groups of two or more as surrogate classes; DiME and InfoNCE take the first two members of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.special import entr, logsumexp

from geometry.matrix_entropy import trace_one_entropy
from geometry.spectrum import FloatArray

_NAN = float("nan")


@dataclass(frozen=True)
class LidarConvention:
    """One reading of LiDAR: eigenvalues λ of (Σ_w + δI)^−1/2 Σ_b (Σ_w + δI)^−1/2, p = λ/Σλ + eps.

    Attributes
    ----------
    name
        Key in `LIDAR_CONVENTIONS`.
    delta
        Ridge, in squared units of the states: not invariant under scaling.
    eps
        Added to every p after normalising.
    exponential
        Whether the value is exp S (directions) or S (nats).
    source
        Where the definition comes from.
    """

    name: str
    delta: float
    eps: float
    exponential: bool
    source: str


LIDAR_CONVENTIONS: Mapping[str, LidarConvention] = MappingProxyType(
    {
        row.name: row
        for row in (
            LidarConvention(
                "thilak2023", 1e-4, 0.0, True, "Thilak et al. 2023, 2312.04000, eqs. 1–3; no eps"
            ),
            LidarConvention(
                "skean2025",
                1e-4,
                0.0,
                False,
                "Skean et al. 2025, 2502.02013, code: entropy, no exp",
            ),
        )
    }
)


class Views(NamedTuple):
    """Two matched matrices (group, feature): row g of each is of the same group."""

    first: FloatArray
    second: FloatArray


def paired_views(x: ArrayLike, groups: ArrayLike) -> Views:
    """The first two members of every group that has two or more.

    Parameters
    ----------
    x
        States, shape (sample, feature).
    groups
        Integer labels, shape (sample,).

    Returns
    -------
    Views
        Groups in the order of their labels; of no group, two empty matrices.

    Raises
    ------
    ValueError
        If shapes do not match.
    """
    array, codes, sizes = _grouped(x, groups)
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    firsts = starts[sizes >= 2]
    return Views(array[order[firsts]], array[order[firsts + 1]])


def lidar(x: ArrayLike, groups: ArrayLike, *, convention: str = "thilak2023") -> float:
    """Effective rank of what tells groups apart beyond what varies within them.

    Parameters
    ----------
    x
        States, shape (sample, feature), any real dtype.
    groups
        Integer labels, shape (sample,); groups of one member are left out.
    convention
        A key of `LIDAR_CONVENTIONS`.

    Returns
    -------
    float
        At most min(groups − 1, feature) directions, or its logarithm. NaN with fewer than two
        groups of two members, without a difference between groups, or if a state is not finite.

    Raises
    ------
    ValueError
        If shapes do not match or the convention is unknown.

    Notes
    -----
    Thilak et al. 2023, 2312.04000, eqs. 1–3: Σ_b is the mean over classes of squared deviations of
    class means from their mean, Σ_w the mean over classes of each class's own. Classes weigh the same
    whatever their size. Invariant under rotation and translation; under scaling by c only with δ c².
    Cost: a generalised symmetric eigenvalue problem of size d; memory: four d² float64 matrices.
    """
    if convention not in LIDAR_CONVENTIONS:
        raise ValueError(
            f"convention is {convention!r}; give one of {', '.join(LIDAR_CONVENTIONS)}"
        )
    rule = LIDAR_CONVENTIONS[convention]
    array, codes, sizes = _grouped(x, groups)
    classes = np.flatnonzero(sizes >= 2)
    if len(classes) < 2 or not np.isfinite(array).all():
        return _NAN
    kept = np.isin(codes, classes)
    array, codes = array[kept], np.searchsorted(classes, codes[kept])
    sizes = sizes[classes].astype(np.float64)
    means = np.zeros((len(classes), array.shape[1]))
    np.add.at(means, codes, array)
    means /= sizes[:, None]
    between = means - means.mean(axis=0)
    # Each class's squared deviations are divided by its size, and classes are averaged.
    within = (array - means[codes]) / np.sqrt(sizes[codes] * len(classes))[:, None]
    scatter = within.T @ within
    scatter[np.diag_indices_from(scatter)] += rule.delta
    values = eigh(between.T @ between / len(classes), scatter, eigvals_only=True).clip(0.0)
    # What is left of directions beyond the rank is rounding.
    values[values < 8 * np.finfo(np.float64).eps * len(values) * values.max()] = 0.0
    if values.sum() == 0.0:
        return _NAN
    entropy = float(entr(values / values.sum() + rule.eps).sum())
    return float(np.exp(entropy)) if rule.exponential else entropy


class InfoNCE(NamedTuple):
    """The contrastive loss, and the bound ln N − loss on mutual information; both in nats."""

    loss: float
    bound: float


def infonce(first: ArrayLike, second: ArrayLike, *, temperature: float = 0.1) -> InfoNCE:
    """How well the second view of a group is picked out among all groups' by its cosine.

    Parameters
    ----------
    first, second
        Matched views, shapes (group, feature).
    temperature
        Divides the cosines.

    Returns
    -------
    InfoNCE
        loss: mean over g of −ln softmax_h(cos(first_g, second_h) / temperature) at h = g, between 0 and
        ln N for views no better than chance, above it for worse. NaN with fewer than two groups or
        if a state is 0 or not finite.

    Raises
    ------
    ValueError
        If shapes do not match or the temperature is not positive.

    Notes
    -----
    van den Oord et al. 2018, 1807.03748, with the cosine and temperature of SimCLR (2002.05709); one
    direction, first to second, as in the code of Skean et al. 2025, which divides the bound by
    ln N. The bound cannot pass ln N. Memory: one N² float64 matrix.
    """
    a, b = _matched(first, second)
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; give a positive one")
    if len(a) < 2 or not _directed(a, b):
        return InfoNCE(_NAN, _NAN)
    logits = _units(a) @ _units(b).T / temperature
    loss = float((logsumexp(logits, axis=1) - np.diag(logits)).mean())
    return InfoNCE(loss, float(np.log(len(a))) - loss)


def dime(first: ArrayLike, second: ArrayLike, *, permutations: int = 10, seed: int = 0) -> float:
    """Difference of matrix-based entropies: how much less two views spread jointly than unpaired.

    Parameters
    ----------
    first, second
        Matched views, shapes (group, feature).
    permutations
        How many random pairings stand for "unpaired".
    seed
        Of their generator.

    Returns
    -------
    float
        Nats: mean over permutations P of S(K₁ ∘ P K₂ Pᵀ) − S(K₁ ∘ K₂), K the Gram matrices of the
        states divided by their norm, over N. Positive where the pairing carries information. NaN with
        fewer than two groups or if a state is 0 or not finite.

    Raises
    ------
    ValueError
        If shapes do not match or there is no permutation.

    Notes
    -----
    Skean et al. 2023, 2301.08164, with the linear kernel of Skean et al. 2025. There the smaller of Gram
    matrix and covariance is taken, and of a covariance features, not samples, would be permuted; here
    it is always the Gram matrix. Invariant under rotation and scaling of either view. Cost:
    permutations + 1 eigenvalue problems of size N; memory: four N² float64 matrices.
    """
    a, b = _matched(first, second)
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}; give at least 1")
    if len(a) < 2 or not _directed(a, b):
        return _NAN
    one, other = (_gram(x) for x in (a, b))
    generator = np.random.default_rng(seed)
    unpaired = []
    for _ in range(permutations):
        shuffled = generator.permutation(len(a))
        unpaired.append(_joint_entropy(one, other[np.ix_(shuffled, shuffled)]))
    return float(np.mean(unpaired)) - _joint_entropy(one, other)


def _grouped(
    x: ArrayLike, groups: ArrayLike
) -> tuple[FloatArray, NDArray[np.intp], NDArray[np.intp]]:
    """States in float64, each one's group from 0, and the groups' sizes."""
    array, labels = np.asarray(x, dtype=np.float64), np.asarray(groups)
    if array.ndim != 2 or labels.shape != array.shape[:1]:
        raise ValueError(
            f"x has shape {array.shape} and groups {labels.shape}; give (sample, feature), (sample,)"
        )
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return array, codes, sizes


def _matched(first: ArrayLike, second: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"views have shapes {a.shape} and {b.shape}; give (group, feature) twice")
    return a, b


def _directed(*views: FloatArray) -> bool:
    """Whether every state is finite and not 0."""
    return all(np.isfinite(v).all() and (np.linalg.norm(v, axis=1) > 0).all() for v in views)


def _units(x: FloatArray) -> FloatArray:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def _gram(x: FloatArray) -> FloatArray:
    units = _units(x)
    return np.asarray(units @ units.T)


def _joint_entropy(one: FloatArray, other: FloatArray) -> float:
    """Entropy of the elementwise product of two kernels, which is positive semidefinite (Schur)."""
    values = np.linalg.eigvalsh(one * other).clip(0.0)
    return trace_one_entropy(values)
