"""What the training text says of a passage: ∞-gram likelihood, and n-grams beside a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.means import clustered_mean

LIKELIHOODS = ("li2025_code", "per_token", "strict", "add_one")


def log_likelihood(
    probability: NDArray[Any],
    *,
    convention: str = "li2025_code",
    prompt_count: NDArray[Any] | None = None,
    continuation_count: NDArray[Any] | None = None,
    vocabulary: int | None = None,
) -> NDArray[np.float64]:
    """Log-likelihood of token sequences from the ∞-gram probability of each token.

    Parameters
    ----------
    probability : float array (…, position)
        Of the token that came next; 0 where it never followed the longest known suffix, NaN where
        there is none.
    convention
        What becomes of zeros. `li2025_code`: such tokens are left out of the product, as the paper's
        code does, and a sequence of nothing else is NaN. `per_token`: the same, divided by the number of
        tokens kept. `strict`: a product with a zero is zero, −∞, which ranks lowest. `add_one`:
        (count + 1) / (prompt count + vocabulary) for every token, never zero.
    prompt_count, continuation_count : int array (…, position)
        Occurrences of the longest known suffix, and of it before the token; for `add_one`.
    vocabulary
        Number of tokens; for `add_one`.

    Returns
    -------
    float64 array (…)
        In nats; NaN for a sequence without tokens.

    Raises
    ------
    ValueError
        If the convention is unknown, or `add_one` lacks its counts.

    Notes
    -----
    arXiv 2509.23024, App. C, and its published code; ∞-gram: arXiv 2401.17377, §2. Memory: two copies.
    """
    if convention not in LIKELIHOODS:
        raise ValueError(f"convention is {convention!r}; give one of {', '.join(LIKELIHOODS)}")
    p = np.asarray(probability, np.float64)
    there = ~np.isnan(p)
    if convention == "add_one":
        if prompt_count is None or continuation_count is None or vocabulary is None:
            raise ValueError("add_one needs prompt_count, continuation_count and vocabulary")
        counts, prompts = (np.asarray(c, np.float64) for c in (continuation_count, prompt_count))
        p = (counts + 1) / (prompts + float(vocabulary))
    kept = there if convention in ("strict", "add_one") else there & (p > 0)
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(kept, p, 1.0))
    number = kept.sum(-1)
    total = logs.sum(-1) / np.where(number > 0, number, 1) if convention == "per_token" else None
    found = logs.sum(-1) if total is None else total
    return np.asarray(np.where(number > 0, found, np.nan), np.float64)


class Shares(NamedTuple):
    """Shares of tokens by bin, with standard errors and intervals; each (bin,)."""

    value: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def suffix_shares(
    suffix_length: NDArray[Any], groups: NDArray[Any], upto: NDArray[Any], *, level: float = 0.95
) -> Shares:
    """Share of tokens whose longest known suffix has so many tokens.

    Parameters
    ----------
    suffix_length : int array (sample, position)
        −1 where there is no token.
    groups : int array (sample,)
        The unit of resampling.
    upto : int array (bin,)
        The longest suffix of each bin, ascending; a bin begins above the one before it, the first at 0.

    Returns
    -------
    Shares
        They sum to 1 if the last bin holds the longest. The interval is Student's, clustered by group.

    Notes
    -----
    Table 7 of arXiv 2509.23024 has ≤3, 4, 5, 6, 7, 8 and >8.
    """
    length = np.asarray(suffix_length)
    place = np.searchsorted(np.asarray(upto), length)
    rows = [
        clustered_mean(np.where(length < 0, np.nan, (place == i) + 0.0), groups, level=level)
        for i in range(len(upto))
    ]
    return Shares(*(np.array(column) for column in zip(*rows, strict=True)))


class Agreement(NamedTuple):
    """One context: divergence in nats, and whether both have one favourite."""

    divergence: float
    agrees: bool


def compare_next(
    tokens: NDArray[Any], counts: NDArray[Any], log_probability: NDArray[Any]
) -> Agreement:
    """An n-gram's next-token distribution beside a model's.

    Parameters
    ----------
    tokens : int array (support,)
        Tokens that followed the n-gram's prompt.
    counts : int array (support,)
        How often; positive.
    log_probability : float array (vocabulary,)
        The model's, in nats; it sums to 1 over the same vocabulary.

    Returns
    -------
    Agreement
        KL(n-gram ‖ model) = Σ p ln(p / q) over the support, and whether the model's most likely token
        is one that followed most often (several may share that place).

    Raises
    ------
    ValueError
        If there is no support, or a count is not positive.

    Notes
    -----
    Akyürek et al., arXiv 2401.12973; Nguyen, arXiv 2407.12034. KL in this direction is finite for any
    softmax, and needs no smoothing of the n-gram.
    """
    number = np.asarray(counts, np.float64)
    if number.size == 0 or bool((number <= 0).any()):
        raise ValueError("counts must be positive, and there must be one")
    logs = np.asarray(log_probability, np.float64)
    p = number / number.sum()
    divergence = float((p * (np.log(p) - logs[np.asarray(tokens)])).sum())
    favourites = np.asarray(tokens)[number == number.max()]
    return Agreement(divergence, bool(int(logs.argmax()) in favourites))
