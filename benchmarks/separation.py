"""Cost and accuracy of class separation against SciPy and scikit-learn.

python -m benchmarks.separation [--samples 1600] [--features 576] [--classes 8] [--repeats 5] [--seed 0]

Prints a markdown table. Every function runs in a process of its own, so that the peak is its own.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import combinations
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist
from scipy.stats import spearmanr, zscore
from sklearn.metrics import silhouette_score

from benchmarks.capture import peak_mb
from benchmarks.numbers import positive, ratio
from geometry.class_similarity import class_rsa
from geometry.separation import gdv, gdv_interval
from geometry.separation_null import gdv_null
from geometry.silhouette import silhouette

Points = NDArray[np.float32]
Codes = NDArray[np.int64]
PERMUTATIONS = 99


def labelled_cloud(samples: int, features: int, classes: int, seed: int) -> tuple[Points, Codes]:
    """Gaussian clouds around means a little apart."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, samples)
    means = rng.standard_normal((classes, features)) / 3
    return (means[codes] + rng.standard_normal((samples, features))).astype(np.float32), codes


def gdv_by_distances(x: Points, codes: Codes) -> float:
    """The published formula by SciPy's distances."""
    z = zscore(x.astype(np.float64), axis=0) / 2
    parts = [z[codes == code] for code in np.unique(codes)]
    inner = np.mean([pdist(part).mean() for part in parts])
    outer = np.mean([cdist(one, other).mean() for one, other in combinations(parts, 2)])
    return float((inner - outer) / np.sqrt(x.shape[1]))


def rsa_by_distances(x: Points, codes: Codes) -> float:
    """Spearman over all pairs, by SciPy."""
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    other = pdist(codes[:, None].astype(float)) > 0
    return float(spearmanr(pdist(centred, "cosine"), other).statistic)


def silhouette_by_sklearn(x: Points, codes: Codes) -> float:
    return float(silhouette_score(zscore(x.astype(np.float64), axis=0), codes))


def null(x: Points, codes: Codes) -> float:
    return float(np.mean(gdv_null(x, codes, count=PERMUTATIONS, seed=0)))


FUNCTIONS: dict[str, tuple[Callable[[Points, Codes], float], ...]] = {
    "GDV": (gdv, gdv_by_distances),
    "silhouette, Euclidean": (lambda x, c: silhouette(x, c, metric="euclidean"), silhouette_by_sklearn),
    "RSA, cosine": (lambda x, c: class_rsa(x, c, metric="cosine"), rsa_by_distances),
    "GDV with interval": (lambda x, c: gdv_interval(x, c).value,),
    f"null of GDV, {PERMUTATIONS} permutations": (null,),
}  # fmt: skip


def measure(
    name: str, place: int, shape: tuple[int, int, int], repeats: int, seed: int
) -> tuple[float, float, float]:
    """Median seconds, peak above the input in MB, and value."""
    x, codes = labelled_cloud(*shape, seed)
    before = peak_mb()
    seconds, value = [], float("nan")
    for _ in range(repeats):
        start = time.perf_counter()
        value = FUNCTIONS[name][place](x, codes)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), peak_mb() - before, value


def main() -> None:
    parser = argparse.ArgumentParser(description="class separation against SciPy and scikit-learn")
    parser.add_argument("--samples", type=positive, default=1600)
    parser.add_argument("--features", type=positive, default=576)
    parser.add_argument("--classes", type=positive, default=8)
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shape = (args.samples, args.features, args.classes)
    print(f"{args.samples} × {args.features} in {args.classes} classes, float32\n")
    print("| | ms | peer, ms | peak, MB | peer, MB | difference |")
    print("|---|---|---|---|---|---|")
    for name, functions in FUNCTIONS.items():
        found = []
        for place in range(len(functions)):
            with get_context("spawn").Pool(1) as pool:
                found.append(pool.apply(measure, (name, place, shape, args.repeats, args.seed)))
        (ours, peak, value), *peers = found
        peer = (
            f"{1000 * peers[0][0]:.0f} ({ratio(peers[0][0], ours, 1)} ×) | {peak:.0f} "
            f"| {peers[0][1]:.0f} | {abs(value - peers[0][2]):.0e}"
            if peers
            else f"– | {peak:.0f} | – | –"
        )
        print(f"| {name} | {1000 * ours:.0f} | {peer} |")


if __name__ == "__main__":
    main()
