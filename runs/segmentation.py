"""Our change points beside the published segmentation of ten Pythia runs, on the score it was made of.

Source: EleutherAI/pythia, `polypythias/data/training_maps.tsv`, commit a19eecb (Apache-2.0), kept in
training_maps.csv: of ten seeds of one Pythia size (PolyPythias, arXiv 2503.09543) a standardised
zero-shot score at 27 steps, and the state a hidden Markov model gives each. Seeds 3 and 4 were modelled
apart as outliers, so their states' numbers are not those of the others.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table

from figures import FIGURES, draw, save
from geometry.agreement import Consensus, Match, consensus, log_grid, match_boundaries, overlap
from geometry.agreement import segment_of as segments
from geometry.phases import Phases, change_points
from runs.damage import named_errors
from runs.published import PYTHIA_RATE
from runs.writing import versions

OUTLIERS = (3, 4)
TOLERANCE = 0.25  # decades within which the boundaries of seeds are one
_TOGETHER = "seeds 0–2, 5–9 together"
_SOURCE = (
    "EleutherAI/pythia, polypythias/data/training_maps.tsv, commit a19eecb; "
    "PolyPythias, arXiv 2503.09543"
)


@dataclass(frozen=True)
class Run:
    """One seed as published: (checkpoint,) steps, score and hidden-Markov state."""

    seed: int
    steps: NDArray[np.float64]
    score: NDArray[np.float64]
    state: NDArray[np.int64]

    @property
    def changes(self) -> NDArray[np.intp]:
        """Checkpoints that open another state than the one before."""
        return np.flatnonzero(np.diff(self.state)) + 1


@dataclass(frozen=True)
class Compared:
    """One seed's change points beside its published changes of state.

    Attributes
    ----------
    run : as published.
    phases : what was found on the score.
    match : of checkpoints, one apart at most; `wanted` are the published.
    rand, adjusted_rand, variation : of the two divisions of its checkpoints from step 1 on.
    """

    run: Run
    phases: Phases
    match: Match
    rand: float
    adjusted_rand: float
    variation: float

    @property
    def places(self) -> NDArray[np.intp]:
        """Checkpoints at which a boundary was found."""
        return np.searchsorted(self.run.steps, self.phases.boundaries)


@cache
def training_maps() -> tuple[Run, ...]:
    """The published runs, in the order of their seeds."""
    text = files("runs").joinpath("training_maps.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    runs = []
    for seed in sorted({int(row["seed"]) for row in rows}):
        own = [row for row in rows if int(row["seed"]) == seed]
        steps, score = (np.array([float(r[name]) for r in own]) for name in ("step", "score"))
        runs.append(Run(seed, steps, score, np.array([int(r["state"]) for r in own])))
    return tuple(runs)


def compare(run: Run, *, max_breaks: int = 4, alpha: float = 0.05, seed: int = 0) -> Compared:
    """Find the change points of one seed's score, and match them with its changes of state.

    Parameters
    ----------
    run
        From `training_maps`.
    max_breaks, alpha, seed
        As `geometry.phases.change_points` takes them; the defaults are a recipe's.
    """
    found = change_points(
        {"score": run.score}, steps=run.steps, max_breaks=max_breaks, alpha=alpha, seed=seed
    )
    places = np.searchsorted(run.steps, found.boundaries)
    match = match_boundaries(places, run.changes, tolerance=1)
    later = run.steps > 0
    alike = overlap(segments(found.boundaries, run.steps[later]), np.cumsum(_opens(run))[later])
    return Compared(run, found, match, *alike)


def together(runs: tuple[Run, ...], *, max_breaks: int = 4, seed: int = 0) -> Phases:
    """Change points that several seeds' scores share: one fit, every seed a curve."""
    curves = {f"seed {run.seed}": run.score for run in runs}
    return change_points(curves, steps=runs[0].steps, max_breaks=max_breaks, seed=seed)


def seeds_agree(found: list[Compared]) -> tuple[Consensus, Consensus]:
    """Boundaries that the seeds share, ours (with each fit's own error) and the published."""
    errors: list[ArrayLike] = [
        np.log10(c.phases.upper / c.phases.lower) / (2 * 1.96) if c.phases.boundaries.size else []
        for c in found
    ]
    ours = consensus(
        [c.phases.boundaries for c in found], tolerance=TOLERANCE, standard_errors=errors
    )
    published = [c.run.steps[c.run.changes] for c in found]
    return ours, consensus(published, tolerance=TOLERANCE)


def pairwise_alike(found: list[Compared]) -> tuple[float, float]:
    """Mean adjusted Rand index over pairs of seeds on a common log grid: ours, and the published."""
    steps = found[0].run.steps
    grid = log_grid(float(steps[steps > 0][0]), float(steps[-1]))
    sides = (
        [segments(c.phases.boundaries, grid) for c in found],
        [segments(c.run.steps[c.run.changes], grid) for c in found],
    )
    means = []
    for side in sides:
        pairs = [(a, b) for i, a in enumerate(side) for b in side[:i]]
        means.append(float(np.mean([overlap(a, b).adjusted_rand for a, b in pairs])))
    return means[0], means[1]


