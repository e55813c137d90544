"""One self-contained page that says what a store shows."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
import xarray as xr

from figures.axes import short_number
from figures.catalogue import FIGURES, draw
from figures.save import csv_text, image_bytes
from figures.select import (
    MissingMeasure,
    TooFewCheckpoints,
    at_layer,
    by_branch,
    child_names,
    dataset_at,
    measure_sets,
    phases_of,
)
from figures.summary import BranchSummary, interval, summarise, summarise_few
from geometry.phases import FEWEST

_TABLED = (
    ("RankMe", "rankme", "li2025"),
    ("α-ReQ", "alpha_req", "li2025"),
    ("loss", "loss", "surprisal"),
    ("next-token accuracy", "next_token_accuracy", "top1"),
)
_STATUS = {0: "missing", 1: "done", 2: "failed"}


@dataclass(frozen=True)
class PageFigure:
    """One figure as the page holds it: both themes as SVG text, and its table as CSV text."""

    title: str
    svg_light: str
    svg_dark: str
    caption: str
    source: str
    csv: str


def page_figures(
    tree: xr.DataTree, *, set: str | None = None
) -> tuple[dict[str, PageFigure], dict[str, Exception]]:
    """Draw every figure of the catalogue in both themes.

    Returns
    -------
    The figures drawn, and for each of the others the error that says what is missing. Costs one
    figure's measures in memory at a time, and the SVG and CSV text of all.
    """
    drawn: dict[str, PageFigure] = {}
    missing: dict[str, Exception] = {}
    for name, row in FIGURES.items():
        try:
            pictures = {
                theme: draw(tree, name, set=set, theme=theme) for theme in ("light", "dark")
            }
        except (MissingMeasure, ValueError) as error:
            missing[name] = error
            continue
        light, dark = (image_bytes(*pictures[t], "svg").decode() for t in ("light", "dark"))
        table = pictures["light"][1]
        caption = str(table.attrs["caption"])
        drawn[name] = PageFigure(row.title, light, dark, caption, row.source, csv_text(table))
    return drawn, missing


def render(
    tree: xr.DataTree,
    *,
    commands: Sequence[str],
    versions: Mapping[str, str],
    figures: Mapping[str, PageFigure] | None = None,
    set: str | None = None,
) -> str:
    """Return the report as one HTML page that loads nothing from elsewhere.

    Parameters
    ----------
    tree : an open store.
    commands : what to type to make this page again, one command each.
    versions : the versions in use now, printed beside those of the store.
    figures : the figures to show; drawn here from the catalogue if not given.
    set : the set of inputs to report; the first with RankMe by default.

    Returns
    -------
    HTML text. Light or dark follows the reader's setting; print is light. No JavaScript.
    """
    chosen = set or _default_set(tree)
    shown, missing = page_figures(tree, set=set) if figures is None else (dict(figures), {})
    checkpoints = dataset_at(tree, "checkpoints")
    rows = _checkpoint_rows(checkpoints)
    definitions = _definitions(tree)
    tables = _value_tables(tree, chosen)
    summaries = _summaries(tree, chosen, checkpoints, tables)
    failed = [row for row in rows if row["status"] != "done"]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"data_uri": _data_uri, "counted": _counted}
    template = environment.from_string(
        files("figures").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        name=str(tree.attrs.get("name", "training run")),
        created=str(tree.attrs.get("created", "not stated")),
        digest=str(tree.attrs.get("identity_digest", "not stated")),
        recipe=str(tree.attrs.get("recipe", "")),
        store_versions=dict(tree.attrs.get("versions", {})),
        versions=dict(versions),
        commands=list(commands),
        chosen=chosen,
        summaries=summaries,
        fitted=any(summary.fitted for summary in summaries),
        alone=_alone(checkpoints),
        undrawn=_undrawn(missing),
        checkpoints=rows,
        failed=failed,
        figures=shown,
        tables=tables,
        definitions=definitions,
        warnings=_warnings(tree, failed, definitions, missing),
    )


def _data_uri(text: str, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _default_set(tree: xr.DataTree) -> str:
    for _, measure, convention in _TABLED:
        sets = measure_sets(tree, measure, convention)
        if sets:
            return sets[0]
    sets = child_names(tree, "phases")
    return sets[0] if sets else ""


def _alone(checkpoints: xr.Dataset | None) -> bool:
    """Whether no branch has a second checkpoint, so that nothing can be said of training."""
    parts = [] if checkpoints is None else list(by_branch(checkpoints))
    return bool(parts) and all(part.sizes["checkpoint"] == 1 for _, part in parts)


def _summaries(
    tree: xr.DataTree,
    chosen: str,
    checkpoints: xr.Dataset | None,
    tables: Sequence[Mapping[str, Any]],
) -> list[BranchSummary]:
    """Say of every branch what was found, or that it is too short for anything to be found."""
    phases = phases_of(tree, chosen)
    told: list[BranchSummary] = []
    for branch, part in [] if checkpoints is None else by_branch(checkpoints):
        count = part.sizes["checkpoint"]
        if branch in phases:
            summary = summarise(branch, phases[branch], part)
        elif count < FEWEST:
            summary = summarise_few(branch, count)
        else:
            continue
        values = [fact for table in tables if table["branch"] == branch for fact in _facts(table)]
        told.append(replace(summary, facts=(*values, *summary.facts)) if count == 1 else summary)
    return told


def _facts(table: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the numbers of a branch's one checkpoint, each with its interval below it."""
    found = []
    for title, cell in zip(table["columns"], table["rows"][-1][2], strict=True):
        value, _, spread = cell.partition(" [")
        if value[0].isdigit() or value[0] == "−":
            where = "final layer" if title in ("RankMe", "α-ReQ") else "mean over tokens"
            name = title[0].upper() + title[1:] if title[0].isascii() else title
            found.append((name, value, f"[{spread}; {where}" if spread else where))
    return found


