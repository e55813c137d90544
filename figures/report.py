"""One self-contained page that says what a store shows."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import jinja2
import xarray as xr

from figures.catalogue import FIGURES, draw, figures_of
from figures.head_summary import head_sentences
from figures.modality_summary import modality_sentences
from figures.save import csv_text, image_bytes
from figures.select import (
    MissingMeasure,
    TooFewCheckpoints,
    TooFewSets,
    by_branch,
    child_names,
    choose_set,
    dataset_at,
    measure_sets,
    phases_of,
)
from figures.summary import BranchSummary, summarise, summarise_few
from figures.tables import TABLED, checkpoint_rows, definitions_of, merged_definitions, value_tables
from figures.word_class_summary import class_sentences
from geometry.phases import FEWEST


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
    """Draw every figure of this kind of store in both themes.

    Returns
    -------
    The figures drawn, and for each of the others the error that says what is missing. Costs one
    figure's measures in memory at a time, and the SVG and CSV text of all.
    """
    drawn: dict[str, PageFigure] = {}
    missing: dict[str, Exception] = {}
    ours = figures_of(tree)
    for name, row in FIGURES.items():
        if name not in ours:
            continue
        try:
            pictures = {
                theme: draw(tree, name, set=set, theme=theme) for theme in ("light", "dark")
            }
        except (MissingMeasure, ValueError) as error:
            # What was captured on request only is not missing where nobody asked for it.
            if not (row.extra and isinstance(error, MissingMeasure)):
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
    tree : an open store or study.
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
    members = _members(tree)
    rows = [row for member in members for row in checkpoint_rows(member.checkpoints, member.lines)]
    definitions = merged_definitions([definitions_of(member.tree) for member in members])
    tables = [
        table for member in members for table in value_tables(member.tree, chosen, member.lines)
    ]
    summaries = [line for member in members for line in _summaries(member, chosen, tables)]
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
        stores=[_origin(member) for member in members],
        versions=dict(versions),
        commands=list(commands),
        chosen=chosen,
        told=[str(line) for line in tree.attrs.get("told", [])],
        study=bool(members[0].name),
        word="" if members[0].name else "Branch ",
        summaries=summaries,
        fitted=any(summary.fitted for summary in summaries),
        alone=all(_alone(member.checkpoints) for member in members),
        undrawn=_undrawn(missing),
        checkpoints=rows,
        failed=failed,
        figures=shown,
        tables=tables,
        definitions=definitions,
        warnings=_warnings(tree, failed, definitions, missing),
    )


@dataclass(frozen=True)
class _Member:
    """One store of the page: all there is, or one model of a study.

    Attributes
    ----------
    name : its name in the study; empty if it is alone.
    lines : branch to what the figures call it.
    """

    name: str
    tree: xr.DataTree
    checkpoints: xr.Dataset | None
    lines: Mapping[str, str]


def _members(tree: xr.DataTree) -> list[_Member]:
    whole = dataset_at(tree, "checkpoints")
    if "models" not in tree.children:
        return [_Member("", tree, whole, {})]
    lines: dict[str, dict[str, str]] = {}
    if whole is not None:
        named = (whole[name].values.astype(str) for name in ("model", "branch", "line"))
        for model, branch, line in zip(*named, strict=True):
            lines.setdefault(str(model), {})[str(branch)] = str(line)
    models = tree.children["models"].children
    return [
        _Member(str(n), models[n], dataset_at(models[n], "checkpoints"), lines.get(str(n), {}))
        for n in tree.attrs["models"]
    ]


def _origin(member: _Member) -> dict[str, Any]:
    attrs = member.tree.attrs
    return {
        "name": member.name,
        "digest": str(attrs.get("identity_digest", "not stated")),
        "recipe": str(attrs.get("recipe", "")),
        "versions": dict(attrs.get("versions", {})),
    }


def _data_uri(text: str, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _default_set(tree: xr.DataTree) -> str:
    for _, measure, convention in TABLED:
        if measure_sets(tree, measure, convention):
            return choose_set(tree, [(measure, convention)], None)
    sets = child_names(tree, "phases")
    return sets[0] if sets else ""


def _alone(checkpoints: xr.Dataset | None) -> bool:
    """Whether no branch has a second checkpoint, so that nothing can be said of training."""
    parts = [] if checkpoints is None else list(by_branch(checkpoints))
    return bool(parts) and all(part.sizes["checkpoint"] == 1 for _, part in parts)


def _summaries(
    member: _Member, chosen: str, tables: Sequence[Mapping[str, Any]]
) -> list[BranchSummary]:
    """Say of every branch what was found, or that it is too short for anything to be found."""
    phases = phases_of(member.tree, chosen)
    more: dict[str, tuple[str, ...]] = {}
    for say in (head_sentences, class_sentences, modality_sentences):
        for line, said in say(member.tree, member.lines).items():
            more[line] = (*more.get(line, ()), *said)
    told: list[BranchSummary] = []
    for branch, part in [] if member.checkpoints is None else by_branch(member.checkpoints):
        count = part.sizes["checkpoint"]
        line = member.lines.get(branch, branch)
        if branch in phases:
            summary = summarise(line, phases[branch], part)
        elif count < FEWEST:
            summary = summarise_few(line, count)
        elif line in more:
            summary = BranchSummary(line, (), (), (), (), fitted=False)
        else:
            continue
        summary = replace(summary, more=more.get(line, ()))
        values = [fact for table in tables if table["branch"] == line for fact in _facts(table)]
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
        if not isinstance(error, (TooFewCheckpoints, MissingMeasure))
    ]


def _undrawn(missing: Mapping[str, Exception]) -> list[tuple[str, str]]:
    """Return the titles of figures that a short series or the store does not allow, with the reason."""
    few = {n: str(e) for n, e in missing.items() if isinstance(e, TooFewCheckpoints)}
    absent = (
        "the store does not hold what they show; `phasescope measure STORE` computes what it can"
    )
    few |= {
        n: absent
        for n, e in missing.items()
        if isinstance(e, MissingMeasure) and not isinstance(e, TooFewSets)
    }
    return [
        ("; ".join(FIGURES[n].title for n in few if few[n] == reason), reason)
        for reason in dict.fromkeys(few.values())
    ]
