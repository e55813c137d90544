"""Rows of predictive geometry: how hidden space looks to the next-token distribution."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import intervals, predictive, similarity, spectrum
from geometry.predictive import DIRICHLET_CONVENTIONS
from geometry.spectrum import ALPHA_CONVENTIONS
from runs.rows.base import Read, Reduce, Row
from runs.rows.points import FOLDS, POINTS, last_tokens

Floats = NDArray[np.float64]
_SPECTRUM = "fisher/eigenvalues"
_KERNEL = Read("contexts/kernel", ("context", "other_context"))
_FISHER = "G = Wᵀ diag(p̄) W − E[μ μᵀ], the mean pullback Fisher metric, 2507.19247 §6"


def _fisher_rankme(eigenvalues: Floats, *, convention: str) -> tuple[Any, ...]:
    """RankMe of the metric's spectra (fold, rank); the interval is made on its logarithm."""
    values = np.log(spectrum.rankme(eigenvalues, convention=convention))
    estimate = intervals.fold_interval(values)
    return (
        np.exp(estimate.value),
        estimate.standard_error,
        np.exp(estimate.lower),
        np.exp(estimate.upper),
    )


def _fisher_trace(eigenvalues: Floats) -> tuple[Any, ...]:
    """Trace of the metric: the mean variance of the unembedding's rows under p."""
    return tuple(intervals.fold_interval(eigenvalues.sum(axis=-1)))


def _fisher_alpha(eigenvalues: Floats) -> Floats:
    """Decay exponent of the metric's spectrum (rank,)."""
    return spectrum.alpha_req(eigenvalues, ranks=ALPHA_CONVENTIONS["li2025"])


def _contexts(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], kernel: NDArray[Any]
) -> tuple[Floats, NDArray[Any]]:
    """States and kernel of the contexts that the layer keeps; context i is point i."""
    x, _ = last_tokens(x, kept, last, None)
    count = min(len(x), len(kernel))
    return x[:count].astype(np.float64), kernel[:count, :count]


def _prediction_cka(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    kernel: NDArray[Any],
    *,
    debiased: bool,
) -> float:
    """CKA of a layer's linear kernel and the kernel of predictions; NaN if either holds NaN."""
    states, kernel = _contexts(x, kept, last, kernel)
    if not np.isfinite(states).all():
        return float("nan")
    states -= states.mean(axis=0)  # no change, and no digits lost to a large mean
    return similarity.kernel_cka(states @ states.T, kernel, debiased=debiased)


def _dirichlet(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    kernel: NDArray[Any],
    *,
    convention: str,
) -> float:
    """Dirichlet energy of a layer over the graph of alike predictions."""
    states, kernel = _contexts(x, kept, last, kernel)
    return predictive.dirichlet_energy(states, kernel, convention=convention)


ROWS: list[Row] = [
    *(
        Reduce(
            "fisher_rankme",
            name,
            (Read(_SPECTRUM, ("fold", "rank")),),
            partial(_fisher_rankme, convention=convention),
            unit="directions",
            source=f"RankMe ({name}) of {_FISHER}",
            interval=f"{FOLDS}, on ln RankMe",
            default=name == "li2025",
        )
        # Square roots of the metric's eigenvalues are lengths, as singular values of a cloud are.
        for name, convention in (("li2025", "li2025"), ("roy2007", "sigma_centered"))
    ),
    Reduce(
        "fisher_trace",
        "mean",
        (Read(_SPECTRUM, ("fold", "rank")),),
        _fisher_trace,
        unit="nats per squared activation",
        source=f"trace of {_FISHER}",
        interval=FOLDS,
    ),
    Reduce(
        "fisher_alpha",
        "li2025",
        (Read(_SPECTRUM, ("rank",), {"fold": 0}),),
        _fisher_alpha,
        unit="1",
        source=f"α-ReQ, ranks 12–100, weight 1/rank, of {_FISHER}",
        outputs=("value",),
    ),
    Reduce(
        "fisher_eigenspectrum",
        "mean",
        (Read(_SPECTRUM, (), {"fold": 0}),),
        np.asarray,
        unit="nats per squared activation",
        source=f"eigenvalues, descending, of {_FISHER}",
        outputs=("value",),
    ),
    Reduce(
        "effective_predictions",
        "von_neumann",
        (_KERNEL,),
        predictive.effective_number,
        unit="predictions",
        source="exp(−tr ρ ln ρ), ρ the Bhattacharyya kernel over n contexts; 2210.02410 eq. 2, of "
        "2507.19247 Def. 7.3",
        outputs=("value",),
    ),
    *(
        Reduce(
            "prediction_cka",
            name,
            (*POINTS[:3], _KERNEL),
            partial(_prediction_cka, debiased=name == "debiased"),
            unit="1",
            source="CKA of a layer's linear kernel with the Bhattacharyya kernel of predictions "
            "(2507.19247 Def. 7.3) over the same contexts; 1905.00414 eq. 1"
            + (", debiased HSIC, 2010.15327" if name == "debiased" else ""),
            outputs=("value",),
            default=name == "debiased",
            version=2 if name == "debiased" else 1,  # NaN where nothing but rounding is left
        )
        for name in ("debiased", "biased")
    ),
    *(
        Reduce(
            "dirichlet_energy",
            name,
            (*POINTS[:3], _KERNEL),
            partial(_dirichlet, convention=name),
            unit="squared activation" if name == "sum" else "1",
            source={
                "sum": "½ Σ_ij B_ij ‖h_i − h_j‖² over the contexts, B the kernel of predictions; "
                "after 2507.19247 eq. 7.6",
                "normalised": "Σ_ij B_ij ‖h_i − h_j‖² / Σ_ij ‖h_i − h_j‖²",
                "relative": "`normalised` over the mean of B between different contexts",
            }[name],
            outputs=("value",),
            version=1 if name == "sum" else 2,  # NaN where states do not vary but for rounding
        )
        for name in (DIRICHLET_CONVENTIONS[2], *DIRICHLET_CONVENTIONS[:2])
    ),
]
