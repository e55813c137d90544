"""Entropy of attention rows and heads, and what a row's logits allow it to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from attention.row_bounds import row_bounds

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class HeadEntropyConvention:
    """One way from rows to a head.

    Attributes
    ----------
    name : str
        Key in `HEAD_ENTROPY_CONVENTIONS`.
    per_sequence : bool
        Average the rows of a sequence first, then sequences; otherwise all rows alike.
    normalised : bool
        Divide each row by ln(visible keys) first and leave out rows that see one key.
    source : str
        Where the definition comes from.
    nan_is_zero : bool
        A row that is NaN counts as one of 0 nats, instead of spoiling or leaving its head's mean.
    """

    name: str
    per_sequence: bool
    normalised: bool
    source: str
    nan_is_zero: bool = False


HEAD_ENTROPY_CONVENTIONS: Mapping[str, HeadEntropyConvention] = MappingProxyType(
    {
        row.name: row
        for row in (
            HeadEntropyConvention(
                "zhai2023", False, False, "2303.06296 §3: all rows, heads, examples"
            ),
            HeadEntropyConvention(
                "jha2025_paper", True, False, "2501.03489 eq. 7: (1/T) Σ_i, row 0 too"
            ),
            HeadEntropyConvention(
                "jha2025_code",
                False,
                False,
                "entropy_regularization.py of 2501.03489: nansum, all rows alike",
                nan_is_zero=True,
            ),
            HeadEntropyConvention("normalised_visible", False, True, "H_i / ln(visible keys)"),
        )
    }
)


def row_entropy(p: ArrayLike, axis: int = -1) -> FloatArray:
    """Entropy −Σ p ln p of probabilities, in nats.

    Parameters
    ----------
    p : array (…)
        Probabilities along `axis`; 0 ln 0 is 0, NaN stays NaN.
    axis
        The axis of keys.

    Returns
    -------
    float64 array
        Without `axis`. Costs one float64 copy of p.
    """
    total: FloatArray = entr(np.asarray(p, dtype=np.float64)).sum(axis=axis)
    return total


def row_entropy_with_epsilon(p: ArrayLike, axis: int = -1, *, eps: float = 1e-9) -> FloatArray:
    """−nansum p ln(p + eps), as the code of arXiv 2501.03489 has it: to compare with, not to use.

    Parameters
    ----------
    p : array (…)
        Probabilities along `axis`.
    axis
        The axis of keys.
    eps
        Added inside the logarithm.

    Returns
    -------
    float64 array
        Without `axis`; between 0 and n · eps below `row_entropy` for rows of n keys. A row of NaN is 0: a
        head whose numbers have failed looks like one that attends to a single key.
    """
    values = np.asarray(p, dtype=np.float64)
    total: FloatArray = -np.nansum(values * np.log(values + eps), axis=axis)
    return total


def entropy_bounds(row_norm: ArrayLike, n: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest entropy that a row of n logits with a given centred norm can have.

    Parameters
    ----------
    row_norm : array (…)
        ‖s − mean(s)‖₂ over the visible logits.
    n : array (…)
        Visible keys, broadcast against `row_norm`.

    Returns
    -------
    lower, upper : float64 arrays
        In nats; both 0 at n = 1 and equal at n = 2; NaN where an argument is.

    Raises
    ------
    ValueError
        If an n is below 1 or a norm is negative.

    Notes
    -----
    With g = r √(n/(n−1)) and b = e^(−g) the lower bound is ln(1 + (n−1)b) + (n−1) g b / (1 + (n−1)b):
    one logit above the others (arXiv 2303.06296, Theorem 3.1, per row). The upper one is its mirror,
    one logit below the others, ln(n−1+b) + g b / (n−1+b); numerically tight, not in the paper and
    not proven.
    """
    r, count = np.broadcast_arrays(
        np.asarray(row_norm, dtype=np.float64), np.asarray(n, dtype=np.float64)
    )
    if (count < 1).any() or (r < 0).any():
        raise ValueError(
            f"n is {np.nanmin(count):g} and row_norm {np.nanmin(r):g} at the least; "
            "give n of 1 or more and norms of 0 or more"
        )
    lower, upper = row_bounds(torch.from_numpy(r.copy()), torch.from_numpy(count.copy()))
    return lower.numpy(), upper.numpy()


def head_entropy(
    rows: ArrayLike, *, convention: str = "zhai2023", visible: ArrayLike | None = None
) -> FloatArray:
    """One number a head from the entropies of its rows.

    `zhai2023` averages all valid rows of all samples alike (arXiv 2303.06296 §3). `jha2025_paper`
    averages the T rows of each sample, the first row with its H = 0 among them, then the samples (arXiv
    2501.03489 Eq. 7); with padding T is the sample's own length, so short samples weigh as much
    as long ones. The two are equal when every sample is full. `jha2025_code` is `zhai2023` with every
    row that is NaN counted as one of 0 nats; its 1e-9 inside the logarithm takes less than n · 1e-9 from
    a row of n keys, below a float32 entropy's rounding, and is left out. `normalised_visible` averages
    H / ln(visible keys) over rows that see at least two, where 1 is uniform attention.

    Parameters
    ----------
    rows : array (head, sample, position)
        Row entropies in nats; NaN at padded queries, which count for nothing.
    convention
        A key of `HEAD_ENTROPY_CONVENTIONS`.
    visible : array broadcastable to `rows`, optional
        Visible keys; needed by `normalised_visible`, and by `jha2025_code`, which tells by a number
        here that a NaN row is no padding.

    Returns
    -------
    float64 array (head,)
        NaN where a head has no row; a sample without one counts for nothing. Costs two float64
        copies of rows.

    Raises
    ------
    ValueError
        If the convention is unknown or lacks `visible`.
    """
    rule = HEAD_ENTROPY_CONVENTIONS.get(convention)
    if rule is None:
        raise ValueError(
            f"convention is {convention!r}; give one of {', '.join(HEAD_ENTROPY_CONVENTIONS)}"
        )
    values = np.asarray(rows, dtype=np.float64)
    if rule.normalised or rule.nan_is_zero:
        if visible is None:
            raise ValueError(
                f"convention {convention!r} needs visible, the visible keys of each row"
            )
        seen = np.broadcast_to(np.asarray(visible, dtype=np.float64), values.shape)
    if rule.nan_is_zero:
        values = np.where(np.isnan(values) & (seen > 0), 0.0, values)
    if rule.normalised:
        values = np.where(seen > 1, values, np.nan) / np.log(np.where(seen > 1, seen, 2.0))
    if rule.per_sequence:
        values = _mean(values, axis=-1)
        return _mean(values, axis=-1)
    return _mean(values.reshape(len(values), -1), axis=-1)


def _mean(values: FloatArray, axis: int) -> FloatArray:
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: FloatArray = np.where(there, values, 0.0).sum(axis) / there.sum(axis)
    return mean
