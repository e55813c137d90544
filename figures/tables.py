"""The tables of the report: checkpoints, numbers of the final layer, definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from figures.axes import short_number
from figures.select import at_layer, by_branch, child_names, dataset_at
from figures.summary import interval

TABLED = (
    ("RankMe", "rankme", "li2025"),
    ("α-ReQ", "alpha_req", "li2025"),
    ("loss", "loss", "surprisal"),
    ("next-token accuracy", "next_token_accuracy", "top1"),
)
"""Title, measure and convention of each column of numbers."""

_STATUS = {0: "missing", 1: "done", 2: "failed"}


def checkpoint_rows(
    checkpoints: xr.Dataset | None, lines: Mapping[str, str]
) -> list[dict[str, str]]:
    """One row a checkpoint: done, failed with its reason, or what is missing.

    Parameters
    ----------
    lines : branch to what a study calls it; empty for one store.
    """
    if checkpoints is None:
        return []
    products = [str(p) for p in checkpoints["product"].values]
    rows = []
    for branch, part in by_branch(checkpoints):
        for index in range(part.sizes["checkpoint"]):
            states = [int(s) for s in part["status"].transpose("checkpoint", ...).values[index]]
            state = 2 if 2 in states else min(states, default=0)
            named = [p for p, s in zip(products, states, strict=True) if s == state]
            whole = state == 1 or len(named) == len(products)
            rows.append(
                {
                    "branch": lines.get(branch, branch),
                    "step": f"{int(part['step'].values[index]):,}",
                    "tokens": _tokens(
                        float(part["tokens"].values[index]), part.sizes["checkpoint"]
                    ),
                    "status": _STATUS.get(state, "unknown"),
                    "products": "" if whole else ", ".join(named),
                    "error": _reasons(part["error"].values[index]) if "error" in part else "",
                }
            )
    return rows


def _reasons(errors: Any) -> str:
    """Join what went wrong, once for all products or product by product; each reason once."""
    told = [str(error) for error in np.atleast_1d(errors)]
    return "; ".join(dict.fromkeys(line for line in told if line))


def value_tables(tree: xr.DataTree, chosen: str, lines: Mapping[str, str]) -> list[dict[str, Any]]:
    """One table a branch: RankMe and α of the final layer, and what is known of its predictions.

    Parameters
    ----------
    tree : of one store.
    chosen : the set of inputs.
    lines : branch to what a study calls it; empty for one store.
    """
    columns = {}
    for title, measure, convention in TABLED:
        data = dataset_at(tree, f"measures/{measure}/{convention}/{chosen}")
        if data is not None:
            layers = data.sizes.get("layer", 0)
            final = int(data["layer"].values[-1]) if layers else 0
            columns[title] = dict(by_branch(at_layer(data, final).compute()))
    names = dict.fromkeys(branch for parts in columns.values() for branch in parts)
    return [
        {
            "branch": lines.get(branch, branch),
            "columns": list(columns),
            "rows": _value_rows(columns, branch),
        }
        for branch in names
    ]


def _value_rows(
    columns: Mapping[str, Mapping[str, xr.Dataset]], branch: str
) -> list[tuple[str, str, list[str]]]:
    cells: dict[tuple[int, int], dict[str, str]] = {}
    for title, parts in columns.items():
        part = parts.get(branch)
        if part is None:
            continue
        ends = [part[name].values if name in part else None for name in ("lower", "upper")]
        for index, value in enumerate(part["value"].values):
            key = (int(part["tokens"].values[index]), int(part["step"].values[index]))
            lower, upper = (None if end is None else float(end[index]) for end in ends)
            known = np.isfinite(value)
            text = interval(float(value), lower, upper) if known else "NaN"
            cells.setdefault(key, {})[title] = text
    return [
        (f"{step:,}", _tokens(tokens, len(cells)), [row.get(title, "–") for title in columns])
        for (tokens, step), row in sorted(cells.items())
    ]


def _tokens(tokens: float, checkpoints: int) -> str:
    """Write tokens seen; 0 at a branch's only checkpoint means that they are not known."""
    return short_number(tokens) if tokens or checkpoints > 1 else "–"


def definitions_of(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Every measure in the store with its convention, unit, source, interval and NaN count."""
    rows = []
    for measure, convention, name, data in _measures(tree):
        value = data["value"]
        if "other" in data.coords and data["other"].dims == ("checkpoint",):
            # Without a checkpoint to compare with there is no value, and none is missing.
            value = value.isel(checkpoint=np.flatnonzero(data["other"].values.astype(str) != ""))
        rows.append(
            {
                "measure": measure,
                "convention": convention,
                "set": name,
                "unit": str(data.attrs.get("unit", "")),
                "source": str(data.attrs.get("source", "")),
                "interval": str(data.attrs.get("interval", "")) or "none",
                "inputs": str(data.attrs.get("inputs", "")),
                "nan": int(np.asarray(_failed(data, value).sum().values)),
                "size": value.size,
            }
        )
    return rows


_LABELLED = ("tier", "text_tier", "visual_tier", "subset", "modality", "word_class")


def _failed(data: xr.Dataset, value: xr.DataArray) -> xr.DataArray:
    """Where a number failed: not where too few cases are counted, nor where a set has no such label."""
    failed = value.isnull()
    if "cases" in data:
        failed = failed & data["cases"].isnull()
    if any(dim in value.dims for dim in _LABELLED):
        others = [dim for dim in value.dims if dim not in _LABELLED]
        failed = failed & ~value.isnull().all(others)  # broadcasts over them
    return failed


def merged_definitions(models: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Put the definitions of several models into one list: sizes and NaN counts are summed."""
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in (row for rows in models for row in rows):
        key = (row["measure"], row["convention"], row["set"])
        known = merged.setdefault(key, {**row, "nan": 0, "size": 0, "inputs": []})
        known["nan"] += row["nan"]
        known["size"] += row["size"]
        known["inputs"].append(row["inputs"])
    return [merged[key] for key in sorted(merged)]


def _measures(tree: xr.DataTree) -> Iterator[tuple[str, str, str, xr.Dataset]]:
    for measure in child_names(tree, "measures"):
        for convention in child_names(tree, f"measures/{measure}"):
            for name in child_names(tree, f"measures/{measure}/{convention}"):
                data = dataset_at(tree, f"measures/{measure}/{convention}/{name}")
                if data is not None and "value" in data:
                    yield measure, convention, name, data
