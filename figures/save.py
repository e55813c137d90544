"""Writes a figure and the table behind it, the same bytes on every run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from figures.select import is_study, own_part
from figures.style import styled, theme_named

# matplotlib's own date stamps would change the bytes on every run.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
_FIRST = ("variable", "value", "unit", "model", "branch", "step", "tokens", "checkpoint")


def tidy(table: xr.Dataset) -> pd.DataFrame:
    """One row a number: its variable, value and unit, then every coordinate it has, as text.

    Numbers are written with the fewest digits that give the same float back; a coordinate that a
    variable does not have is empty. Costs a few hundred bytes a number.
    """
    frames = []
    for name, data in ((n, part) for n, d in table.data_vars.items() for part in _unpadded(d)):
        index = [coord for coord in data.coords if data[coord].dims]
        whole = data.reset_coords([c for c in data.coords if c not in index], drop=True)
        frame = whole.to_dataframe(name="value").reset_index()
        texts = frame.map(str).astype(object)
        # A dimension without a coordinate would appear as a bare row number.
        spare = [c for c in texts.columns if c != "value" and c not in data.coords]
        texts = texts.drop(columns=spare)
        texts.insert(0, "variable", str(name))
        texts.insert(1, "unit", str(data.attrs.get("units", "")))
        frames.append(texts)
    rows = pd.concat(frames, ignore_index=True).fillna("")
    # The order in which a store lists its coordinates must not change the file.
    first = [column for column in _FIRST if column in rows.columns]
    return rows[first + sorted(set(rows.columns) - set(first))]


def _unpadded(data: xr.DataArray) -> Iterator[xr.DataArray]:
    """Each model's part of a study's table without the layers that only larger models have."""
    if not is_study(data):
        yield data
        return
    (dim,) = data["model"].dims
    names = data["model"].values.astype(str)
    for name in dict.fromkeys(names):
        yield own_part(data.isel({dim: np.flatnonzero(names == name)}))


def csv_text(table: xr.Dataset) -> str:
    """Return the tidy table as CSV with a header line and Unix line ends."""
    return tidy(table).to_csv(index=False, lineterminator="\n")


def image_bytes(figure: Figure, table: xr.Dataset, kind: str) -> bytes:
    """Render the figure as "png", "svg" or "pdf", without dates or random ids.

    Raises
    ------
    ValueError
        If `kind` is none of the three.
    """
    if kind not in _METADATA:
        raise ValueError(f"formats holds {kind!r}; give some of {', '.join(_METADATA)}")
    buffer = io.BytesIO()
    with styled(theme_named(str(table.attrs.get("theme", "light")))):
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    return buffer.getvalue()


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def save(
    figure: Figure,
    table: xr.Dataset,
    folder: str | os.PathLike[str],
    name: str,
    *,
    provenance: Mapping[str, Any],
    formats: Sequence[str] = ("png", "svg", "pdf"),
) -> list[Path]:
    """Write the images, `name.csv` (tidy table) and `name.json` (where it came from).

    The same figure gives the same bytes on every run with the same matplotlib.

    Parameters
    ----------
    provenance : what the caller knows of the figure's origin; it must serialise as JSON. The file
        adds `files`, the sha256 of each file written beside it.
    formats : some of "png", "svg", "pdf".

    Returns
    -------
    The paths written, in the order images, CSV, JSON.

    Raises
    ------
    ValueError
        For an unknown format, a name with a folder in it, or a provenance with its own `files`.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"name is {name!r}; give a plain file name and put the rest in folder")
    if "files" in provenance:
        raise ValueError("provenance has a key 'files', which save() writes itself; rename it")
    contents = {f"{name}.{kind}": image_bytes(figure, table, kind) for kind in formats}
    contents[f"{name}.csv"] = csv_text(table).encode()
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    record = {**provenance, "files": digests}
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False)
    contents[f"{name}.json"] = (text + "\n").encode()
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        write_atomic(target / file, content)
    return [target / file for file in contents]
