"""Cost and accuracy of `geometry.spectrum.eigenvalues` against a float64 SVD.

python -m benchmarks.spectra [--samples 10000] [--features 2048] [--repeats 3] [--seed 0]

Prints a markdown table. Every method runs in a process of its own, so that the peak is its own.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.capture import peak_mb
from benchmarks.numbers import positive, ratio
from geometry.spectrum import alpha_req, eigenvalues, rankme

MB = 2**20


class Result(NamedTuple):
    seconds: float
    peak_mb: float
    rankme: float
    garrido: float
    alpha: float


def cloud(samples: int, features: int, seed: int) -> NDArray[np.float32]:
    """Float32 points with λ ∝ 1/i and a common mean, made in place."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, features), dtype=np.float32)
    x *= np.arange(1, features + 1, dtype=np.float32) ** -0.5
    x += 0.5
    return x


def gram(x: NDArray[np.float32], centered: bool) -> NDArray[np.float64]:
    return eigenvalues(x, centered=centered)


def svd(x: NDArray[np.float32], centered: bool) -> NDArray[np.float64]:
    y = x.astype(np.float64)
    if centered:
        y -= y.mean(axis=0)
    return np.asarray(np.linalg.svd(y, compute_uv=False) ** 2 / len(y))


METHODS: dict[str, Callable[[NDArray[np.float32], bool], NDArray[np.float64]]] = {
    "Gram": gram,
    "SVD": svd,
}


def measure(name: str, samples: int, features: int, repeats: int, seed: int) -> Result:
    x = cloud(samples, features, seed)
    before = peak_mb()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        values = METHODS[name](x, True)
        seconds.append(time.perf_counter() - start)
    peak = peak_mb() - before
    raw = METHODS[name](x, False)
    return Result(
        statistics.median(seconds),
        peak,
        float(rankme(values)),
        float(rankme(raw, convention="garrido2022")),
        float(alpha_req(values)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Gram spectrum against a float64 SVD")
    parser.add_argument("--samples", type=positive, default=10_000)
    parser.add_argument("--features", type=positive, default=2048)
    parser.add_argument(
        "--repeats", type=int, default=3, help="of the Gram form; the SVD runs once"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    results = {}
    for name, repeats in (("Gram", args.repeats), ("SVD", 1)):
        with get_context("spawn").Pool(1) as pool:
            job = (name, args.samples, args.features, repeats, args.seed)
            results[name] = pool.apply(measure, job)
    ours, theirs = results["Gram"], results["SVD"]
    print(f"{args.samples} × {args.features}, float32 input of")
    print(f"{args.samples * args.features * 4 / MB:.0f} MB; peak is above input and imports\n")
    print("| method | seconds | peak MB | RankMe li2025 | RankMe garrido2022 | alpha |")
    print("|---|---|---|---|---|---|")
    for name, row in results.items():
        print(
            f"| {name} | {row.seconds:.2f} | {row.peak_mb:.0f} | {row.rankme:.9f} "
            f"| {row.garrido:.9f} | {row.alpha:.9f} |"
        )
    print(
        f"| ratio or relative difference | {ratio(theirs.seconds, ours.seconds, 1)}× "
        f"| {ratio(theirs.peak_mb, ours.peak_mb, 1)}× | {abs(ours.rankme / theirs.rankme - 1):.1e} "
        f"| {abs(ours.garrido / theirs.garrido - 1):.1e} | {abs(ours.alpha / theirs.alpha - 1):.1e} |"
    )


if __name__ == "__main__":
    main()
