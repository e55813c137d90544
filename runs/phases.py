"""Phases of every branch, from the measures in a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geometry.excursions import Excursion, excursion
from geometry.phases import Phases, change_points
from runs.damage import blamed_on_damage
from runs.measures import write_node
from runs.recipe import PhasesTable
from runs.store import open_store
from runs.writing import digest

VERSION = 1
CURVES = {"log_rankme": ("rankme", "li2025"), "alpha": ("alpha_req", "li2025")}


def write_phases(path: Path, options: PhasesTable) -> None:
    """Find and keep the phases of every set and branch that has RankMe and α of the final layer.

    Parameters
    ----------
    path
        The store.
    options
        How change points are looked for.
    """
    with blamed_on_damage(path):
        _write_phases(path, options)


def _write_phases(path: Path, options: PhasesTable) -> None:
    tree = open_store(path)
    for name in tree["sets"].children if "sets" in tree.children else ():
        nodes = {curve: f"measures/{m}/{c}/{name}" for curve, (m, c) in CURVES.items()}
        if any(_node(tree, node) is None for node in nodes.values()):
            continue
        data = {curve: tree[node].to_dataset() for curve, node in nodes.items()}
        lineage = digest(
            [VERSION, options.model_dump(), *(d.attrs["lineage"] for d in data.values())]
        )
        for branch in np.unique(data["alpha"]["branch"].values):
            node = f"phases/{name}/{branch}"
            before = _node(tree, node)
            if before is not None and before.attrs.get("lineage") == lineage:
                continue
            found = find_phases(data, str(branch), options)
            write_node(path, node, found.assign_attrs(lineage=lineage, set=name))


def find_phases(data: dict[str, xr.Dataset], branch: str, options: PhasesTable) -> xr.Dataset:
    """Change points of ln RankMe and α of the final layer along one branch, and RankMe's excursions.

    Parameters
    ----------
    data
        `log_rankme`: the rankme/li2025 measure; `alpha`: alpha_req/li2025.
    branch
        Which branch.
    options
        Number of breaks, level, seed.

    Returns
    -------
    xarray.Dataset
        Dimensions boundary, segment, curve, tokens_fitted; boundaries in tokens. Attribute `excursion`
        tells how far RankMe fell and rose, and at which steps.
    """
    data = {k: d.isel(checkpoint=(d["branch"] == branch).values, layer=-1) for k, d in data.items()}
    # One measure may be behind the other, and two checkpoints may stand at the same tokens.
    rank, alpha = xr.align(data["log_rankme"], data["alpha"], join="inner", exclude=("layer",))
    first = np.unique(rank["tokens"].values, return_index=True)[1]
    rank, alpha = rank.isel(checkpoint=first), alpha.isel(checkpoint=first)
    data = {"log_rankme": rank, "alpha": alpha}
    curves = {"log_rankme": np.log(rank["value"].values), "alpha": alpha["value"].values}
    errors = {k: d["standard_error"].values for k, d in data.items()}
    tokens = rank["tokens"].values.astype(float)
    phases = change_points(
        curves,
        steps=tokens,
        standard_errors=errors,
        max_breaks=options.max_breaks,
        alpha=options.alpha,
        seed=options.seed,
    )
    there = np.isfinite(rank["value"].values) & np.isfinite(errors["log_rankme"])
    steps = rank["step"].values[there].astype(float)
    told = {}
    if len(steps) > 1:
        moved = excursion(
            curves["log_rankme"][there], errors["log_rankme"][there], steps, seed=options.seed
        )
        told = _told(moved, steps)
    return _dataset(phases).assign_attrs(
        note=phases.note,
        alpha=phases.alpha,
        p_values=[float(p) for p in phases.p_values],
        layer="final",
        branch=branch,
        excursion=told,
        source="continuous piecewise-linear curves in log10 tokens, AR(1) residuals, breaks by "
        "parametric bootstrap",
    )


def _dataset(phases: Phases) -> xr.Dataset:
    pairs = ("segment", "curve")
    return xr.Dataset(
        {
            "boundary_lower": ("boundary", np.asarray(phases.lower, float)),
            "boundary_upper": ("boundary", np.asarray(phases.upper, float)),
            "kind": ("boundary", np.asarray(phases.kind, dtype=str)),
            "label": ("segment", np.asarray(phases.labels, dtype=str)),
            "start": ("segment", np.asarray(phases.starts, float)),
            "end": ("segment", np.asarray(phases.ends, float)),
            "slope": (pairs, np.asarray(phases.slopes, float)),
            "slope_lower": (pairs, np.asarray(phases.slope_lower, float)),
            "slope_upper": (pairs, np.asarray(phases.slope_upper, float)),
            "fitted": (("tokens_fitted", "curve"), np.asarray(phases.fitted, float)),
        },
        coords={
            "boundary": np.asarray(phases.boundaries, float),
            "curve": np.asarray(phases.curves, dtype=str),
            "tokens_fitted": np.asarray(phases.steps_used, float),
        },
    )


def _node(tree: xr.DataTree, path: str) -> xr.DataTree | None:
    try:
        found = tree[path]
    except KeyError:
        return None
    return found if isinstance(found, xr.DataTree) and found.has_data else None


def _told(moved: Excursion, steps: NDArray[np.float64]) -> dict[str, float | bool | None]:
    """An excursion as plain numbers; a store's attributes are JSON, which has no NaN."""
    found: dict[str, float | bool] = {
        "first_step": steps[0],
        "first": moved.first,
        "minimum_step": moved.collapse_step,
        "minimum": moved.lowest,
        "collapse_ratio": moved.collapse_ratio,
        "collapsed": moved.collapsed,
        "maximum_step": moved.expansion_step,
        "maximum": moved.highest,
        "expansion_ratio": moved.expansion_ratio,
        "expanded": moved.expanded,
        "last_step": steps[-1],
        "last": moved.final,
        "last_ratio": moved.final_ratio,
    }
    for name, (lower, upper) in {
        "minimum_step": moved.collapse_step_interval,
        "collapse": moved.collapse_ratio_interval,
        "maximum_step": moved.expansion_step_interval,
        "expansion": moved.expansion_ratio_interval,
        "last_ratio": moved.final_ratio_interval,
    }.items():
        found |= {f"{name}_lower": lower, f"{name}_upper": upper}
    return {name: _plain(name, value) for name, value in found.items()}


def _plain(name: str, value: float | bool) -> float | bool | None:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if not np.isfinite(value):
        return None
    return round(value) if "step" in name else float(value)
