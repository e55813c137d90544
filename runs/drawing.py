"""Figures and the report of one store, written to files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from rich.console import Console

from figures import FIGURES, MissingMeasure, draw, save
from figures.report import render
from figures.save import write_atomic
from runs.errors import InputError
from runs.progress import simple_bar
from runs.store import open_store
from runs.writing import named_errors, versions


def draw_figures(
    store: Path, folder: Path, names: Sequence[str] | None, console: Console
) -> list[Path]:
    """Draw figures of a store as PNG, SVG and PDF, each with its table and provenance.

    Parameters
    ----------
    store
        The store.
    folder
        Where they go; made if missing.
    names
        Rows of the figure catalogue; by default all that the store's measures allow.
    console
        Where the bar is drawn.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        If a figure is unknown or a named one lacks a measure.
    """
    for name in names or ():
        if name not in FIGURES:
            near = difflib.get_close_matches(name, FIGURES, n=1, cutoff=0.4)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(FIGURES)}"
            raise InputError(f"no figure `{name}`; {hint}")
    tree = open_store(store)
    written: list[Path] = []
    with simple_bar(console) as bar:
        task = bar.add_task("figures", total=len(names or FIGURES), note="")
        for name in names or FIGURES:
            bar.update(task, note=name)
            try:
                figure, table = draw(tree, name)
            except (MissingMeasure, ValueError) as error:
                if names:
                    raise InputError(f"{store}: {error}") from None
                console.print(f"[yellow]{name} is left out[/]: {error}", soft_wrap=True)
            else:
                with named_errors(folder):
                    written += save(
                        figure, table, folder, name, provenance=_provenance(tree, name, table)
                    )
            bar.update(task, advance=1)
        bar.update(task, note="")
    return written


def write_report(store: Path, out: Path | None, console: Console) -> Path:
    """Write the report page; returns its path.

    Parameters
    ----------
    store
        The store.
    out
        The page; by default `report.html` beside the store.
    console
        Where the bar is drawn.
    """
    tree = open_store(store)
    page = out or store.parent / "report.html"
    with simple_bar(console) as bar:
        task = bar.add_task("report", total=1, note="")
        html = render(tree, commands=_commands(store, page), versions=versions())
        with named_errors(page.parent):
            page.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(page, html.encode())
        bar.update(task, advance=1)
    return page


def _commands(store: Path, page: Path) -> list[str]:
    return [
        "phasescope run RECIPE.toml  # the recipe below",
        f"phasescope figures {store}",
        f"phasescope report {store} --out {page}",
    ]


def _provenance(tree: xr.DataTree, name: str, table: xr.Dataset) -> dict[str, Any]:
    needs = FIGURES[name].needs
    chosen = str(table.attrs.get("set", ""))
    measures = {
        f"{m}/{c}": tree[f"measures/{m}/{c}/{chosen}"].attrs.get("lineage", "") for m, c in needs
    }
    return {
        "figure": name,
        "caption": table.attrs.get("caption", ""),
        "source": FIGURES[name].source,
        "set": chosen,
        "measures": measures,
        "store": str(tree.attrs.get("name", "")),
        "identity_digest": tree.attrs.get("identity_digest", ""),
        "versions": tree.attrs.get("versions", {}),
    }
