"""Opening a store: lazy, labelled, sorted, and nothing in it that was not finished."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr

from runs.damage import damaged, drafts_ignored, find_damage, unexplained
from runs.errors import InputError
from runs.nodes import ARRAYS, COLUMNS, CONTENT, is_sealed, misfit, open_node
from runs.processor import several
from runs.writing import DONE, FAILED, SCHEMA, identity_of

_THIN = 10.0  # samples a feature below which RankMe's finite-sample bias is several per cent
_UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, RuntimeError),
    *(AttributeError, ArithmeticError, MemoryError, AssertionError, pd.errors.InvalidIndexError),
)
_CHECKPOINT_COLUMNS = ("step", "tokens", "branch")


def open_store(path: str | Path) -> xr.DataTree:
    """Open a store for reading.

    Parameters
    ----------
    path
        The Zarr folder that a run wrote; it may still be growing.

    Returns
    -------
    xarray.DataTree
        Dask-backed and lazy. `/checkpoints` has every checkpoint, sorted by branch and tokens. A
        product's node has only the checkpoints whose cell is done, each with `step`, `tokens` and
        `branch` beside its label. The root's attributes tell name, recipe, versions, identity and
        `warnings`, one line each.

    Raises
    ------
    InputError
        If there is no store, it is damaged, or a newer version wrote it.

    Notes
    -----
    Costs the metadata and the small status arrays; hidden states load when they are computed with, one
    (checkpoint, layer) a chunk.
    """
    root = Path(path)
    if not (root / "zarr.json").is_file():
        raise InputError(f"{root}: is not a store; `phasescope run RECIPE` makes one")
    try:
        with drafts_ignored():
            return _open(root)
    except InputError:
        raise
    except _UNREADABLE as error:
        with drafts_ignored():
            found = find_damage(root, data=False)
        raise damaged(root, str(found)) if found else unexplained(root, error) from None


def _open(root: Path) -> xr.DataTree:
    group = zarr.open_group(root, mode="r")
    schema = identity_of(group).get("schema", str(SCHEMA))
    if int(schema) > SCHEMA:
        raise InputError(f"{root}: was written by a newer phasescope (schema {schema}); upgrade")
    if "checkpoints" not in group:
        raise InputError(f"{root}: holds no checkpoint yet; `phasescope run RECIPE` captures some")
    checkpoints = _checkpoints(root)
    nodes: dict[str, xr.Dataset] = {"/checkpoints": checkpoints}
    for name in sorted(_groups(group, "sets")):
        for part in _groups(group, f"sets/{name}"):
            label = f"{name}/{part}"
            dataset = _read(root, f"sets/{label}")
            if wrong := misfit(dataset):
                raise damaged(root, f"sets/{label}/{wrong}")
            for key in (ARRAYS, COLUMNS):
                dataset.attrs.pop(key, None)
            if part in ("inputs", "points") and not is_sealed(dataset):
                raise damaged(root, f"sets/{label} is not what was written")
            if label in checkpoints["product"].values:
                dataset = _finished(dataset, checkpoints, label)
            nodes[f"/sets/{label}"] = dataset
        nodes[f"/sets/{name}/points"] = with_groups(
            nodes[f"/sets/{name}/points"], nodes[f"/sets/{name}/inputs"]
        )
    spoilt: list[str] = []
    for base, depth in (("measures", 3), ("phases", 2)):
        for label in _leaves(group, base, depth):
            found = _derived(root, label)
            if found is None:
                spoilt.append(f"{label} is damaged: `phasescope measure STORE` computes it again")
            else:
                nodes[f"/{label}"] = found
    attrs = {str(k): v for k, v in group.attrs.items()}
    for key in ("identity", "versions"):
        if not isinstance(attrs.get(key, {}), dict):
            raise damaged(root, f"its attribute `{key}` is no table")
    attrs |= {"path": str(root), "warnings": [*_warnings(checkpoints), *_thin_sets(nodes), *spoilt]}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **nodes})


def _derived(root: Path, label: str) -> xr.Dataset | None:
    """A measure or phases; None if it is damaged, for it can be computed again."""
    try:
        found = open_node(root, label)
        return _labelled(found) if is_sealed(found) else None
    except _UNREADABLE:
        return None


def _checkpoints(root: Path) -> xr.Dataset:
    found = _labelled(_read(root, "checkpoints"))
    # A run killed while the axis grew leaves rows without a label; the next run fills them.
    found = found.isel(
        checkpoint=np.flatnonzero(found["checkpoint"].values != ""),
        product=np.flatnonzero(found["product"].values != ""),
    )
    found = found.drop_vars("matrices", errors="ignore").set_coords(_CHECKPOINT_COLUMNS)
    for label, branch, step in zip(
        *(found[name].values for name in ("checkpoint", "branch", "step")), strict=True
    ):
        if label != f"{branch}/step{step}":
            raise damaged(root, f"checkpoints: {label} is listed as step {step} of `{branch}`")
    found = found.assign_coords(row=("checkpoint", np.arange(found.sizes["checkpoint"])))
    order = np.lexsort((found["step"].values, found["tokens"].values, found["branch"].values))
    return found.isel(checkpoint=order)


def _finished(dataset: xr.Dataset, checkpoints: xr.Dataset, label: str) -> xr.Dataset:
    done = checkpoints.sel(product=label)
    done = done.isel(checkpoint=np.flatnonzero(done["status"].values == DONE))
    chosen = dataset.isel(checkpoint=done["row"].values)
    chosen = chosen.assign_coords(
        {name: ("checkpoint", done[name].values) for name in ("checkpoint", *_CHECKPOINT_COLUMNS)}
    )
    return _labelled(chosen)


def _labelled(dataset: xr.Dataset) -> xr.Dataset:
    """Text as plain NumPy text, and every variable that names a dimension's cells as a coordinate."""
    for name in [*dataset.variables]:
        if dataset[name].dtype.kind in "OT":
            # By way of Python text: NumPy cannot cast variable-length strings to fixed ones.
            values = np.asarray(dataset[name].values)
            plain = np.array(values.tolist(), dtype=str).reshape(values.shape)
            dataset = dataset.assign({name: (dataset[name].dims, plain)})
    dataset.attrs.pop(CONTENT, None)
    names = [n for n in dataset.data_vars if n in ("layer_name", "position_end", "kept")]
    return dataset.set_coords([*names])


