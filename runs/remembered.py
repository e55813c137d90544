"""What a store remembers of its series, so that a run goes on when nothing else is left of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from runs.architectures import ModelShape
from runs.damage import drafts_ignored
from runs.inputs import InputSet
from runs.nodes import is_sealed, open_node
from runs.recipe import InputTable
from runs.writing import DONE, FAILED, identity_of

SOURCE = "source"  # attribute of a set's inputs: digest of what it was made from
DATASET = (
    "dataset"  # attribute of a set's inputs: OWNER/NAME@REVISION and the commit it was read at
)
_OWN = ("sample", "position")  # dimensions, and names that no label has
_COLUMNS = ("tokens", "length", "fold", "group", "answer")


@dataclass(frozen=True)
class Remembered:
    """What a store knows of its series; empty if there is no store yet.

    Attributes
    ----------
    path : Path
    revisions, commits : dict of str to str
        By checkpoint label; "" where it is not known.
    shape : ModelShape or None
    tokenizer : str
        The tokenizer's digest.
    vocabulary : int
        Entries of the unembedding that are tokens.
    status : dict of (str, str) to int
        By checkpoint and `SET/PRODUCT`.
    """

    path: Path
    revisions: Mapping[str, str] = field(default_factory=dict)
    commits: Mapping[str, str] = field(default_factory=dict)
    shape: ModelShape | None = None
    tokenizer: str = ""
    vocabulary: int = 0
    status: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def settled(self, label: str, products: Sequence[str], *, retry: bool = False) -> bool:
        """Whether every cell of a checkpoint is captured, or has failed and is not tried again."""
        finished = (DONE,) if retry else (DONE, FAILED)
        return all(self.status.get((label, product)) in finished for product in products)

    def inputs(self, name: str) -> xr.Dataset | None:
        """A set as it was written; None if it is not there, or not what was written."""
        if not (self.path / "sets" / name / "inputs" / "zarr.json").is_file():
            return None
        with drafts_ignored():
            try:
                found = open_node(self.path, f"sets/{name}/inputs")
            except Exception:  # whatever a damaged store brings
                return None  # a store that is damaged is told when it is opened for writing
        whole = SOURCE in found.attrs and is_sealed(found) and "content" in found.attrs
        return found if whole else None

    def set_of(self, name: str, table: InputTable, source: str) -> InputSet | None:
        """The set that a table asks for, if it was made from the same text with the same tokenizer."""
        found = self.inputs(name)
        if found is None or found.attrs[SOURCE] != source or "pad" not in found.attrs:
            return None
        labels = {
            str(key): np.array(value.values.tolist(), dtype=str)
            for key, value in found.data_vars.items()
            if key not in _COLUMNS
        }
        answer = found["answer"].values if "answer" in found and table.answer else None
        return InputSet(
            name,
            found["tokens"].values.astype(np.int32),
            found["length"].values.astype(np.int32),
            found["fold"].values.astype(np.uint8),
            found["group"].values.astype(np.int32),
            labels,
            int(found.attrs["pad"]),
            str(found.attrs["description"]),
            str(found.attrs["digest"]),
            answer,
            table.repetition,
            source=source,
            texts=str(found.attrs.get(DATASET, "")),
        )


def remembered(path: Path) -> Remembered:
    """Read what a store remembers; nothing if it is not there, or cannot be read."""
    if not (path / "zarr.json").is_file():
        return Remembered(path)
    try:
        with drafts_ignored():
            return _read(zarr.open_group(path, mode="r"), path)
    except Exception:  # whatever a damaged store brings
        return Remembered(path)  # the run opens it for writing next, and says what is wrong


def _read(root: zarr.Group, path: Path) -> Remembered:
    group = root.get("checkpoints")
    if not isinstance(group, zarr.Group) or "product" not in group:
        return Remembered(path)
    columns = {
        name: [str(v) for v in np.asarray(group[name][:])]  # type: ignore[index]  # zarr unions
        for name in ("checkpoint", "revision", "product", "commit")
        if name in group
    }
    labels, products = columns["checkpoint"], columns["product"]
    status = np.asarray(group["status"][:])  # type: ignore[index]  # zarr unions
    cells = {
        (label, product): int(status[row, column])
        for row, label in enumerate(labels[: len(status)])
        for column, product in enumerate(products[: status.shape[1]])
        if label and product
    }
    identity = identity_of(root)
    shape: Any = root.attrs.get("shape")
    return Remembered(
        path,
        dict(zip(labels, columns["revision"], strict=False)),
        dict(zip(labels, columns.get("commit", []), strict=False)),
        ModelShape(**shape) if isinstance(shape, dict) else None,
        identity.get("tokenizer", ""),
        int(identity.get("vocabulary", "0")),
        cells,
    )


def source_of_set(table: InputTable, tokenizer: str, commit: str = "") -> str:
    """Digest of all that decides a set before it is tokenised; "" if that is more than one file.

    Parameters
    ----------
    table
        `[inputs.NAME]`.
    tokenizer
        Digest of the tokenizer.
    commit
        Of the hub's data set, if the text is read from one.
    """
    if table.mode not in ("document", "packed", "repeated") or not tokenizer:
        return ""
    content = commit
    if table.mode != "repeated" and not commit:
        if not table.path.is_file():
            return ""
        with table.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    told = table.model_dump(mode="json", exclude={"path", "products", "visits"})
    return hashlib.sha256(
        json.dumps([told, tokenizer, content], sort_keys=True).encode()
    ).hexdigest()
