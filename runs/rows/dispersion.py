"""Rows of dispersion: participation ratio, stable rank, spectral entropy, condition, anisotropy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import dispersion
from geometry.bands import resolved_ranks
from geometry.spectrum import eigenvalues as spectrum_of_points
from runs.rows.base import ESTIMATE, Read, Reduce, Row
from runs.rows.points import JACKKNIFE, POINTS, last_tokens

Floats = NDArray[np.float64]
_NERVE = "Gao et al. 2017; NerVE, 2603.06922"
_STABLE = "Rudelson & Vershynin 2007, math/0503442"
_ENTROPY = "Roy & Vetterli 2007; 2509.23024 eq. 1: −Σ p ln p, p = λ / Σλ, centred"


def _of_points(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    group: NDArray[Any],
    *,
    measure: str,
    centered: bool = True,
) -> tuple[Any, ...]:
    """One number of `DISPERSION` of the last tokens, with its interval."""
    x, group = last_tokens(x, kept, last, group)
    return tuple(dispersion.dispersion_interval(x, measure, centered=centered, groups=group))


def _condition(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    group: NDArray[Any],
    *,
    rank: int | None,
) -> tuple[Any, ...]:
    """Condition number of the last tokens with its interval, and the rank r it ends at."""
    x, group = last_tokens(x, kept, last, group)
    measure = "condition_number" if rank is None else f"condition_{rank}"
    found = dispersion.dispersion_interval(x, measure, groups=group)
    ends = resolved_ranks(spectrum_of_points(x), samples=len(x)) if rank is None else rank
    return (*found, float(ends))


def _mean_cosine(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any]
) -> tuple[Any, ...]:
    """Mean cosine of the last tokens, with its interval."""
    x, group = last_tokens(x, kept, last, group)
    return tuple(dispersion.mean_cosine_interval(x, groups=group))


def _normalised(eigenvalues: Floats, n: Any) -> Floats:
    """Spectral entropy of a streamed spectrum of n rows, over ln of the directions it can fill."""
    room = dispersion.fillable(int(n), len(eigenvalues))
    return dispersion.spectral_entropy(eigenvalues, directions=room)


def _points(name: str, convention: str, unit: str, source: str, **options: Any) -> Row:
    """A row of a number of `DISPERSION`."""
    scale = options.pop("scale", "")
    default = options.pop("default", True)
    return Reduce(
        name,
        convention,
        POINTS,
        partial(_of_points, **options),
        unit=unit,
        source=source,
        interval=JACKKNIFE + scale,
        default=default,
    )


def _streamed(
    name: str,
    convention: str,
    function: Callable[..., Any],
    unit: str,
    source: str,
    *,
    centering: str = "centered",
    counted: bool = False,
    default: bool = True,
) -> Row:
    """A row of a streamed spectrum; a fold has too few rows for its spread to be an honest interval."""
    reads = (
        Read("moments/eigenvalues", ("rank",), {"centering": centering, "fold": 0}),
        Read("moments/n", (), {"fold": 0}),
    )
    return Reduce(
        f"{name}_streamed",
        convention,
        reads if counted else reads[:1],
        function,
        unit=unit,
        source=source,
        outputs=("value",),
        default=default,
    )


def _rows() -> list[Row]:
    rows: list[Row] = []
    for name, function, source in (
        ("participation_ratio", dispersion.participation_ratio, _NERVE),
        ("stable_rank", dispersion.stable_rank, _STABLE),
    ):
        for convention in ("centered", "uncentered"):
            centered = convention == "centered"
            rows.append(
                _points(
                    name,
                    convention,
                    "directions",
                    source,
                    measure=name,
                    centered=centered,
                    scale=", on its logarithm",
                    default=centered,
                )
            )
            rows.append(
                _streamed(
                    name,
                    convention,
                    function,
                    "directions",
                    source,
                    centering=convention,
                    default=centered,
                )
            )
    rows += [
        _points(
            "spectral_entropy", "nats", "nats", _ENTROPY, measure="spectral_entropy", default=False
        ),
        _points(
            "spectral_entropy",
            "normalised",
            "1",
            f"{_ENTROPY}; over ln min(n − 1, d)",
            measure="normalised_entropy",
            default=False,
        ),
        _streamed(
            "spectral_entropy", "nats", dispersion.spectral_entropy, "nats", _ENTROPY, default=False
        ),
        _streamed(
            "spectral_entropy",
            "normalised",
            _normalised,
            "1",
            f"{_ENTROPY}; over ln min(n − 1, d)",
            counted=True,
            default=False,
        ),
        Reduce(
            "anisotropy",
            "ethayarajh2019",
            POINTS,
            _mean_cosine,
            unit="1",
            source="1909.00512: mean cosine over all pairs of distinct points, not centred",
            interval=JACKKNIFE,
        ),
        _points(
            "anisotropy",
            "razzhigaev2023",
            "1",
            "2311.05928: σ1² / Σσ², centred; 1 / stable rank",
            measure="leading_share",
            scale=", on its logarithm",
            default=False,
        ),
    ]
    for convention, rank in (("resolved", None), ("rank100", 100)):
        ends = "the last above 1e-12 λ1" if rank is None else str(rank)
        rows.append(
            Reduce(
                "condition_number",
                convention,
                POINTS,
                partial(_condition, rank=rank),
                unit="1",
                source=f"λ1 / λr of the centred covariance, r = {ends}",
                interval=f"{JACKKNIFE}, on its logarithm",
                outputs=(*ESTIMATE, "last"),
                default=False,
            )
        )
    return rows


ROWS = _rows()
