"""Nodes of a store: reading one, and telling whether it is still what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

ARRAYS = "arrays"  # the attribute that lists a product's arrays, their dimensions and dtypes
COLUMNS = "columns"  # the attribute that holds the digest of a product's coordinates
CONTENT = "content"  # the attribute that holds a node's digest


def open_node(
    root: Path, label: str, *, lazy: bool = False, without: Sequence[str] | None = None
) -> xr.Dataset:
    """One group of a store as a dataset, in its stored chunks if it is to stay lazy."""
    dataset: xr.Dataset = xr.open_zarr(
        root,
        group=label,
        consolidated=False,
        chunks={} if lazy else None,
        drop_variables=without,
    )
    return dataset if lazy else dataset.load()


def seal(root: Path, label: str, **attributes: Any) -> None:
    """Keep the digest of a small node that is written whole, and attributes that say so."""
    group = zarr.open_group(root, path=label, mode="r+")
    written = open_node(root, label).assign_attrs(attributes)
    group.attrs.update({CONTENT: content_digest(written), **attributes})


def is_sealed(dataset: xr.Dataset) -> bool:
    """Whether a node is what was written; one written before there were digests is trusted."""
    return dataset.attrs.get(CONTENT, "") in ("", content_digest(dataset))


def content_digest(dataset: xr.Dataset) -> str:
    """SHA-256 over the attributes, names, dimensions and values of a small dataset."""
    told = {str(k): v for k, v in dataset.attrs.items() if k != CONTENT}
    return columns_digest(dataset, map(str, dataset.variables), told)


def columns_digest(
    dataset: xr.Dataset, names: Iterable[str], attributes: Mapping[str, Any] | None = None
) -> str:
    """SHA-256 over names, dimensions and values of some columns, and over attributes if given."""
    state = hashlib.sha256(json.dumps(attributes or {}, sort_keys=True, default=str).encode())
    for name in sorted(names):
        variable = dataset[name].variable
        values = np.asarray(variable.values)
        state.update(f"{name}{variable.dims}{values.shape}".encode())
        if values.dtype.kind in "OTU":
            state.update(json.dumps(values.tolist(), default=str).encode())
            continue
        if values.dtype.kind == "f":
            # Fill values come back as another NaN, and as zeros without their sign.
            values = np.where(np.isnan(values), np.nan, values) + 0.0
        state.update(f"{values.dtype}".encode() + np.ascontiguousarray(values).tobytes())
    return state.hexdigest()


def misfit(dataset: xr.Dataset) -> str:
    """The first array of a product that is not there as it was laid out; empty if all are."""
    arrays = dataset.attrs.get(ARRAYS, {})
    for name, (dtype, *dims) in arrays.items():
        if name not in dataset.variables:
            return f"{name} is not there"
        found = dataset[name]
        if list(found.dims) != dims or dtype not in ("", str(found.dtype)):
            return f"{name} is {found.dtype} over {', '.join(map(str, found.dims))}"
    columns = [name for name, (dtype, *_) in arrays.items() if not dtype]
    if dataset.attrs.get(COLUMNS, "") not in ("", columns_digest(dataset, columns)):
        return f"{' or '.join(columns)} is not what was written"
    return ""
