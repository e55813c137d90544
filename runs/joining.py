"""Measures of several models as one array: rows of checkpoints, each with the name of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import xarray as xr

_Array = TypeVar("_Array", xr.DataArray, xr.Dataset)
_ADDED = ("model", "line", "blocks", "heads", "width", "depth", "block_depth", "length")


@dataclass(frozen=True)
class Member:
    """One model of a study.

    Attributes
    ----------
    name : str
        What it is called in the study.
    branches : tuple of str
        Its branches, in the order of its checkpoints.
    blocks, heads, width : int
        Its size; 0 where nothing in its store tells.
    """

    name: str
    branches: tuple[str, ...]
    blocks: int = 0
    heads: int = 0
    width: int = 0

    def line(self, branch: str) -> str:
        """What one branch of it is called: by the model alone if it has no other."""
        return self.name if len(self.branches) < 2 else f"{self.name} · {branch}"


def describe(name: str, tree: xr.DataTree) -> Member:
    """A model's branches and size, from the tree of its store."""
    sizes: dict[str, int] = {}
    for node in tree.subtree:
        for dim, size in node.to_dataset().sizes.items():
            sizes[str(dim)] = max(size, sizes.get(str(dim), 0))
    branches = dict.fromkeys(map(str, tree.children["checkpoints"].to_dataset()["branch"].values))
    blocks = sizes.get("block") or max(sizes.get("layer", 0) - 2, 0)
    width = sizes.get("feature") or sizes.get("rank", 0)
    return Member(name, tuple(branches), blocks, sizes.get("head", 0), width)


def join(members: Sequence[Member], parts: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Put one measure of several models below one another along `checkpoint`.

    Parameters
    ----------
    members
        Every model of the study, also those without this measure: their depths fix the layers' numbers.
    parts
        Model to its measure, as its own store gives it.

    Returns
    -------
    xarray.Dataset
        Labels are MODEL/LABEL. New coordinates on `checkpoint`: `model`, `line` (model, or model · branch
        where it has several), `blocks`, `heads`, `width`; `length` where known. `layer` counts embedding
        0, then blocks, and the layer after the final norm comes last, with one number for all models;
        `depth` is layer / blocks, and NaN after the final norm; `block_depth` is block / blocks. What a
        smaller model does not have is NaN.

    Notes
    -----
    Lazy where the parts are; the padding is made when it is computed.
    """
    last = 1 + max(member.blocks for member in members)
    names: dict[int, str] = {}
    rows = []
    for member in members:
        if member.name in parts:
            row, layers = _row(member, parts[member.name], last)
            rows.append(row)
            names |= layers
    # A length of 0 says "not known", so that the others' lengths stay whole numbers.
    if any("length" in row.coords for row in rows):
        rows = [_with_length(row) for row in rows]
    whole = xr.concat(
        rows,
        "checkpoint",
        join="outer",
        coords="minimal",
        compat="override",
        combine_attrs="drop",
    )
    if "layer" in whole.dims:
        named = [names[int(number)] for number in whole["layer"].values]
        whole = whole.assign_coords(layer_name=("layer", np.array(named)))
    return whole.assign_attrs(_attributes(parts))


def of_model(array: _Array, name: str) -> _Array:
    """One model's part of a joined measure, with the labels and layers of its own store.

    Raises
    ------
    KeyError
        If it has no such model.
    """
    from figures.select import own_part

    chosen = np.flatnonzero(array["model"].values.astype(str) == name)
    if chosen.size == 0:
        there = ", ".join(dict.fromkeys(array["model"].values.astype(str)))
        raise KeyError(f"no model `{name}` here; there are {there}")
    part = own_part(array.isel(checkpoint=chosen))
    own: dict[str, Any] = {
        label: ("checkpoint", _without(part[label].values.astype(str), name))
        for label in ("checkpoint", "other")
        if label in part.coords and part[label].dims == ("checkpoint",)
    }
    if "layer" in part.dims:
        numbers = part["layer"].values.copy()
        numbers[part["layer_name"].values == "final"] = int(part["blocks"].values[0]) + 1
        own["layer"] = numbers
        if "other_layer" in part.dims:
            own["other_layer"] = numbers
    return part.assign_coords(own).drop_vars([c for c in _ADDED if c in part.coords])


def _row(member: Member, data: xr.Dataset, last: int) -> tuple[xr.Dataset, dict[int, str]]:
    """One model's rows with their new coordinates, and the names of its layers by number."""
    count = data.sizes["checkpoint"]
    branches = data["branch"].values.astype(str)
    added: dict[str, Any] = {
        "model": ("checkpoint", np.full(count, member.name)),
        "line": ("checkpoint", np.array([member.line(b) for b in branches], dtype=str)),
    }
    for name in ("blocks", "heads", "width"):
        added[name] = ("checkpoint", np.full(count, getattr(member, name)))
    for name in ("checkpoint", "other"):
        if name in data.coords:
            labels = np.array(
                # Empty where there is nothing to compare with.
                [label and f"{member.name}/{label}" for label in np.atleast_1d(data[name])]
            )
            # The one checkpoint that all are compared with is not the same one in every model.
            dims = data[name].dims or ("checkpoint",)
            added[name] = (dims, labels if data[name].dims else np.repeat(labels, count))
    if "length" in data.attrs:
        added["length"] = ("checkpoint", np.full(count, int(data.attrs["length"])))
    names: dict[int, str] = {}
    if "layer" in data.dims:
        numbers = data["layer"].values.astype(int)
        final = numbers == member.blocks + 1
        depth = np.where(final, np.nan, numbers / max(member.blocks, 1))
        numbers = np.where(final, last, numbers)
        named = data["layer_name"].values if "layer_name" in data.coords else numbers
        names = dict(zip(numbers.tolist(), map(str, named), strict=True))
        added["layer"] = numbers
        if "other_layer" in data.dims:
            added["other_layer"] = numbers
        added["depth"] = (("checkpoint", "layer"), np.tile(depth, (count, 1)))
    elif "block" in data.dims:
        depth = data["block"].values / max(member.blocks, 1)
        added["block_depth"] = (("checkpoint", "block"), np.tile(depth, (count, 1)))
    if "head" in data.dims and "head" not in data.coords:
        added["head"] = np.arange(data.sizes["head"])
    return data.drop_vars("layer_name", errors="ignore").assign_coords(added), names


def _with_length(row: xr.Dataset) -> xr.Dataset:
    if "length" in row.coords:
        return row
    return row.assign_coords(length=("checkpoint", np.zeros(row.sizes["checkpoint"], int)))


def _attributes(parts: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """What all models say alike; inputs and lineage model by model where they differ."""
    first, *others = (part.attrs for part in parts.values())
    shared = {
        str(key): value
        for key, value in first.items()
        if key != "length" and all(key in o and o[key] == value for o in others)
    }
    if "inputs" not in shared and "inputs" in first:
        told = [f"{name}: {part.attrs.get('inputs', '')}" for name, part in parts.items()]
        shared["inputs"] = ". ".join(told)
    return shared | {
        "lineage": {name: str(part.attrs.get("lineage", "")) for name, part in parts.items()}
    }


def _without(labels: np.ndarray, name: str) -> np.ndarray:
    return np.array([label.removeprefix(f"{name}/") for label in labels])
