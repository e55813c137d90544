"""How often the toy's RankMe drops, as its start, counts and learning rate are changed.

`python -m benchmarks.toy_starts` prints the numbers of docs/toy.md that the store does not hold; a minute
or two on one core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from geometry.spectrum import rankme
from runs.models.toy import TASKS, Start, Task, descend, initialise
from runs.models.toy_measures import HEADLINE, count_seeds, events_of, fork_step, singular_values


def counts_of(
    task: Task, start: Start, *, steps: int, learning_rate: float = 0.25, **options: Any
) -> xr.Dataset:
    begin = initialise(task, start, **options)
    paths = descend(*begin, task, learning_rate=learning_rate, steps=steps)
    spectrum = singular_values(paths.features, centered=False) ** 2 / sum(task.counts)
    values = xr.DataArray(
        rankme(spectrum, convention=HEADLINE),
        dims=("seed", "step"),
        coords={"step": np.arange(steps + 1)},
    )
    forked = ("seed", fork_step(paths.features, task))
    return count_seeds(events_of(values).assign(fork_step=forked))


def show(said: str, counts: xr.Dataset) -> None:
    flags = " ".join(f"{name} {int(counts[name]):2d}" for name in ("fell", "declined", "dropped"))
    numbers = " ".join(f"{name} {float(counts[name]):.4f}" for name in ("decline", "drop"))
    steps = " ".join(f"{name} {float(counts[name]):.0f}" for name in ("peak_step", "fork_step"))
    print(f"{said:44s} {flags} {numbers} {steps}", flush=True)


def main() -> None:
    skewed = TASKS["skewed"]
    for task in TASKS.values():
        for start in ("constructed", "gaussian"):
            show(f"{task.name}, {start}, 3000 steps", counts_of(task, start, steps=3000))
    show("learning rate 0.05", counts_of(skewed, "constructed", steps=3000, learning_rate=0.05))
    for jitter in (1e-6, 1e-4, 0.01, 0.03, 0.1, 0.2, 0.3):
        found = counts_of(skewed, "constructed", steps=1500, jitter=jitter)
        show(f"constructed, jitter {jitter:g}", found)
    for spread in (0.001, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0, 2.0):
        found = counts_of(skewed, "gaussian", steps=3000, spread=spread)
        show(f"Gaussian, spread {spread:g}", found)
    for counts in ((2, 2, 3, 3), (2, 2, 4, 4), (4, 4, 1, 1), (4, 4, 2, 2), (4, 4, 3, 3)):
        task = Task("other", counts, 2, "cross_entropy", "")
        show(f"counts {counts}", counts_of(task, "constructed", steps=1500))


if __name__ == "__main__":
    main()
