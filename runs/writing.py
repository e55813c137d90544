"""Writing the store: identity, the checkpoint axis, products and their status."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from runs.checkpoints import Checkpoint
from runs.damage import named_errors
from runs.errors import InputError
from runs.leases import STALE_AFTER, Lease, folder_clock, sweep
from runs.nodes import ARRAYS, COLUMNS, CONTENT, columns_digest, open_node, seal
from runs.products.base import Arrays, ArraySpec, Spec

SCHEMA = 2
MISSING, DONE, FAILED = 0, 1, 2
_LISTED = 4096  # checkpoints a chunk of the small descriptive arrays
_DESCRIPTIONS = ("checkpoint", "step", "tokens", "branch", "revision")
_COMMIT = "commit"  # of each checkpoint's revision; stores made before have no such column
_CELLS: dict[str, tuple[Any, Any]] = {
    "status": ("uint8", MISSING),
    "error": (str, ""),
    "seconds": ("float64", float("nan")),
    "attempt": (str, ""),
    "digest": (str, ""),
    "processor": (str, ""),  # what computed the cell; stores of earlier versions lack it
}


# Zstd keeps 92 % of float activations; a checksum is what tells a damaged chunk from numbers.
_CHECKED = (Crc32cCodec(),)
_SMALLER = (ZstdCodec(level=0, checksum=True),)


class StoreWriter:
    """One store, open for writing by any number of processes.

    Descriptions and shapes change under an exclusive lock; a cell's chunks have one writer, the holder
    of the cell's lease.

    Parameters
    ----------
    path
        The Zarr folder; made if missing.

    Raises
    ------
    InputError
        If the folder cannot be written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.leases = path.with_name(path.name + ".leases")
        self._rows: dict[str, int] = {}
        self._columns: dict[str, int] = {}
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and any(path.iterdir()) and not (path / "zarr.json").is_file():
                raise InputError(f"{path}: is not a store and not empty; choose another `store`")
            with Lease(self.leases, "store").wait():
                self._root = zarr.open_group(path, mode="a", zarr_format=3)
                if "created" not in self._root.attrs:
                    self._root.attrs.update(
                        {"created": datetime.now(UTC).isoformat(timespec="seconds")}
                    )

    def claim(self, name: str) -> Lease:
        """A lease on one cell or on the store's metadata, not yet acquired."""
        return Lease(self.leases, name)

    def remember(
        self,
        *,
        name: str,
        recipe: str,
        identity: Mapping[str, str],
        series: str = "",
        shape: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep recipe and series table, and check that this run and the store are of one identity.

        Keys that only one of both has are additions; a key with two values is another store.

        Raises
        ------
        InputError
            With the differences.
        """
        with named_errors(self.path), self.claim("store").wait():
            # Opened afresh: a group keeps the attributes it was opened with.
            root = zarr.open_group(self.path, mode="r+")
            known = identity_of(root)
            different = [k for k, v in identity.items() if known.get(k, v) != v]
            if different:
                shown = "; ".join(
                    f"{k}: store has {_short(known[k])}, recipe gives {_short(identity[k])}"
                    for k in different
                )
                raise InputError(
                    f"{self.path}: was made from other inputs ({shown}); choose another `store`, or "
                    "put the recipe back"
                )
            merged = known | dict(identity)
            root.attrs.update(
                {
                    "name": name,
                    "recipe": recipe,
                    "series": series,
                    "identity": merged,
                    "identity_digest": digest(merged),
                    "versions": versions(),
                    **({} if shape is None else {"shape": dict(shape)}),
                }
            )

    def add_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Grow the checkpoint axis by those it does not have; a metadata-only resize.

        Raises
        ------
        InputError
            If a checkpoint of the same label has other tokens.
        """
        with named_errors(self.path), self.claim("store").wait():
            group = self._with_all_cells()
            labels = {label: row for row, label in enumerate(self.labels())}
            self._pin(group, checkpoints, labels)
            tokens = np.asarray(group["tokens"][:])  # type: ignore[index]  # zarr unions
            for checkpoint in checkpoints:
                if checkpoint.label in labels:
                    seen = int(tokens[labels[checkpoint.label]])
                    if seen != checkpoint.tokens:
                        raise InputError(
                            f"{self.path}: {checkpoint.label} has {seen} tokens in the store and "
                            f"{checkpoint.tokens} in the series; mend `series.tokens_per_step`"
                        )
            new = [c for c in checkpoints if c.label not in labels]
            if not new:
                return
            total = len(labels) + len(new)
            for array in self._along_checkpoints():
                array.resize((total, *array.shape[1:]))
            columns: dict[str, list[Any]] = {
                "step": [c.step for c in new],
                "tokens": [c.tokens for c in new],
                "branch": [c.branch for c in new],
                "revision": [c.revision for c in new],
                _COMMIT: [c.commit for c in new],
                "checkpoint": [c.label for c in new],  # last: a label says that the row is whole
            }
            for column, values in columns.items():
                array = array_in(group, column)
                array[len(labels) : total] = np.array(values, dtype=array.dtype)

    def pin(self, checkpoint: Checkpoint) -> None:
        """Keep the commit of a checkpoint that was not known when its row was made."""
        with named_errors(self.path), self.claim("store").wait():
            labels = {label: row for row, label in enumerate(self.labels())}
            self._pin(self._checkpoints(), [checkpoint], labels)

    def _pin(
        self, group: zarr.Group, checkpoints: Sequence[Checkpoint], rows: Mapping[str, int]
    ) -> None:
        if _COMMIT not in group:
            shape = array_in(group, "revision").shape
            _list_of_text(group, _COMMIT, shape)
        commits = array_in(group, _COMMIT)
        kept = np.asarray(commits[:])
        for checkpoint in checkpoints:
            row = rows.get(checkpoint.label)
            if checkpoint.commit and row is not None and not str(kept[row]):
                commits[row] = checkpoint.commit

    def add_set(self, spec: Spec) -> None:
        """Write a set's inputs and points, if they are not there."""
        with named_errors(self.path), self.claim("store").wait():
            base = f"sets/{spec.inputs.name}"
            inputs, points = spec.inputs, spec.points
            if f"{base}/points" in self._root and CONTENT in self._root[f"{base}/points"].attrs:
                return
            columns: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {
                "tokens": (("sample", "position"), inputs.tokens),
                "length": (("sample",), inputs.length),
                "fold": (("sample",), inputs.fold),
                "group": (("sample",), inputs.group),
                **({} if inputs.answer is None else {"answer": (("sample",), inputs.answer)}),
                **{k: (("sample",), v) for k, v in inputs.labels.items()},
            }
            self._write_columns(f"{base}/inputs", columns)
            self._root[f"{base}/inputs"].attrs.update(
                {
                    "description": inputs.description,
                    "digest": inputs.digest,
                    "pad": inputs.pad,
                    **({"source": inputs.source} if inputs.source else {}),
                    **({"dataset": inputs.texts} if inputs.texts else {}),
                }
            )
            self._write_columns(
                f"{base}/points",
                {
                    "sample": (("point",), points.sample),
                    "position": (("point",), points.position),
                    "last": (("point",), points.last),
                },
            )
            for node in (f"{base}/inputs", f"{base}/points"):  # killed before: written again
                seal(self.path, node)

    def add_product(
        self,
        label: str,
        layout: Mapping[str, ArraySpec],
        coordinates: Mapping[str, tuple[tuple[str, ...], NDArray[Any]]],
    ) -> None:
        """Lay a product's arrays out along the checkpoint axis, if they are not there."""
        with named_errors(self.path), self.claim("store").wait():
            group = self._with_all_cells()
            products = self.products()
            if label in products:
                return
            node = f"sets/{label}"
            self._write_columns(node, coordinates)
            total = len(self.labels())
            for name, array in layout.items():
                self._root.require_group(node).create_array(
                    name,
                    shape=(total, *array.shape),
                    chunks=(1, *array.chunks),
                    dtype=array.dtype,
                    fill_value=array.fill,
                    compressors=_CHECKED if array.dtype.startswith("float") else _SMALLER,
                    dimension_names=("checkpoint", *array.dims),
                    attributes=dict(array.attrs),
                    overwrite=True,
                )
            self._root[node].attrs[ARRAYS] = {
                **{name: ["", *dims] for name, (dims, _) in coordinates.items()},
                **{name: [a.dtype, "checkpoint", *a.dims] for name, a in layout.items()},
            }
            written = open_node(self.path, node, without=list(layout))
            self._root[node].attrs[COLUMNS] = columns_digest(written, coordinates)
            for name in _CELLS:
                array_in(group, name).resize((total, len(products) + 1))
            listed = array_in(group, "product")
            listed.resize((len(products) + 1,))
            listed[len(products)] = label

    def write(self, label: str, checkpoint: str, arrays: Arrays) -> None:
        """Write one cell's arrays, each chunk whole."""
        with named_errors(self.path):
            row = self._row(checkpoint)
            for name, values in arrays.items():
                array_in(self._root, f"sets/{label}/{name}")[row] = values

    def set_cell(self, label: str, checkpoint: str, **values: str | int | float) -> None:
        """Write a cell's status, error, seconds, attempt, digest or processor; status goes last."""
        with named_errors(self.path):
            cell = (self._row(checkpoint), self._column(label))
            for name in sorted(values, key=lambda n: n == "status"):
                array_in(self._root, f"checkpoints/{name}")[cell] = values[name]

    def set_matrices(self, checkpoint: str, digests: str) -> None:
        """Keep the digests of a checkpoint's large matrices, as JSON; its capturer is the one writer."""
        with named_errors(self.path):
            array_in(self._checkpoints(), "matrices")[self._row(checkpoint)] = digests

    def matrices(self) -> dict[str, str]:
        """Digests of large matrices, as JSON, by checkpoint; "" where they are not known yet."""
        values = np.asarray(array_in(self._checkpoints(), "matrices")[:])
        return {label: str(v) for label, v in zip(self.labels(), values, strict=False)}

    def cells(self, name: str) -> NDArray[Any]:
        """One of status, error, seconds, attempt, digest as (checkpoint, product)."""
        return np.asarray(array_in(self._checkpoints(), name)[:])

    def row(self, name: str, checkpoint: str, products: Iterable[str]) -> dict[str, Any]:
        """The cells of one checkpoint by product; a few files, where `cells` reads every one."""
        with named_errors(self.path):
            values = np.asarray(array_in(self._root, f"checkpoints/{name}")[self._row(checkpoint)])
            return {product: values[self._column(product)] for product in products}

    def tidy(self) -> None:
        """Remove what the dead left behind: stale leases, and files they were killed while writing."""
        sweep(self.leases)
        with named_errors(self.path), self.claim("store").wait() as mine:
            alone = all(lease == mine.path for lease in self.leases.glob("*.lease"))
            for draft in self.path.rglob("*.partial"):
                # A live writer needs its draft for less than a second, and may be done with it now.
                with suppress(FileNotFoundError):
                    age = folder_clock(self.leases) - draft.stat().st_mtime
                    if draft.is_file() and (alone or age > STALE_AFTER):
                        draft.unlink()

    def labels(self) -> list[str]:
        """Labels of the checkpoints in the store, in order of arrival."""
        labels = array_in(self._checkpoints(), "checkpoint")[:]
        return [str(label) for label in np.asarray(labels) if str(label)]

    def products(self) -> list[str]:
        """Labels `SET/PRODUCT` in order of arrival."""
        return [str(p) for p in np.asarray(array_in(self._checkpoints(), "product")[:]) if str(p)]

    def _row(self, checkpoint: str) -> int:
        # Rows and columns never move: a name is looked up in the store once.
        if checkpoint not in self._rows:
            self._rows = {label: row for row, label in enumerate(self.labels())}
        return self._rows[checkpoint]

    def _column(self, product: str) -> int:
        if product not in self._columns:
            self._columns = {label: column for column, label in enumerate(self.products())}
        return self._columns[product]

    def _checkpoints(self) -> zarr.Group:
        group = self._root.require_group("checkpoints")
        if "product" not in group:
            for name in _DESCRIPTIONS:
                dtype: Any = "int64" if name in ("step", "tokens") else str
                group.create_array(
                    name,
                    shape=(0,),
                    chunks=(_LISTED,),
                    dtype=dtype,
                    dimension_names=("checkpoint",),
                    overwrite=True,
                )
            for name, (dtype, fill) in _CELLS.items():
                group.create_array(
                    name,
                    shape=(0, 0),
                    chunks=(1, 1),
                    dtype=dtype,
                    fill_value=fill,
                    dimension_names=("checkpoint", "product"),
                    overwrite=True,
                )
            group.create_array(
                "matrices",
                shape=(0,),
                chunks=(1,),
                dtype=str,
                dimension_names=("checkpoint",),
                overwrite=True,
            )
            group.create_array(
                "product", shape=(0,), chunks=(_LISTED,), dtype=str, dimension_names=("product",)
            )
        return group

    def _with_all_cells(self) -> zarr.Group:
        """Give `/checkpoints` what a store of an earlier version lacks, empty; under the store's lock."""
        group = self._checkpoints()
        for name, (dtype, fill) in _CELLS.items():
            if name not in group:
                group.create_array(
                    name,
                    shape=array_in(group, "status").shape,
                    chunks=(1, 1),
                    dtype=dtype,
                    fill_value=fill,
                    dimension_names=("checkpoint", "product"),
                )
        return group

    def _along_checkpoints(self) -> Iterator[zarr.Array[Any]]:
        group = self._checkpoints()
        for label in self.products():
            for _, array in self._root[f"sets/{label}"].arrays():  # type: ignore[union-attr]  # a group
                names = getattr(array.metadata, "dimension_names", None) or (None,)
                if names[0] == "checkpoint":
                    yield array
        for name in (*_CELLS, "matrices", _COMMIT, *_DESCRIPTIONS[1:], "checkpoint"):
            yield array_in(group, name)

    def _write_columns(
        self, node: str, columns: Mapping[str, tuple[tuple[str, ...], NDArray[Any]]]
    ) -> None:
        group = self._root.require_group(node)
        for name, (dims, values) in columns.items():
            text = values.dtype.kind in "US"
            array = group.create_array(
                name,
                shape=values.shape,
                chunks=values.shape,
                dtype=str if text else values.dtype,
                dimension_names=dims,
                overwrite=True,
            )
            array[...] = values.astype(array.dtype)


def _list_of_text(group: zarr.Group, name: str, shape: tuple[int, ...]) -> None:
    group.create_array(
        name, shape=shape, chunks=(_LISTED,), dtype=str, dimension_names=("checkpoint",)
    )


def array_in(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """The array of a name in a group."""
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise InputError(f"{group.store_path}/{name}: is not an array; the store is damaged")
    return found


def identity_of(root: zarr.Group) -> dict[str, str]:
    """What a store remembers of the inputs it was made from."""
    known: Any = root.attrs.get("identity", {})
    return {str(key): str(value) for key, value in known.items()}


def digest(content: object) -> str:
    """SHA-256 of anything JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of what decides numbers."""
    packages: Iterable[str] = (
        "phasescope",
        "torch",
        "transformers",
        "numpy",
        "xarray",
        "zarr",
        "dask",
    )
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:12]}…"
