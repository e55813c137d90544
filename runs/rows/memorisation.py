"""Rows of memorisation: what the training text says of a set, beside what the model says."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.infinigram import LIKELIHOODS, log_likelihood, suffix_shares
from probes.means import clustered_mean
from probes.rank_correlation import spearman
from runs.rows.base import ESTIMATE, Read, Reduce, Row
from runs.rows.points import CLUSTERS

_PLACES = ("sample", "ngram_position")
_ZEROS = {
    "li2025_code": "tokens of ∞-gram probability 0 left out",
    "per_token": "mean over tokens, those of ∞-gram probability 0 left out",
    "strict": "a passage with a token of ∞-gram probability 0 ranks lowest",
    "add_one": "(count + 1) / (prompt count + vocabulary)",
}


def _memorisation(
    probability: NDArray[Any],
    prompt_count: NDArray[Any],
    count: NDArray[Any],
    vocabulary: Any,
    surprisal: NDArray[Any],
    group: NDArray[Any],
    *,
    convention: str,
) -> tuple[float, ...]:
    """ρ between ∞-gram and model likelihood of the passages, or of their answers (sample,)."""
    corpus = log_likelihood(
        probability,
        convention=convention,
        prompt_count=prompt_count,
        continuation_count=count,
        vocabulary=int(vocabulary),
    )
    there = ~np.isnan(surprisal) & ~np.isnan(probability)
    number = there.sum(-1)
    model = -np.where(there, surprisal, 0.0).sum(-1, dtype=np.float64)
    if convention == "per_token":
        model = model / np.where(number > 0, number, 1)
    return tuple(spearman(corpus, np.where(number > 0, model, np.nan), group))


def _over_contexts(
    values: NDArray[Any], used: NDArray[Any], group: NDArray[Any], order: Any, *, seen: bool
) -> tuple[float, ...]:
    """Mean over contexts (context,); with `seen` over those whose prompt of this order is known."""
    kept = np.where(used == int(order), values, np.nan) if seen else values
    return tuple(clustered_mean(kept[:, None], group))


def _ngram_row(name: str, variable: str, convention: str, unit: str, what: str) -> Row:
    one = ("ngram_context",)
    return Reduce(
        name,
        convention,
        (
            Read(f"ngrams/{variable}", one),
            Read("ngrams/order_used", one),
            Read("ngrams/context_group", one),
            Read("ngrams/order"),
        ),
        partial(_over_contexts, seen=convention == "seen"),
        unit=unit,
        source=f"{what}, arXiv 2407.12034; "
        + ("contexts known at this order" if convention == "seen" else "backs off where unknown"),
        interval=CLUSTERS,
    )


ROWS: list[Row] = [
    *(
        Reduce(
            "memorisation",
            convention,
            (
                Read("infinigram/probability", _PLACES),
                Read("infinigram/prompt_count", _PLACES),
                Read("infinigram/continuation_count", _PLACES),
                Read("infinigram/vocabulary"),
                Read("tokens/surprisal", ("sample", "position")),
                Read("inputs/group", ("sample",)),
            ),
            partial(_memorisation, convention=convention),
            unit="1",
            source=f"Spearman of ∞-gram and model likelihood, 2509.23024 Fig. 3A; {_ZEROS[convention]}",
            interval="infinitesimal jackknife by group, Fisher's z, 95 %",
            outputs=(*ESTIMATE, "documents"),
            version=2,
        )
        for convention in LIKELIHOODS
    ),
    Reduce(
        "suffix_length",
        "li2025",
        (
            Read("infinigram/suffix_length", _PLACES),
            Read("inputs/group", ("sample",)),
            Read("infinigram/suffix_bin", ("suffix_bin",)),
        ),
        suffix_shares,
        unit="1",
        source="share of tokens by longest known suffix, 2509.23024 Table 7",
        interval=CLUSTERS,
        core=("suffix_bin",),
    ),
    *(
        _ngram_row("ngram_divergence", "divergence", c, "nats", "KL(n-gram ‖ model)")
        for c in ("backoff", "seen")
    ),
    *(
        _ngram_row("ngram_agreement", "agrees", c, "1", "share of contexts with one favourite")
        for c in ("backoff", "seen")
    ),
]
