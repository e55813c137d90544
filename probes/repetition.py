"""Random tokens that repeat: the stimulus of induction heads, and which rows tell what about a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORTEST = 3  # with a shorter period the previous token is the induction target too


@dataclass(frozen=True)
class Repetition:
    """How a sample of repeated tokens is laid out.

    Attributes
    ----------
    period : int
        Tokens before they come again, S.
    repeats : int
        How often they come, R.
    start : int
        Tokens before the first of them: 1 with a BOS, else 0.
    """

    period: int
    repeats: int
    start: int = 0

    @property
    def length(self) -> int:
        """Tokens of a sample."""
        return self.start + self.period * self.repeats

    @property
    def copies(self) -> NDArray[np.int64]:
        """Positions (copy, token) at which a token of the period is told by what came before it.

        The first token of each copy is left out: nothing says that the second copy begins, and from the
        third on something does, so copies are compared on the same tokens.
        """
        places = self.start + np.arange(self.period * self.repeats)
        return places.reshape(self.repeats, self.period)[:, 1:]


@dataclass(frozen=True)
class Reading:
    """Entries of an attention matrix, (query i, key i − Δ), and what their sum is divided by.

    Attributes
    ----------
    entries : mapping of int to int array
        Δ to queries.
    divisor : int
    """

    entries: Mapping[int, NDArray[np.int64]]
    divisor: int


def repeated_tokens(
    candidates: NDArray[Any], *, samples: int, period: int, repeats: int, seed: int
) -> NDArray[np.int32]:
    """Draw sequences of random tokens, each repeated whole.

    Parameters
    ----------
    candidates : int array (candidate,)
        Ids that may be drawn.
    samples, period, repeats
        How many sequences, of how many tokens, how often each comes.
    seed
        Decides the tokens; sample n is the same whatever `samples` is.

    Returns
    -------
    int32 array (sample, period · repeats)
        Within a period no token comes twice, so that a token has one earlier place in each copy and one
        token that followed it.

    Raises
    ------
    ValueError
        If there are fewer candidates than tokens a period, or the period is below 3.

    Notes
    -----
    Olsson et al. 2022 (arXiv 2209.11895, head activation evaluators) repeat 25 tokens four times;
    Nanda's mosaic repeats 50 or 100 twice. Both draw with replacement as far as their code is known.
    """
    if period < SHORTEST or repeats < 2:
        raise ValueError(
            f"period {period} must be {SHORTEST} or more and repeats {repeats} 2 or more"
        )
    if len(candidates) < period:
        raise ValueError(
            f"{len(candidates)} tokens cannot fill a period of {period} different ones"
        )
    rows = [
        np.random.default_rng([seed, n]).choice(len(candidates), period, replace=False)
        for n in range(samples)
    ]
    drawn = np.asarray(candidates)[np.array(rows, dtype=np.int64).reshape(samples, period)]
    found: NDArray[np.int32] = np.tile(drawn, (1, repeats)).astype(np.int32)
    return found


def middle_ids(size: int, special: set[int], *, share: float = 0.125) -> NDArray[np.int64]:
    """Ids of a vocabulary without special tokens and without its first and last share.

    Byte-pair vocabularies are numbered in the order of merging, so their first ids are bytes and the most
    common tokens, their last the least common ones.

    Parameters
    ----------
    size
        Ids in all.
    special
        Ids that are no text.
    share
        Share left out at either end, of what is text.

    Returns
    -------
    int64 array (candidate,)
    """
    text = np.array([i for i in range(size) if i not in special], dtype=np.int64)
    cut = int(len(text) * share)
    return text[cut : len(text) - cut]


def readings(layout: Repetition) -> dict[str, Reading]:
    """What each kind of head would give its attention to, by name.

    Let t count tokens after the start, S the period, A the attention of one head.

    =====================  ====================================================================
    previous               mean A[t, t − 1], t ≥ 1
    duplicate              mean A[t, t − S], t ≥ S
    induction              mean A[t, t − S + 1], t ≥ S: the token after the last earlier copy
    prefix_mean            mean over all entries A[t, t − mS + 1], t ≥ mS, m ≥ 1: the average over all
                           earlier copies, which a head that spreads its attention cannot bring to 1
    prefix_total           Σ_m A[t, t − mS + 1], mean over t ≥ S: at most 1
    previous_naive,        the whole diagonals of the matrix, a BOS included, for comparison:
    duplicate_naive,       Δ = 1, S and S − 1. The last has S(R − 1) + 1 entries, one more with a BOS, of
    induction_naive        which S(R − 1) are of rows that follow a repeated token
    =====================  ====================================================================

    Parameters
    ----------
    layout
        Of the samples.

    Returns
    -------
    dict of str to Reading

    Notes
    -----
    Olsson et al. 2022 (arXiv 2209.11895): previous-token and prefix matching (`prefix_mean`). Valid rows
    only, because on the naive diagonal a perfect head reads 0.9808 and a pure sink 0.0192 at S = 50,
    R = 2 with a BOS.
    """
    period, repeats, start, length = layout.period, layout.repeats, layout.start, layout.length

    def rows(first: int) -> NDArray[np.int64]:
        return np.arange(start + first, length)

    def diagonal(offset: int, first_row: int) -> Reading:
        queries = np.arange(first_row, length)
        return Reading({offset: queries}, len(queries))

    prefix = {m * period - 1: rows(m * period) for m in range(1, repeats)}
    return {
        "previous": diagonal(1, start + 1),
        "duplicate": diagonal(period, start + period),
        "induction": diagonal(period - 1, start + period),
        "prefix_mean": Reading(prefix, sum(map(len, prefix.values()))),
        "prefix_total": Reading(prefix, len(rows(period))),
        "previous_naive": diagonal(1, 1),
        "duplicate_naive": diagonal(period, period),
        "induction_naive": diagonal(period - 1, period - 1),
    }


def later_rows(layout: Repetition) -> NDArray[np.int64]:
    """Queries of the second and later copies but for each copy's first token.

    At these no kind of head of `readings` looks at the first key of a sample, so that attention there is
    a sink's.
    """
    found: NDArray[np.int64] = layout.copies[1:].ravel()
    return found
