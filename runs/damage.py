"""What a store's files say when they cannot be read or written, as one line that names the store."""

from __future__ import annotations

import errno
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zarr

from runs.errors import InputError, PhasescopeError, line_of
from runs.packages import broken_package

# Without these no checkpoint of a store can be told from another.
_COLUMNS = ("checkpoint", "step", "tokens", "branch", "status", "error")
_TABLE = [f"checkpoints/{name}" for name in _COLUMNS]
_LAST = "checkpoints/product"  # it is made when the others are


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn what a file system says into one line that names the store and the mend."""
    try:
        with drafts_ignored():
            yield
    except (json.JSONDecodeError, KeyError, zarr.errors.BaseZarrError) as error:
        if not (path / "zarr.json").is_file():
            raise  # a folder of figures, say: it is nobody's damage
        found = find_damage(path, data=False)
        raise damaged(path, str(found)) if found else unexplained(path, error) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{path}: the disk is full; free space and run again, finished checkpoints are kept"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); set `store` to a folder of yours"
            ) from None
        raise


def unexplained(path: Path, error: Exception) -> InputError:
    """What a store is refused with that cannot be used although no damage can be shown."""
    return InputError(
        f"{path}: cannot be used ({type(error).__name__}: {line_of(error)}), though every part of it "
        "can be read; please report it"
    )


def damaged(path: Path, what: str) -> InputError:
    """What a store that cannot be used is refused with."""
    return InputError(
        f"{path}: the store is damaged ({what}); move it away and run the recipe again"
    )


@contextmanager
def blamed_on_damage(*paths: Path) -> Iterator[None]:
    """Blame an error on a store where it can be shown to be damaged, and only then."""
    try:
        with drafts_ignored():
            yield
    except PhasescopeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        for path in paths:
            if found := find_damage(path):
                raise _blame(path, found) from None
        raise


@contextmanager
def drafts_ignored() -> Iterator[None]:
    """Let listings pass over drafts of the living and the killed, and what others left here."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Object at .* is not recogni", category=zarr.errors.ZarrUserWarning
        )
        yield


@dataclass(frozen=True)
class Damage:
    """A node that cannot be read, the first line of why, and the row at which reading failed."""

    node: str
    why: str
    row: int | None

    def __str__(self) -> str:
        return f"{self.node}: {self.why}"


def find_damage(root: Path, *, data: bool = True) -> Damage | None:
    """The first thing in a store that cannot be read; None if everything can.

    Costs one read of the whole store, a chunk at a time; without `data`, of its metadata.
    """
    folders = [root]
    absent = [name for name in _TABLE if not (root / name / "zarr.json").is_file()]
    if absent and (root / _LAST / "zarr.json").is_file():
        return Damage(absent[0], "is not there", None)
    while folders:
        folder = folders.pop()
        row = None
        try:
            node = zarr.open(folder, mode="r")
            if isinstance(node, zarr.Group):
                inner = [f for f in folder.iterdir() if f.is_dir() and any(f.iterdir())]
                folders += sorted(inner, reverse=True)
                continue
            where = folder.relative_to(root)
            # Captured arrays are grown before checkpoints are listed; measures have rows of their own.
            captured = where.parts[:1] in (("sets",), ("checkpoints",))
            listed = _listed(root) if captured and _dimensions(node)[0] == "checkpoint" else 0
            if node.shape and node.shape[0] < listed:
                return Damage(str(where), f"has {node.shape[0]} rows", None)
            if data:
                for row in _rows(node):
                    node[row : row + max(node.chunks[0], 1)] if node.shape else node[...]
        except Exception as error:  # every codec fails in its own way
            if not _zarr_works():
                raise broken_package("zarr", error) from error
            return Damage(str(folder.relative_to(root)), line_of(error), row)
    return None


def _zarr_works() -> bool:
    """Whether a sound array can be written and read here: if not, no store is to blame."""
    try:
        with TemporaryDirectory() as folder:
            root = zarr.open_group(folder, mode="a", zarr_format=3)
            array = root.create_array("x", shape=(0,), chunks=(1,), dtype=str)
            array.resize((1,))
            array[0] = "sound"
            return str(zarr.open_array(Path(folder) / "x", mode="r")[0]) == "sound"
    except Exception:  # whatever it is, it is not of a store's making
        return False


def _dimensions(array: zarr.Array[Any]) -> tuple[str | None, ...]:
    return getattr(array.metadata, "dimension_names", None) or ("",)


def _listed(root: Path) -> int:
    """How many checkpoints a store says it has."""
    return int(zarr.open_array(root / "checkpoints/checkpoint", mode="r").shape[0])


def _rows(array: zarr.Array[Any]) -> range:
    """Where the chunks of an array begin along its first dimension."""
    return range(0, array.shape[0], max(array.chunks[0], 1)) if array.shape else range(1)


def _blame(path: Path, found: Damage) -> InputError:
    """Name the checkpoint if only its data are damaged: it can be captured again."""
    try:
        array = zarr.open_array(path / found.node, mode="r")
        ours = _dimensions(array)[0] == "checkpoint" and found.node.startswith("sets/")
        if found.row is None or not ours:
            return damaged(path, str(found))
        label = str(zarr.open_array(path / "checkpoints/checkpoint", mode="r")[found.row])
    except Exception:  # more than data is damaged
        return damaged(path, str(found))
    return InputError(
        f"{path}: {found.node} of {label} is damaged ({found.why}); capture it anew: `phasescope run "
        f"RECIPE --again {label}`"
    )