@cache
def comparison() -> tuple[list[Compared], Phases, xr.DataTree]:
    """All seeds compared, the fit of the usual seeds together, and a tree that a figure draws.

    Returns
    -------
    compared, joint, tree
        The tree has `/measures/segmentation/polypythias/published` (checkpoint): `value` the score,
        `state`, `fitted`, and at a boundary `found` (1 matched, 2 extra), `published` (1 matched, 2
        missed), `found_lower` and `found_upper` in tokens, NaN elsewhere; `pooled` 1 in the joint fit.
    """
    runs = training_maps()
    compared = [compare(run) for run in runs]
    usual = tuple(run for run in runs if run.seed not in OUTLIERS)
    joint = together(usual)
    parts = [_rows(c.run, c.phases, c.match, f"seed {c.run.seed}") for c in compared]
    parts.append(_joint_rows(usual, joint))
    whole = xr.concat(parts, "checkpoint").assign_attrs(
        measure="segmentation",
        convention="polypythias",
        unit="1",
        source=_SOURCE,
        set="published",
        inputs="published zero-shot score of ten Pythia seeds at 27 steps",
        level=0.95,
        interval="refits to curves drawn from the fit",
        lineage="training_maps.csv",
    )
    nodes = {
        "/": xr.Dataset(attrs={"name": "polypythias"}),
        "/measures/segmentation/polypythias/published": whole,
    }
    return compared, joint, xr.DataTree.from_dict(nodes)


def draw_segmentation(folder: Path, console: Console) -> list[Path]:
    """Print the comparison by seed, and draw it; returns the files written.

    Parameters
    ----------
    folder
        Where they go; made if missing.
    console
        Where the table is printed.
    """
    compared, joint, tree = comparison()
    _print(compared, joint, console)
    figure, table = draw(tree, "segmentation")
    provenance = {
        "figure": "segmentation",
        "caption": table.attrs["caption"],
        "source": FIGURES["segmentation"].source,
        "versions": versions(),
    }
    with named_errors(folder):
        return save(figure, table, folder, "segmentation", provenance=provenance)


def _print(compared: list[Compared], joint: Phases, console: Console) -> None:
    table = Table("seed", "ours, step", "published, step", "hits", "missed", "extra", "Rand")
    for c in compared:
        table.add_row(
            f"{c.run.seed}{' (outlier)' if c.run.seed in OUTLIERS else ''}",
            _steps(c.phases.boundaries),
            _steps(c.run.steps[c.run.changes]),
            str(c.match.found.size),
            str(c.match.missed.size),
            str(c.match.extra.size),
            f"{c.adjusted_rand:.2f}",
        )
    console.print(table)
    usual = [c for c in compared if c.run.seed not in OUTLIERS]
    console.print(f"{_TOGETHER}: {_steps(joint.boundaries)}")
    for name, found in zip(("ours", "published"), seeds_agree(usual), strict=True):
        told = [
            f"step {place:.0f} in {share:.0%} (± {error:.3f} decades over seeds)"
            for place, share, error in zip(
                found.places, found.share, found.training_error, strict=True
            )
        ]
        console.print(f"{name}, shared by the usual seeds: {'; '.join(told) or 'none'}")
    mine, theirs = pairwise_alike(usual)
    console.print(
        f"adjusted Rand index between the usual seeds: ours {mine:.2f}, published {theirs:.2f}"
    )


def _steps(places: NDArray[np.float64]) -> str:
    return ", ".join(f"{place:.0f}" for place in places) or "none"


def _opens(run: Run) -> NDArray[np.bool_]:
    return np.isin(np.arange(run.steps.size), run.changes)


def _rows(run: Run, phases: Phases, match: Match, name: str) -> xr.Dataset:
    nothing = np.full(run.steps.size, np.nan)
    columns = {
        key: nothing.copy()
        for key in ("fitted", "found", "published", "found_lower", "found_upper")
    }
    columns["fitted"][np.isin(run.steps, phases.steps_used)] = phases.fitted.mean(axis=1)
    places = np.searchsorted(run.steps, phases.boundaries)
    columns["found"][places[match.found]], columns["found"][places[match.extra]] = 1, 2
    columns["published"][run.changes[match.wanted]] = 1
    columns["published"][run.changes[match.missed]] = 2
    columns["found_lower"][places] = phases.lower * PYTHIA_RATE
    columns["found_upper"][places] = phases.upper * PYTHIA_RATE
    steps = run.steps.astype(np.int64)
    return xr.Dataset(
        {
            "value": ("checkpoint", run.score),
            "state": ("checkpoint", run.state.astype(float)),
            **{key: ("checkpoint", values) for key, values in columns.items()},
            "pooled": ("checkpoint", np.full(run.steps.size, float(name == _TOGETHER))),
        },
        {
            "checkpoint": [f"{name}/step{step}" for step in steps],
            "step": ("checkpoint", steps),
            "tokens": ("checkpoint", steps * PYTHIA_RATE),
            "branch": ("checkpoint", np.full(steps.size, name)),
        },
    )


def _joint_rows(runs: tuple[Run, ...], joint: Phases) -> xr.Dataset:
    """The mean score of the seeds fitted together; its published changes are the seeds' consensus."""
    mean = np.mean([run.score for run in runs], axis=0)
    state = np.median([run.state for run in runs], axis=0).astype(np.int64)
    run = Run(-1, runs[0].steps, mean, state)
    places = np.searchsorted(run.steps, joint.boundaries)
    match = match_boundaries(places, run.changes, tolerance=1)
    return _rows(run, joint, match, _TOGETHER)
