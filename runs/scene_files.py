"""Scenes in Parquet files: a row a case, with its image as PNG bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.lib
import pyarrow.parquet

from probes.case_table import cases_of_columns
from probes.cases import KINDS, Cases, Image
from runs.errors import InputError, line_of
from runs.inputs import Scenes
from runs.packages import named_imports, require_extra

_OURS = b"phasescope"
_CASES_AT_ONCE = 2048
# Images repeat from case to case: a dictionary this large holds each once in a row group.
_DICTIONARY_BYTES = 1 << 28
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class StoredScenes:
    """Cases of a file, and their images as PNG bytes by number."""

    cases: Cases
    pictures: Mapping[int, bytes] = field(repr=False)

    def image(self, number: int) -> Image:
        """Image `number` of `Cases.image` (height, width, 3).

        Raises
        ------
        InputError
            If its bytes are no picture.
        """
        try:
            with _pillow().open(io.BytesIO(self.pictures[number])) as picture:
                return np.asarray(picture.convert("RGB"), np.uint8)
        except OSError as error:
            raise InputError(f"image {number} cannot be read ({line_of(error)})") from None

    def digest(self) -> str:
        """SHA-256 of the bytes of all images of the cases, in order."""
        state = hashlib.sha256()
        for number in np.unique(self.cases.image).tolist():
            state.update(f"{number}:{len(self.pictures[number])}".encode() + self.pictures[number])
        return state.hexdigest()


def png_bytes(image: Image) -> bytes:
    """One image as PNG."""
    target = io.BytesIO()
    _pillow().fromarray(image).save(target, format="PNG")
    return target.getvalue()


def write_scenes(path: Path, scenes: Scenes, *, made: Mapping[str, object]) -> None:
    """Write all cases with their images; the file appears whole or not at all.

    Beside the columns of `Cases` (its `image` is called `image_number`) there is `image`, a struct of
    `bytes` and `path` as the datasets library has it. Images are drawn one at a time; memory is that of
    about 2000 cases' PNGs.

    Parameters
    ----------
    path
        A `.parquet` file.
    scenes
        Cases and what shows their images.
    made
        How they were made, kept in the file's metadata.

    Raises
    ------
    InputError
        If Pillow is missing.
    """
    _pillow()
    cases = scenes.cases
    notes = {
        _OURS: json.dumps({"made": dict(made), "candidates": dict(cases.candidates)}).encode(),
        b"huggingface": json.dumps({"info": {"features": _features(cases)}}).encode(),
    }
    schema = _schema(cases).with_metadata(notes)
    part = path.with_name(path.name + ".part")
    known: dict[int, bytes] = {}
    with pyarrow.parquet.ParquetWriter(
        part,
        schema,
        compression={name: "none" if name == "image.bytes" else "zstd" for name in _leaves(schema)},
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
    ) as writer:
        for start in range(0, len(cases), _CASES_AT_ONCE):
            rows = cases.part(slice(start, start + _CASES_AT_ONCE))
            numbers = rows.image.tolist()
            known = {
                n: known[n] if n in known else png_bytes(scenes.image(n)) for n in set(numbers)
            }
            pictures = [{"bytes": known[n], "path": f"{n:06d}.png"} for n in numbers]
            columns = {_name(key): pa.array(column) for key, column in rows.columns().items()}
            columns["image"] = pa.array(pictures, _IMAGE)
            writer.write_table(pa.table(columns).select(schema.names).cast(schema))
    part.replace(path)


def read_scenes(path: Path) -> StoredScenes:
    """Read what `write_scenes` wrote; PNG bytes are held, pixels are not.

    Raises
    ------
    InputError
        If there is no such file, or it lacks a column, a candidate or a picture.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; `phasescope scenes` writes one")
    try:
        file = pyarrow.parquet.ParquetFile(path)
        schema = file.schema_arrow
        notes = json.loads((schema.metadata or {}).get(_OURS, b"null"))
        if not isinstance(notes, dict) or "candidates" not in notes:
            raise InputError(f"{path}: was not written by `phasescope scenes`; write it again")
        missing = [name for name in _leaves_of_cases() if name not in schema.names]
        if missing:
            raise InputError(f"{path}: has no column `{missing[0]}`; write it again")
        pictures: dict[int, bytes] = {}
        parts: list[dict[str, np.ndarray[Any, Any]]] = []
        for batch in file.iter_batches(batch_size=_CASES_AT_ONCE):
            numbers = batch.column("image_number").to_pylist()
            stored = batch.column("image").field("bytes")
            for row, number in enumerate(numbers):
                if number not in pictures:
                    pictures[number] = stored[row].as_py()
            parts.append({n: np.array(batch.column(_name(n)).to_pylist()) for n in _fields()})
    except (pyarrow.lib.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({line_of(error)})") from None
    if not parts or any(picture is None for picture in pictures.values()):
        raise InputError(f"{path}: holds no cases, or one without a picture; write it again")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in _fields()}
    candidates = {str(k): tuple(map(str, v)) for k, v in notes["candidates"].items()}
    cases = cases_of_columns(columns, candidates)
    foreign = set(cases.kind.tolist()) - set(KINDS) | set(cases.subset.tolist()) - set(candidates)
    if foreign:
        raise InputError(f"{path}: unknown kind or subset {min(foreign)!r}; write it again")
    return StoredScenes(cases, pictures)


def _pillow() -> Any:
    require_extra("vision", "pillow", where="images as PNG")
    with named_imports():
        from PIL import Image as pillow
    return pillow


def _fields() -> tuple[str, ...]:
    return tuple(name for name in Cases.__dataclass_fields__ if name != "candidates")


def _name(field_name: str) -> str:
    return "image_number" if field_name == "image" else field_name


def _leaves_of_cases() -> list[str]:
    return [*map(_name, _fields()), "image"]


def _schema(cases: Cases) -> pa.Schema:
    kinds = {
        _name(key): pa.string() if column.dtype.kind == "U" else pa.from_numpy_dtype(column.dtype)
        for key, column in cases.columns().items()
    }
    return pa.schema([*kinds.items(), ("image", _IMAGE)])


def _leaves(schema: pa.Schema) -> list[str]:
    return [name for name in schema.names if name != "image"] + ["image.bytes", "image.path"]


def _features(cases: Cases) -> dict[str, dict[str, str]]:
    """What the datasets library needs to show the images."""
    found = {
        _name(key): {
            "dtype": "string" if column.dtype.kind == "U" else str(column.dtype),
            "_type": "Value",
        }
        for key, column in cases.columns().items()
    }
    return {**found, "image": {"_type": "Image"}}
