"""Figures and the report of one store or of several, written to files."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from rich.console import Console
from rich.text import Text

from figures import FIGURES, MissingMeasure, draw, figures_of, save
from figures.report import render
from figures.save import write_atomic
from figures.select import sets_with
from runs.damage import blamed_on_damage, named_errors
from runs.errors import InputError
from runs.measures import models_of
from runs.progress import simple_bar
from runs.store import open_store
from runs.study import open_study
from runs.writing import versions


def split_words(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Stores and names of figures among words: a store has a slash or a dot in it, or is there."""
    stores = [w for i, w in enumerate(words) if i == 0 or set("/.") & set(w) or Path(w).exists()]
    return [Path(word) for word in stores], [word for word in words if word not in stores]


def draw_figures(
    stores: Path | Sequence[Path],
    folder: Path,
    names: Sequence[str] | None,
    console: Console,
    *,
    models: Sequence[str] | None = None,
) -> list[Path]:
    """Draw figures of one store or of several together as PNG, SVG and PDF, with tables and provenance.

    Parameters
    ----------
    stores
        The store, or those of a study.
    folder
        Where they go; made if missing.
    names
        Rows of the figure catalogue; by default all that the stores' measures allow.
    console
        Where the bar is drawn.
    models
        What the models of a study are called, in the order of the stores.

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
    places = _listed(stores)
    tree = _open(places, models)
    shown = names or figures_of(tree)
    for name in shown:
        if name not in figures_of(tree):
            kind = tree.attrs.get("kind", "series")
            raise InputError(
                f"{places[0]}: figure `{name}` is of a store of kind `{FIGURES[name].kind}`; this is one "
                f"of kind `{kind}`, which has {', '.join(figures_of(tree))}"
            )
    written: list[Path] = []
    with blamed_on_damage(*places), simple_bar(console) as bar:
        task = bar.add_task("figures", total=len(shown), note="")
        for name in shown:
            bar.update(task, note=name)
            try:
                figure, table = draw(tree, name)
            except (MissingMeasure, ValueError) as error:
                if names:
                    raise InputError(f"{', '.join(map(str, places))}: {error}") from None
                if isinstance(error, MissingMeasure) and FIGURES[name].extra:
                    continue
                said = Text.assemble((f"{name} is left out", "yellow"), f": {error}")
                console.print(said, soft_wrap=True)
            else:
                with named_errors(folder):
                    written += save(
                        figure, table, folder, name, provenance=_provenance(tree, name, table)
                    )
            finally:
                bar.update(task, advance=1)
        bar.update(task, note="")
    return written


def write_report(
    stores: Path | Sequence[Path],
    out: Path | None,
    console: Console,
    *,
    models: Sequence[str] | None = None,
) -> Path:
    """Write the report page; returns its path.

    Parameters
    ----------
    stores
        The store, or those of a study.
    out
        The page; by default `report.html`, of a study `study.html`, beside the first store.
    console
        Where the bar is drawn.
    models
        What the models of a study are called, in the order of the stores.
    """
    places = _listed(stores)
    tree = _open(places, models)
    page = out or places[0].parent / ("report.html" if len(places) == 1 else "study.html")
    with simple_bar(console) as bar:
        task = bar.add_task("report", total=1, note="")
        with blamed_on_damage(*places):
            commands = _commands(tree, places, models, page)
            html = render(tree, commands=commands, versions=versions())
        with named_errors(page.parent):
            page.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(page, html.encode())
        bar.update(task, advance=1)
    return page


def _listed(stores: Path | Sequence[Path]) -> list[Path]:
    return [stores] if isinstance(stores, Path) else list(stores)


def _open(stores: Sequence[Path], models: Sequence[str] | None) -> xr.DataTree:
    if len(stores) == 1 and models:
        raise InputError("--name is for several stores; one has its recipe's name")
    return open_store(stores[0]) if len(stores) == 1 else open_study(stores, names=models)


def _commands(
    tree: xr.DataTree, stores: Sequence[Path], models: Sequence[str] | None, page: Path
) -> list[str]:
    recipe = "the recipe" if len(stores) == 1 else "each recipe"
    words = shlex.join([*map(str, stores), *(w for m in models or () for w in ("--name", m))])
    return [
        str(tree.attrs.get("command", f"phasescope run RECIPE.toml  # {recipe} below")),
        f"phasescope figures {words}",
        f"phasescope report {words} --out {shlex.quote(str(page))}",
    ]


def _provenance(tree: xr.DataTree, name: str, table: xr.Dataset) -> dict[str, Any]:
    needs = FIGURES[name].needs
    chosen = str(table.attrs.get("set", ""))
    found = [(m, c, chosen) for m, c in needs]
    shown = [(m, c) for m, c in needs if m in FIGURES[name].every_set]
    found += [(m, c, s) for s in sets_with(tree, shown) for m, c in shown if s != chosen]
    measures = {
        f"{m}/{c}" + (f"/{s}" if shown else ""): tree[f"measures/{m}/{c}/{s}"].attrs.get(
            "lineage", ""
        )
        for m, c, s in found
    }
    stores = models_of(tree)
    origin = {
        key: {model: store.attrs.get(key, none) for model, store in stores.items()}
        if stores
        else tree.attrs.get(key, none)
        for key, none in (("identity_digest", ""), ("versions", {}))
    }
    return {
        "figure": name,
        "caption": table.attrs.get("caption", ""),
        "source": FIGURES[name].source,
        "set": chosen,
        "measures": measures,
        "store": str(tree.attrs.get("name", "")),
        **origin,
    }
