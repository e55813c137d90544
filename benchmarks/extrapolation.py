"""Does the half-sample interval of RankMe cover the population's, and is it flagged where not?

python -m benchmarks.extrapolation [--draws 100] [--seed 0] [--samples 1024] [--features 128]
                                   [--exponent 1] [--clouds gaussian t5 …]

Clouds whose population covariance is known, λ ∝ i^−exponent along the features unless said otherwise:

gaussian    independent Gaussian samples
t5          multivariate t with 5 degrees of freedom; same shape of covariance
massive     Gaussian, but the first feature has nine times the variance of all others together
rare        as massive, but that feature is 0 or one large value, in 1 of 100 samples
documents   16 Gaussian samples a document, side by side, with correlation 0.5; documents not told
grouped     the same, documents told as groups
shuffled    the same in random order, documents not told: nothing in the samples gives them away

Prints one markdown row a cloud: how often the raw interval and the extrapolated one cover the
population's RankMe, the bias of both on ln RankMe, the extrapolated error over the spread of the
estimate, how often any doubt is raised and which, and how often the extrapolated interval covers among
draws that raise none.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.numbers import positive, several
from geometry.extrapolation import Extrapolation, half_sample_rankme
from geometry.intervals import rankme_interval
from geometry.spectrum import rankme

Array = NDArray[np.float64]

CLOUDS = ("gaussian", "t5", "massive", "rare", "documents", "grouped", "shuffled")
SIZE, CORRELATION = 16, 0.5
MASSIVE, RARE = 9.0, 0.01


class Cloud(NamedTuple):
    """Samples, the population's RankMe and the groups told."""

    x: Array
    rankme: float
    groups: NDArray[np.int64] | None


class Outcome(NamedTuple):
    """One draw: the truth, the raw interval (value, lower, upper) and the extrapolation."""

    truth: float
    raw: tuple[float, float, float]
    found: Extrapolation

    @property
    def covered(self) -> bool:
        """Whether the extrapolated interval holds the truth."""
        return self.found.estimate.lower <= self.truth <= self.found.estimate.upper

    @property
    def raw_covered(self) -> bool:
        """Whether the raw interval does."""
        return self.raw[1] <= self.truth <= self.raw[2]


def cloud(
    kind: str, samples: int, features: int, exponent: float, rng: np.random.Generator
) -> Cloud:
    """Draw one cloud of a kind in `CLOUDS`."""
    spectrum = np.arange(1.0, features + 1) ** -exponent
    z, groups = rng.standard_normal((samples, features)), None
    if kind in ("documents", "grouped", "shuffled"):
        document = np.arange(samples) // SIZE
        shared = rng.standard_normal((document[-1] + 1, features))[document]
        z = np.sqrt(CORRELATION) * shared + np.sqrt(1.0 - CORRELATION) * z
        groups = document if kind == "grouped" else None
        z = rng.permutation(z) if kind == "shuffled" else z
    elif kind == "t5":
        z /= np.sqrt(rng.chisquare(5, (samples, 1)) / 5)
    elif kind in ("massive", "rare"):
        spectrum[0] = MASSIVE * spectrum[1:].sum()
        if kind == "rare":
            there = rng.random(samples) < RARE
            z[:, 0] = (there - RARE) / np.sqrt(RARE * (1 - RARE))
    return Cloud(z * np.sqrt(spectrum), float(rankme(spectrum)), groups)


def trial(
    kind: str, samples: int, features: int, exponent: float, draws: int, seed: int
) -> list[Outcome]:
    """Independent draws of one kind of cloud, with both intervals of each."""
    found = []
    for rng in np.random.default_rng([seed, CLOUDS.index(kind)]).spawn(draws):
        x, truth, groups = cloud(kind, samples, features, exponent, rng)
        raw = rankme_interval(x, groups=groups)
        interval = (raw.value, raw.lower, raw.upper)
        found.append(Outcome(truth, interval, half_sample_rankme(x, groups=groups)))
    return found


def row(kind: str, outcomes: list[Outcome]) -> str:
    """The markdown row of one kind of cloud."""
    log = np.log([[o.truth, o.raw[0], o.found.estimate.value] for o in outcomes])
    bias = (log[:, 1:] - log[:, :1]).mean(axis=0)
    errors = [o.found.estimate.standard_error for o in outcomes]
    ratio = np.mean(errors) / log[:, 2].std(ddof=1)
    told = Counter(name for o in outcomes for name in o.found.doubts.raised)
    why = ", ".join(f"{name} {count}" for name, count in told.most_common()) or "–"
    trusted = [o for o in outcomes if o.found.trusted]
    kept = f"{sum(o.covered for o in trusted)} of {len(trusted)}" if trusted else "–"
    return (
        f"| {kind} | {sum(o.raw_covered for o in outcomes)} | {sum(o.covered for o in outcomes)} "
        f"| {bias[0]:+.3f} | {bias[1]:+.3f} | {ratio:.2f} "
        f"| {len(outcomes) - len(trusted)} | {why} | {kept} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage and flags of half-sample RankMe")
    parser.add_argument("--draws", type=several, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=positive, default=1024)
    parser.add_argument("--features", type=positive, default=128)
    parser.add_argument("--exponent", type=float, default=1.0)
    parser.add_argument("--clouds", nargs="*", default=CLOUDS, choices=CLOUDS)
    args = parser.parse_args()
    n, d, a = args.samples, args.features, args.exponent
    print(f"{n} × {d} (N/d = {n / d:g}), λ ∝ i^−{a:g}, {args.draws} draws, seed {args.seed}\n")
    print(
        "| cloud | raw covers | extrapolated covers | bias, raw | bias, extrapolated | error / sd "
        "| flagged | by | covers where trusted |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in args.clouds:
        print(row(kind, trial(kind, n, d, a, args.draws, args.seed)), flush=True)


if __name__ == "__main__":
    main()
