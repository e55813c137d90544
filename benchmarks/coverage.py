"""Do the 95 % intervals of ln RankMe and alpha cover the estimate's own expectation?

python -m benchmarks.coverage [--draws 100] [--seed 0] [--samples 3584] [--features 512] [--folds 8]

Gaussian clouds with λ ∝ i^−exponent. The target is the mean of the estimate over independent draws
of the same size, so it includes the finite-sample bias. `error / sd` compares the mean standard
error with the standard deviation of the estimate over those draws; 1 is right, above 1 is cautious.
Prints a markdown table: the infinitesimal jackknife; and, if there are folds, their spread and
the jackknife that leaves one fold out.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from benchmarks.numbers import positive, several
from geometry.intervals import fold_interval, leave_out_interval, spectrum_intervals
from geometry.spectrum import alpha_req, eigenvalues, rankme, spectrum_of

EXPONENTS = (1.0, 0.5)
Array = NDArray[np.float64]


def statistics(values: Array) -> Array:
    """Ln RankMe and alpha of spectra (…, rank), stacked last."""
    return np.stack([np.log(rankme(values)), alpha_req(values)], axis=-1)


def wishart_spectrum(scale: Array, samples: int, rng: np.random.Generator) -> Array:
    """Spectrum of one centred Gaussian cloud by Bartlett's decomposition: exact and cheap."""
    dim = len(scale)
    factor = np.tril(rng.standard_normal((dim, dim)), -1)
    factor[np.diag_indices(dim)] = np.sqrt(rng.chisquare(samples - 1 - np.arange(dim)))
    factor *= scale[:, None]
    return spectrum_of(factor @ factor.T / samples)


def reference(
    scale: Array, samples: int, draws: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Mean and standard deviation of the statistics over independent draws."""
    spectra = [wishart_spectrum(scale, samples, rng) for _ in range(draws)]
    values = statistics(np.stack(spectra))
    return values.mean(axis=0), values.std(axis=0, ddof=1)


def one_draw(x: Array, folds: int) -> list[tuple[Array, ...]]:
    """Value, error, lower, upper for (ln RankMe, alpha), by each method."""
    both = spectrum_intervals(x)
    jackknife = np.array([both.rankme, both.alpha]).T
    jackknife[[0, 2, 3], 0] = np.log(jackknife[[0, 2, 3], 0])
    out: list[tuple[Array, ...]] = [tuple(jackknife)]
    if folds:
        whole, fold = statistics(both.eigenvalues), np.arange(len(x)) % folds
        parts = [statistics(eigenvalues(x[fold == i])) for i in range(folds)]
        others = [statistics(eigenvalues(x[fold != i])) for i in range(folds)]
        out.append(tuple(fold_interval(np.stack([whole, *parts], axis=-1))))
        out.append(tuple(leave_out_interval(np.stack([whole, *others], axis=-1))))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage of intervals for ln RankMe and alpha")
    parser.add_argument("--draws", type=several, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=positive, default=3584)
    parser.add_argument("--features", type=positive, default=512)
    parser.add_argument(
        "--reference", type=positive, default=400, help="draws behind the expectation"
    )
    parser.add_argument("--folds", type=int, default=8, help="0 leaves out the fold intervals")
    args = parser.parse_args()
    print(f"{args.samples} × {args.features} Gaussian, {args.draws} draws, seed {args.seed}\n")
    print("| λ | method | statistic | covered | error / sd | bias of expectation |")
    print("|---|---|---|---|---|---|")
    for index, exponent in enumerate(EXPONENTS):
        scale = np.arange(1.0, args.features + 1) ** (-exponent / 2)
        rng, reference_rng = np.random.default_rng([args.seed, index]).spawn(2)
        target, deviation = reference(scale, args.samples, args.reference, reference_rng)
        bias = target - statistics(scale**2)
        draws = []
        for _ in range(args.draws):
            x = rng.standard_normal((args.samples, args.features))
            x *= scale
            draws.append(one_draw(x, args.folds))
        results = np.array(draws)  # (draw, method, quantity, statistic)
        _, error, lower, upper = np.moveaxis(results, 2, 0)
        covered = ((lower <= target) & (target <= upper)).sum(axis=0)
        ratio = error.mean(axis=0) / deviation
        methods = ("infinitesimal jackknife", f"{args.folds} folds", f"leave out 1 of {args.folds}")
        for m, method in enumerate(methods[: results.shape[1]]):
            for s, name in enumerate(("ln RankMe", "alpha")):
                print(
                    f"| i^−{exponent:g} | {method} | {name} | {covered[m, s]} / {args.draws} "
                    f"| {ratio[m, s]:.2f} | {bias[s]:+.4f} |"
                )


if __name__ == "__main__":
    main()
