"""What the suite can compute: one pure function in a kernel folder and one row here.

Three kinds of row: `Reduce` turns captured variables into numbers, `Pair` two checkpoints into numbers;
a `visit` (runs/visits.py) runs while a checkpoint's weights are loaded and is a product of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from geometry.spectrum import ALPHA_CONVENTIONS, RANKME_CONVENTIONS
from runs import readings

ESTIMATE = ("value", "standard_error", "lower", "upper")
LEVEL = 0.95


@dataclass(frozen=True)
class Read:
    """One captured variable a row reads.

    Attributes
    ----------
    variable : str
        `PRODUCT/VARIABLE` of the set.
    core : tuple of str
        Dimensions the function consumes; every other one broadcasts.
    select : mapping
        Coordinates picked beforehand.
    """

    variable: str
    core: tuple[str, ...] = ()
    select: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One measure with one convention.

    Attributes
    ----------
    name, convention : str
        What `measure(tree, name, convention=…)` takes.
    reads : tuple of Read
        In the order of the function's arguments.
    function
        Arrays in, one array or a tuple of arrays out, in the order of `outputs`.
    outputs : tuple of str
        Names of the results; the first is `value`.
    unit, source, interval : str
        Unit, where the definition is from, and how its interval is made.
    core : tuple of str
        Dimensions of every output that the function adds.
    version : int
        Raised when numbers change; stale results are then computed again.
    default : bool
        Whether `run` computes it unasked.
    """

    name: str
    convention: str
    reads: tuple[Read, ...]
    function: Callable[..., Any]
    unit: str
    source: str
    interval: str = ""
    outputs: tuple[str, ...] = ESTIMATE
    core: tuple[str, ...] = ()
    version: int = 1
    default: bool = True


class Reduce(Row):
    """Captured variables of one checkpoint to numbers."""


@dataclass(frozen=True)
class Pair(Row):
    """Two checkpoints to numbers: the function gets the reads of the one, then those of the other.

    Attributes
    ----------
    others : str
        `final`: each checkpoint against the last of its branch; `all`: against every one.
    """

    others: str = "final"


_POINTS = (
    Read("hidden/hidden", ("point", "feature")),
    Read("hidden/kept"),
    Read("points/last", ("point",)),
    Read("points/group", ("point",)),
)
_ALL: Mapping[str, str | int] = {"centering": "centered", "fold": 0}
_JACKKNIFE = "infinitesimal jackknife over samples, 95 %"
_FOLDS = "spread over 8 folds, Student t, 95 %"
_CLUSTERS = "clustered by sample, 95 %"


def _spectrum_rows() -> list[Row]:
    rows: list[Row] = []
    for name, rule in RANKME_CONVENTIONS.items():
        rows.append(
            Reduce(
                "rankme",
                name,
                _POINTS,
                partial(readings.rankme, convention=name),
                unit="directions",
                source=rule.source,
                interval=f"{_JACKKNIFE}, on ln RankMe",
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
                partial(readings.rankme_streamed, convention=name),
                unit="directions",
                source=rule.source,
                interval=f"{_FOLDS}, on ln RankMe",
            )
        )
    for name, ranks in ALPHA_CONVENTIONS.items():
        fitted = f"ranks {ranks[0]}–{ranks[1]}, weight 1/rank"
        rows.append(
            Reduce(
                "alpha_req",
                name,
                _POINTS,
                partial(readings.alpha_req, ranks=ranks),
                unit="1",
                source=f"α-ReQ (Agrawal et al. 2022), {fitted}; 2509.23024 §3",
                interval=_JACKKNIFE,
                outputs=(*ESTIMATE, "r2"),
            )
        )
        rows.append(
            Reduce(
                "alpha_req_streamed",
                name,
                (Read("moments/eigenvalues", ("rank",), _ALL),),
                partial(readings.alpha_req_streamed, ranks=ranks),
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
                _POINTS,
                partial(readings.eigenspectrum, centered=name == "centered"),
                unit="squared activation",
                source="eigenvalues of the covariance divided by n, descending; 2509.23024 §3",
                outputs=("value",),
                core=("rank",),
            )
        )
    return rows


def _attention_row(name: str, convention: str, statistic: str, unit: str, source: str) -> Row:
    core, picked = ("fold", "position_bin"), {"statistic": statistic}
    return Reduce(
        name,
        convention,
        tuple(Read(f"attention/{v}", core, picked) for v in ("mean", "count", "nan_count")),
        readings.row_mean,
        unit=unit,
        source=source,
        interval=_FOLDS,
    )


def _token_row(name: str, convention: str, variable: str, unit: str, source: str) -> Row:
    return Reduce(
        name,
        convention,
        (Read(f"tokens/{variable}", ("sample", "position")), Read("inputs/group", ("sample",))),
        readings.top1_accuracy if variable == "target_rank" else readings.token_mean,
        unit=unit,
        source=source,
        interval=_CLUSTERS,
    )


_ROWS: list[Row] = [
    *_spectrum_rows(),
    _attention_row(
        "head_entropy",
        "zhai2023",
        "entropy",
        "nats",
        "mean row entropy over positions and samples, 2303.06296 §3",
    ),
    _attention_row(
        "head_entropy",
        "normalised_visible",
        "normalised_entropy",
        "1",
        "row entropy divided by ln(visible keys), mean over rows that see two or more",
    ),
    _attention_row("max_logit", "mean", "max_logit", "1", "largest visible scaled logit of a row"),
    _attention_row(
        "row_norm",
        "centered",
        "row_norm",
        "1",
        "centred norm of a row's logits, 2303.06296 Thm 3.1",
    ),
    _attention_row(
        "first_key_mass", "mean", "first_key", "1", "attention to the first token; 2410.10781"
    ),
    _attention_row(
        "previous_key_mass",
        "mean",
        "previous_key",
        "1",
        "attention to the token before; 2209.11895",
    ),
    _attention_row("attention_distance", "mean", "distance", "tokens", "Σ_j A_ij (i − j)"),
    _token_row("loss", "surprisal", "surprisal", "nats", "mean −ln p(next token)"),
    _token_row(
        "token_entropy", "nats", "entropy", "nats", "entropy of the next-token distribution"
    ),
    _token_row(
        "token_varentropy",
        "nats2",
        "varentropy",
        "nats²",
        "variance of −ln p under the model's own p",
    ),
    _token_row(
        "next_token_accuracy",
        "top1",
        "target_rank",
        "1",
        "share of tokens ranked first by the model",
    ),
    Reduce(
        "head_ablation",
        "zero",
        (
            Read("head_ablation/ablated_loss", ("ablated_sample",)),
            Read("head_ablation/loss", ("ablated_sample",)),
        ),
        readings.paired_increase,
        unit="nats",
        source="loss without the head minus loss with it; 1905.10650 §2",
        interval="paired over samples, 95 %",
    ),
    *(
        Pair(
            "linear_cka",
            name,
            _POINTS[:3],
            partial(readings.linear_cka, debiased=name == "debiased"),
            unit="1",
            source="linear CKA with the branch's last checkpoint, 1905.00414 §3"
            + (", debiased HSIC, 2010.15327" if name == "debiased" else ""),
            outputs=("value",),
            default=name == "debiased",
        )
        for name in ("debiased", "biased")
    ),
]

MEASURES: dict[tuple[str, str], Row] = {(row.name, row.convention): row for row in _ROWS}