def with_groups(points: xr.Dataset, inputs: xr.Dataset) -> xr.Dataset:
    """Labels and resampling groups of the points, from their samples."""
    sample = points["sample"].values
    extra: dict[Hashable, Any] = {
        name: ("point", inputs[name].values[sample])
        for name in inputs.data_vars
        if inputs[name].dims == ("sample",) and name not in ("length",)
    }
    return points.assign(extra)


def _read(root: Path, label: str) -> xr.Dataset:
    # Products stay lazy, in their stored chunks; everything else is small.
    lazy = label.startswith("sets/") and not label.endswith(("/inputs", "/points"))
    try:
        dataset = open_node(root, label, lazy=lazy)
    except ValueError as error:
        if "conflicting sizes" not in str(error):
            raise
        # Seen while the checkpoint axis grows, or after a kill in that moment: some arrays are longer.
        names = [name for name, _ in zarr.open_group(root, path=label, mode="r").arrays()]
        parts = [
            open_node(root, label, lazy=lazy, without=[n for n in names if n != name])
            for name in names
        ]
        rows = min(part.sizes["checkpoint"] for part in parts if "checkpoint" in part.sizes)
        shortened = [p.isel(checkpoint=slice(rows), missing_dims="ignore") for p in parts]
        dataset = xr.merge(shortened, compat="override", join="override")
    return dataset


def _groups(group: zarr.Group, base: str) -> list[str]:
    found = group.get(base)
    return sorted(name for name, _ in found.groups()) if isinstance(found, zarr.Group) else []


def _leaves(group: zarr.Group, base: str, depth: int) -> Iterable[str]:
    if depth == 0:
        if "complete" in group[base].attrs:  # set last: a half-written measure is not there
            yield base
        return
    for name in _groups(group, base):
        yield from _leaves(group, f"{base}/{name}", depth - 1)


def _thin_sets(nodes: dict[str, xr.Dataset]) -> list[str]:
    found = []
    for path, dataset in nodes.items():
        if path.startswith("/sets/") and path.endswith("/hidden"):
            samples = int(nodes[path.removesuffix("hidden") + "points"]["last"].values.sum())
            ratio = samples / dataset.sizes["feature"]
            if ratio < _THIN:
                found.append(
                    f"set {path.split('/')[2]}: N/d = {ratio:.1f}, so RankMe reads low; compare its "
                    "levels only at equal N/d"
                )
    return found


def _warnings(checkpoints: xr.Dataset) -> list[str]:
    status = checkpoints["status"].values
    errors = checkpoints["error"].values
    found = []
    for row, label in enumerate(checkpoints["checkpoint"].values):
        for reason in pd.unique(errors[row][status[row] == FAILED]):
            found.append(f"{label} failed: {reason}")
    unfinished = int((~np.isin(status, (DONE, FAILED))).any(axis=1).sum())
    if unfinished:
        found.append(f"{unfinished} checkpoints are not finished: run the recipe again")
    if "processor" in checkpoints and (
        told := several(checkpoints["processor"].values[status == DONE])
    ):
        found.append(told)
    return found