def _checkpoint_rows(checkpoints: xr.Dataset | None) -> list[dict[str, str]]:
    """One row a checkpoint: done, failed with its reason, or what is missing."""
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
                    "branch": branch,
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


def _value_tables(tree: xr.DataTree, chosen: str) -> list[dict[str, Any]]:
    """One table a branch: RankMe and α of the final layer, and what is known of its predictions."""
    columns = {}
    for title, measure, convention in _TABLED:
        data = dataset_at(tree, f"measures/{measure}/{convention}/{chosen}")
        if data is not None:
            layers = data.sizes.get("layer", 0)
            final = int(data["layer"].values[-1]) if layers else 0
            columns[title] = dict(by_branch(at_layer(data, final).compute()))
    names = dict.fromkeys(branch for parts in columns.values() for branch in parts)
    return [
        {"branch": branch, "columns": list(columns), "rows": _value_rows(columns, branch)}
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


def _definitions(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Every measure in the store with its convention, unit, source, interval and NaN count."""
    rows = []
    for measure, convention, name, data in _measures(tree):
        value = data["value"]
        rows.append(
            {
                "measure": measure,
                "convention": convention,
                "set": name,
                "unit": str(data.attrs.get("unit", "")),
                "source": str(data.attrs.get("source", "")),
                "interval": str(data.attrs.get("interval", "")) or "none",
                "inputs": str(data.attrs.get("inputs", "")),
                "nan": int(np.asarray(value.isnull().sum().values)),
                "size": value.size,
            }
        )
    return rows


def _measures(tree: xr.DataTree) -> Iterator[tuple[str, str, str, xr.Dataset]]:
    for measure in child_names(tree, "measures"):
        for convention in child_names(tree, f"measures/{measure}"):
            for name in child_names(tree, f"measures/{measure}/{convention}"):
                data = dataset_at(tree, f"measures/{measure}/{convention}/{name}")
                if data is not None and "value" in data:
                    yield measure, convention, name, data


def _warnings(
    tree: xr.DataTree,
    failed: Sequence[Mapping[str, str]],
    definitions: Sequence[Mapping[str, Any]],
    missing: Mapping[str, Exception],
) -> list[str]:
    told = [str(line) for line in tree.attrs.get("warnings", [])]
    told += [
        f"Checkpoint {row['branch']}/step {row['step']} is {row['status']}"
        + (f" ({row['products']})" if row["products"] else "")
        + (f": {row['error']}" if row["error"] else "")
        for row in failed
    ]
    told += [
        f"{row['measure']}/{row['convention']} ({row['set']}): {row['nan']:,} of {row['size']:,}"
        " values are NaN"
        for row in definitions
        if row["nan"]
    ]
    return told + [
        f"Figure {name} is not drawn: {error}"
        for name, error in missing.items()
        if not isinstance(error, TooFewCheckpoints)
    ]


def _undrawn(missing: Mapping[str, Exception]) -> list[tuple[str, str]]:
    """Return the titles of the figures that a short series does not allow, with the reason."""
    few = {n: str(e) for n, e in missing.items() if isinstance(e, TooFewCheckpoints)}
    return [
        (" and ".join(FIGURES[n].title for n in few if few[n] == reason), reason)
        for reason in dict.fromkeys(few.values())
    ]
