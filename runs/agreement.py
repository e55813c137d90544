"""Do training runs agree on their phases: boundaries of several seeds side by side."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from geometry.agreement import consensus, log_grid, overlap, segment_of
from runs.errors import InputError

TOLERANCE = 0.25  # decades of tokens within which the boundaries of two runs are one
_NORMAL = 1.96


def phase_agreement(
    tree: xr.DataTree, *, name: str | None = None, tolerance: float = TOLERANCE
) -> xr.Dataset:
    """Boundaries that training runs share, training noise apart from probe noise.

    Parameters
    ----------
    tree
        A study of one store a seed, or a store whose branches are seeds.
    name
        The set of inputs; the first one with phases by default.
    tolerance
        Decades of tokens: boundaries of two runs are one if they span at most twice this.

    Returns
    -------
    xarray.Dataset
        Over `boundary`: `place` in tokens, geometric mean over the runs that have it; `share` of runs
        that have it; `training_error`, the jackknife over runs of log10 of the place; `lower`, `upper`,
        its 95 % interval; `probe_error`, root mean square of each fit's own error. Over (run, boundary):
        `member`, each run's own, NaN where it has none. Over (run, other_run): `adjusted_rand` of their
        segments on a grid even in log tokens.

    Raises
    ------
    InputError
        If fewer than two runs have phases.

    Notes
    -----
    Runs must differ in their seed alone for `training_error` to mean what it says; that is for the caller
    to know. See `geometry.agreement.consensus`.
    """
    runs = _phases_of(tree, name)
    places = [phases["boundary"].values for phases in runs.values()]
    errors = [
        np.log10(p["boundary_upper"].values / p["boundary_lower"].values) / (2 * _NORMAL)
        for p in runs.values()
    ]
    found = consensus(places, tolerance=tolerance, standard_errors=errors)
    names = list(runs)
    return xr.Dataset(
        {
            "place": ("boundary", found.places),
            "share": ("boundary", found.share),
            "training_error": ("boundary", found.training_error),
            "lower": ("boundary", found.lower),
            "upper": ("boundary", found.upper),
            "probe_error": ("boundary", found.probe_error),
            "member": (("run", "boundary"), found.members),
            "adjusted_rand": (("run", "other_run"), _alike(runs)),
        },
        {"run": names, "other_run": names},
        {"tolerance": tolerance, "unit": "tokens; errors in decades"},
    )


def show_agreement(found: xr.Dataset, console: Console) -> None:
    """Print the boundaries that runs share, and how alike their divisions are."""
    names = found["run"].values
    for number, name in enumerate(names, start=1):
        console.print(f"run {number}: {name}", soft_wrap=True)
    columns = [f"run {number}" for number in range(1, len(names) + 1)]
    table = Table("boundary, tokens", "share", "over runs ±", "own fit ±", *columns)
    for row in range(found.sizes["boundary"]):
        one = found.isel(boundary=row)
        own = [_tokens(float(v)) for v in one["member"].values]
        errors = [_decades(float(one[n])) for n in ("training_error", "probe_error")]
        table.add_row(_tokens(float(one["place"])), f"{float(one['share']):.0%}", *errors, *own)
    console.print(table)
    pairs = found["adjusted_rand"].values[np.triu_indices(len(names), 1)]
    console.print(
        f"adjusted Rand index between runs: mean {pairs.mean():.2f}, least {pairs.min():.2f}"
    )


def _phases_of(tree: xr.DataTree, name: str | None) -> dict[str, xr.Dataset]:
    sets = tree.children["phases"].children if "phases" in tree.children else {}
    chosen = next(iter(sets), "") if name is None else name
    nodes = sets[chosen].children if chosen in sets else {}
    runs = {str(run): node.to_dataset() for run, node in nodes.items() if node.has_data}
    if len(runs) < 2:
        raise InputError(
            f"{tree.attrs.get('name', 'this tree')}: {len(runs)} training runs have phases of set "
            f"{chosen or 'any'}, and two are needed; open one store a seed together, or run the recipes"
        )
    return runs


def _alike(runs: dict[str, xr.Dataset]) -> NDArray[np.float64]:
    fitted = [phases["tokens_fitted"].values for phases in runs.values()]
    low, high = max(t.min() for t in fitted), min(t.max() for t in fitted)
    found = np.eye(len(runs))
    if not low < high:  # they have no stretch of training in common
        return np.full_like(found, np.nan)
    grid = log_grid(float(low), float(high))
    parts = [segment_of(phases["boundary"].values, grid) for phases in runs.values()]
    for one, other in combinations(range(len(parts)), 2):
        alike = overlap(parts[one], parts[other]).adjusted_rand
        found[one, other] = found[other, one] = alike
    return found


def _tokens(value: float) -> str:
    return "—" if not np.isfinite(value) else f"{float(f'{value:.3g}'):,.0f}"


def _decades(value: float) -> str:
    return "—" if not np.isfinite(value) else f"{value:.3f} dec"
