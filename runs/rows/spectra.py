"""Rows of the eigenspectrum: RankMe and α-ReQ under every convention, of points and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import intervals, spectrum
from geometry.spectrum import ALPHA_CONVENTIONS, RANKME_CONVENTIONS
from runs.rows.base import ESTIMATE, Read, Reduce, Row
from runs.rows.points import FOLDS, JACKKNIFE, POINTS, last_tokens

Floats = NDArray[np.float64]
_ALL: Mapping[str, str | int] = {"centering": "centered", "fold": 0}


def _rankme(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any], *, convention: str
) -> tuple[Any, ...]:
    """RankMe of the last tokens of one (checkpoint, layer), with its interval."""
    x, group = last_tokens(x, kept, last, group)
    return tuple(intervals.rankme_interval(x, convention=convention, groups=group))


def _alpha_req(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    group: NDArray[Any],
    *,
    ranks: tuple[int, int],
) -> tuple[Any, ...]:
    """α-ReQ of the last tokens, with its interval and the fit's R²."""
    x, group = last_tokens(x, kept, last, group)
    estimate = intervals.alpha_req_interval(x, ranks=ranks, groups=group)
    return (*estimate, spectrum.alpha_req_fit(spectrum.eigenvalues(x), ranks=ranks).r2)


def _eigenspectrum(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any], *, centered: bool
) -> Floats:
    """Eigenvalues of the last tokens' covariance, zeros appended up to the width."""
    x, _ = last_tokens(x, kept, last, group)
    values = spectrum.eigenvalues(x, centered=centered)
    return np.pad(values, (0, x.shape[1] - len(values)))


def _rankme_streamed(eigenvalues: Floats, n: NDArray[Any], *, convention: str) -> tuple[Any, ...]:
    """RankMe of streamed spectra (fold, rank) of n rows; the interval is made on its logarithm."""
    # Eigenvalues beyond the number of rows are padding, and an eps would count them.
    spectra = [row[: int(count)] for row, count in zip(eigenvalues, n, strict=True)]
    values = np.log([spectrum.rankme(s, convention=convention) for s in spectra])
    estimate = intervals.fold_interval(values)
    return (
        np.exp(estimate.value),
        estimate.standard_error,
        np.exp(estimate.lower),
        np.exp(estimate.upper),
    )


def _alpha_req_streamed(eigenvalues: Floats, *, ranks: tuple[int, int]) -> Floats:
    """α-ReQ of a streamed spectrum (rank,)."""
    return spectrum.alpha_req(eigenvalues, ranks=ranks)


def _rows() -> list[Row]:
    rows: list[Row] = []
    for name, rule in RANKME_CONVENTIONS.items():
        rows.append(
            Reduce(
                "rankme",
                name,
                POINTS,
                partial(_rankme, convention=name),
                unit="directions",
                source=rule.source,
                interval=f"{JACKKNIFE}, on ln RankMe",
            )
        )
        rows.append(
            Reduce(
                "rankme_streamed",
                name,
                (
                    Read(
                        "moments/eigenvalues",
                        ("fold", "rank"),
                        {"centering": rule.centering},
                    ),
                    Read("moments/n", ("fold",)),
                ),
                partial(_rankme_streamed, convention=name),
                unit="directions",
                source=rule.source,
                interval=f"{FOLDS}, on ln RankMe",
            )
        )
    for name, ranks in ALPHA_CONVENTIONS.items():
        fitted = f"ranks {ranks[0]}–{ranks[1]}, weight 1/rank"
        rows.append(
            Reduce(
                "alpha_req",
                name,
                POINTS,
                partial(_alpha_req, ranks=ranks),
                unit="1",
                source=f"α-ReQ (Agrawal et al. 2022), {fitted}; 2509.23024 §3",
                interval=JACKKNIFE,
                outputs=(*ESTIMATE, "r2"),
                version=2,  # no R² of a flat spectrum
            )
        )
        rows.append(
            Reduce(
                "alpha_req_streamed",
                name,
                (Read("moments/eigenvalues", ("rank",), _ALL),),
                partial(_alpha_req_streamed, ranks=ranks),
                unit="1",
                source=f"α-ReQ (Agrawal et al. 2022), {fitted}",
                # A fold has too few rows for its spread to be honest; alpha_req has an interval.
                outputs=("value",),
            )
        )
    for name in ("centered", "uncentered"):
        rows.append(
            Reduce(
                "eigenspectrum",
                name,
                POINTS,
                partial(_eigenspectrum, centered=name == "centered"),
                unit="squared activation",
                source="eigenvalues of the covariance divided by n, descending; 2509.23024 §3",
                outputs=("value",),
                core=("rank",),
            )
        )
    return rows


ROWS = _rows()
