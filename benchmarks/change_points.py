"""What the phase detector gets right: false alarms on lines, planted breaks found, bends named.

    python benchmarks/change_points.py --draws 100

Every curve is simulated; nothing is read. One row a case: the share of draws that came out right
and its aim. With 100 draws a share of 0.05 is known to about ±0.04.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.numbers import positive
from geometry.autoregression import draw
from geometry.bends import transition
from geometry.phases import Phases, change_points
from geometry.segmented import Array

PYTHIA = np.array([2.0**i for i in range(10)] + [1000.0 * i for i in range(1, 144)])
DEMO = np.unique(np.round(2.0 ** np.arange(0, 10.6, 0.25)))


def subsample(steps: Array, count: int) -> Array:
    """Return about `count` of the steps, as evenly spaced in their logarithm as there are."""
    logs = np.log(steps)
    for targets in range(count, 4 * count):
        wanted = np.linspace(logs[0], logs[-1], targets)
        chosen = np.unique(np.abs(logs - wanted[:, None]).argmin(axis=1))
        if chosen.size >= count:
            break
    return np.asarray(steps[chosen], dtype=np.float64)


@dataclass(frozen=True)
class Case:
    """One kind of curve, what would be right, and how often it should be."""

    name: str
    steps: Array
    means: Array  # (curve, point)
    rho: float
    sd: float
    right: Callable[[Phases], bool]
    aim: str


def broken(x: Array, knots: list[int], slopes: list[float]) -> Array:
    """Return a broken line with its knots at these points."""
    changes = np.diff(slopes)
    corners = np.maximum(x - x[knots][:, None], 0.0)
    line: Array = slopes[0] * (x - x[0]) + changes @ corners
    return line


def false_alarms(name: str, steps: Array, rho: float, curves: int) -> Case:
    lines = np.outer(np.arange(1.0, curves + 1), np.log10(steps))
    label = f"line, {name}, {curves} curve(s), ρ {rho}"
    return Case(label, steps, lines, rho, 1.0, lambda p: p.boundaries.size > 0, "≤ 0.10")


def planted(name: str, steps: Array, knots: list[int], rho: float, sd: float) -> Case:
    """Return a collapse, an expansion and, with two or three knots, a compression and more."""
    x = np.log10(steps)
    entropy = [-2.0, 1.5, -1.0, 0.5][: len(knots) + 1]
    decay = [1.0, -1.2, 0.6, -0.4][: len(knots) + 1]
    means = np.array([broken(x, knots, entropy), broken(x, knots, decay)])

    def right(found: Phases) -> bool:
        if found.boundaries.size != len(knots):
            return False
        places = np.searchsorted(steps, found.boundaries)
        return bool((np.abs(places - knots) <= 1).all())

    return Case(f"breaks {knots}, {name}, ρ {rho}, sd {sd}", steps, means, rho, sd, right, "≥ 0.90")


def joint(name: str, steps: Array, knots: tuple[int, int], rho: float, sd: float) -> Case:
    """Return three curves that share two boundaries: one turns at each, the third at neither."""
    x = np.log10(steps)
    first, second = knots
    means = np.array(
        [
            broken(x, [first], [-1.5, 1.0]),
            broken(x, [second], [0.8, -1.2]),
            broken(x, [first], [1, 1]),
        ]
    )

    def right(found: Phases) -> bool:
        places = np.searchsorted(steps, found.boundaries)
        return places.size == 2 and bool((np.abs(places - knots) <= 1).all())

    label = f"joint breaks {list(knots)}, {name}, ρ {rho}, sd {sd}"
    return Case(label, steps, means, rho, sd, right, "≥ 0.90")


def named(name: str, steps: Array, width: float, sd: float) -> Case:
    """Return one transition of a width in decades; right is one boundary of the right kind."""
    x = np.log10(steps)
    step = transition(x, x[0] + 0.45 * (x[-1] - x[0]), width)
    means = np.array([-1.5 * x + 3.0 * step, x - 2.0 * step])
    kind = "bend" if width else "break"
    label = f"{kind} of width {width}, {name}, sd {sd}"
    return Case(label, steps, means, 0.5, sd, lambda p: p.kind == (kind,), "≥ 0.80")


def cases() -> list[Case]:
    short, full = subsample(PYTHIA, 40), PYTHIA
    schedules = {"demo": DEMO, f"Pythia, {short.size} points": short, "Pythia, all": full}
    listed = [
        false_alarms(name, steps, rho, curves)
        for name, steps in schedules.items()
        for rho in (0.0, 0.5, 0.8)
        for curves in (1, 2)
    ]
    listed += [
        planted("demo", DEMO, [14], 0.5, 0.05),
        planted("demo", DEMO, [12, 24], 0.5, 0.05),
        planted("demo", DEMO, [8, 18, 28], 0.5, 0.05),
        planted("Pythia, 40 points", short, [9, 22], 0.5, 0.05),
        planted("Pythia, all", full, [6, 12], 0.5, 0.05),
    ]
    listed += [
        false_alarms("Pythia, all", full, 0.5, 3),
        joint("demo", DEMO, (12, 24), 0.5, 0.05),
        joint("Pythia, all", full, (6, 12), 0.5, 0.05),
        # Checkpoint 40 stands 0.014 decades from its neighbours: a spacing is a hard aim there.
        planted("Pythia, all", full, [8, 40], 0.5, 0.02),
    ]
    listed += [named("demo", DEMO, width, 0.03) for width in (0.0, 0.7, 1.5)]
    return listed


def run(case: Case, draws: int) -> tuple[float, float]:
    """Return the share of draws that came out as asked, and the seconds each took."""
    names = ("log_rankme", "alpha", "loss")[: len(case.means)]
    rng = np.random.default_rng(0)
    noise = draw(rng, np.array(case.rho), np.array(case.sd), (draws, *case.means.shape))
    start = time.perf_counter()
    hits = 0
    for seed, drawn in enumerate(noise):
        curves = dict(zip(names, case.means + drawn, strict=True))
        hits += case.right(change_points(curves, steps=case.steps, seed=seed))
    return hits / draws, (time.perf_counter() - start) / draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--draws", type=positive, default=100, help="simulated sets of curves a case"
    )
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    options = parser.parse_args()
    print(f"{'case':<52} {'share':>6} {'aim':>7} {'s each':>7}")
    for case in cases():
        if options.only in case.name:
            share, seconds = run(case, options.draws)
            print(f"{case.name:<52} {share:6.2f} {case.aim:>7} {seconds:7.2f}", flush=True)


if __name__ == "__main__":
    main()
