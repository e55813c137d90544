"""A whole run: plan, capture by one process or several, measures, phases."""

from __future__ import annotations

import difflib
import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from rich.console import Console
from threadpoolctl import threadpool_limits

from runs.catalogue import MEASURES, Row
from runs.claims import Worker
from runs.damage import blamed_on_damage
from runs.errors import InputError, PhasescopeError, concerning
from runs.gate import apply_verdicts
from runs.measures import find_row, is_current, keep, measure_dataset, sets_for
from runs.ngrams.sets import write_sets
from runs.phases import write_phases
from runs.plan import Plan, make_plan
from runs.products import PRODUCTS
from runs.progress import CaptureProgress, Event, simple_bar
from runs.recipe import PhasesTable, Recipe, load_recipe
from runs.score_nodes import write_scores
from runs.shards import Shard
from runs.store import open_store
from runs.terminal import open_console
from runs.training import train_missing
from runs.visits import VISITS
from runs.writing import DONE, FAILED, MISSING, StoreWriter


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes
    ----------
    store : Path
    captured : int
        Checkpoints that got at least one new cell.
    measured : tuple of str
        Measures computed, as `NAME/CONVENTION/SET`; current ones are not computed again.
    failed : dict of str to str
        Checkpoints with a failed cell, and the reason.
    """

    store: Path
    captured: int
    measured: tuple[str, ...]
    failed: dict[str, str]


def run(recipe: str | Path, *, workers: int = 1) -> xr.DataTree:
    """Do what a recipe says and open the store.

    Parameters
    ----------
    recipe
        A TOML file.
    workers
        Processes that capture, one model each.

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    InputError
        If the recipe, what it names, or the store cannot be used.
    """
    return open_store(execute(load_recipe(recipe), workers=workers, console=open_console()).store)


def execute(
    recipe: Recipe,
    *,
    workers: int = 1,
    retry: bool = False,
    shard: Shard | None = None,
    again: Sequence[str] = (),
    console: Console | None = None,
) -> Outcome:
    """Capture what is missing, then compute what is not current.

    Parameters
    ----------
    recipe
        From `load_recipe`.
    workers
        Processes that capture. Each loads one model, so memory grows with them.
    retry
        Whether cells that failed before are tried again.
    shard
        Capture only this part of the series, and compute nothing: which of several shards is the last
        cannot be known without waiting for all, so measures are left to a run without one.
    again
        Labels of checkpoints that are captured anew, because their data were damaged.
    console
        Where progress is drawn; quiet by default.

    Returns
    -------
    Outcome
    """
    console = console or Console(quiet=True)
    with concerning(recipe.source):
        train_missing(recipe, console)
    whole = make_plan(recipe, retry=retry, again=again, notice=say(console))
    for line in whole.pinned.moved:
        say(console)(line)
    rows = wanted_rows(recipe)
    with blamed_on_damage(recipe.store):
        return _execute(whole, rows, workers, retry, shard, again, console)


def _execute(
    whole: Plan,
    rows: list[Row],
    workers: int,
    retry: bool,
    shard: Shard | None,
    again: Sequence[str],
    console: Console,
) -> Outcome:
    recipe = whole.recipe
    writer = StoreWriter(recipe.store)
    prepare(whole, writer)
    apply_verdicts(writer, whole.series, recipe.series.accept)
    plan = shard.part(whole) if shard else whole
    forget(plan, writer, again)
    missing = missing_checkpoints(plan, writer, retry=retry)
    if missing:
        plan.require_disk(len(missing) * len(plan.layouts))
        samples = sum(spec.inputs.samples for spec in plan.specs.values())
        with CaptureProgress(len(missing), samples, console) as progress:
            if workers > 1:
                _capture_together(plan, workers, retry, shard, progress)
            Worker(plan, writer, progress, retry=retry and workers == 1).run()
    elif recipe.series.keep == "none":
        Worker(plan, writer).fetcher.close()  # takes away what a killed run could not
    measured: tuple[str, ...] = ()
    if shard is None:
        if missing:
            apply_verdicts(writer, whole.series, recipe.series.accept)
        writer.tidy()
        write_sets(whole.specs, whole.ngrams, writer, console)
        measured = conclude(recipe.store, rows, recipe.phases, console)
    after = set(missing) & set(missing_checkpoints(plan, writer, retry=True))
    mine = {c.label for c in plan.series.checkpoints}
    failed = {k: v for k, v in failures(writer).items() if shard is None or k in mine}
    return Outcome(recipe.store, len(missing) - len(after), measured, failed)


def conclude(path: Path, rows: list[Row], phases: PhasesTable, console: Console) -> tuple[str, ...]:
    """Measures and phases, by one process at a time: who waited finds them current."""
    if not (path / "zarr.json").is_file():
        open_store(path)  # refuses it, before a lease lies beside what is no store
    with StoreWriter(path).claim("measures").wait(poll=0.5):
        measured = compute(path, rows, console)
        write_phases(path, phases)
        written = write_scores(path)
    return (*measured, *written)


def say(console: Console) -> Callable[[str], None]:
    """Print a line of a hub's: a wait, a branch that has moved."""
    return lambda line: console.print(line, style="yellow", soft_wrap=True)


def prepare(plan: Plan, writer: StoreWriter) -> None:
    """Check identity and lay out sets, checkpoints and products; a no-op where they are there."""
    recipe = plan.recipe
    writer.remember(
        name=recipe.name,
        recipe=recipe.text,
        identity=plan.identity,
        series=recipe.series.model_dump_json(exclude_defaults=True),
        shape=asdict(plan.shape),
    )
    writer.add_checkpoints(plan.series.checkpoints)
    for spec in plan.specs.values():
        writer.add_set(spec)
    for label, layout in plan.layouts.items():
        name, product = label.split("/")
        spec = plan.specs[name]
        kind = PRODUCTS[product] if product in PRODUCTS else VISITS[product]
        writer.add_product(label, layout, kind.coordinates(spec))


def missing_checkpoints(plan: Plan, writer: StoreWriter, *, retry: bool = False) -> list[str]:
    """Labels of the series' checkpoints with a cell still to be captured."""
    finished = (DONE,) if retry else (DONE, FAILED)
    rows = {label: i for i, label in enumerate(writer.labels())}
    products = writer.products()
    columns = [products.index(label) for label in plan.layouts]
    status = writer.cells("status")[:, columns]
    lacking = np.asarray((~np.isin(status, finished)).any(axis=1))
    behind = {label for label, row in rows.items() if bool(lacking[row])}
    return [c.label for c in plan.series.checkpoints if c.label in behind]


def forget(plan: Plan, writer: StoreWriter, labels: Sequence[str]) -> None:
    """Say of some checkpoints that nothing of them is captured.

    Raises
    ------
    InputError
        If one is not of the plan.
    """
    for label in labels:
        known = [checkpoint.label for checkpoint in plan.series.checkpoints]
        if label not in known:
            near = difflib.get_close_matches(label, known, n=1, cutoff=0.4)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known[:8])}"
            raise InputError(f"{plan.recipe.source}: no checkpoint `{label}`; {hint}")
        for product in plan.layouts:
            writer.set_cell(product, label, status=MISSING)


def failures(writer: StoreWriter) -> dict[str, str]:
    """Checkpoints with a failed cell, and the first reason."""
    labels, products = writer.labels(), np.array(writer.products())
    status = writer.cells("status")
    found = {}
    for row in np.flatnonzero((status == FAILED).any(axis=1)):
        first = str(products[status[row] == FAILED][0])
        found[labels[row]] = str(writer.row("error", labels[row], [first])[first])
    return found


def wanted_rows(recipe: Recipe) -> list[Row]:
    """Catalogue rows a recipe asks for: `name` or `name/convention`; by default all default ones."""
    if recipe.measures.names is None:
        return [row for row in MEASURES.values() if row.default]
    found: list[Row] = []
    for entry in recipe.measures.names:
        name, _, convention = entry.partition("/")
        try:
            found.append(find_row(name, convention or None))
        except InputError as error:
            raise InputError(f"{recipe.source}: key `measures.names`: {error}") from None
    return found


def compute(path: Path, rows: list[Row], console: Console) -> tuple[str, ...]:
    """Compute and keep every row that is not current; returns what was computed."""
    with blamed_on_damage(path):
        return _compute(path, rows, console)


def _compute(path: Path, rows: list[Row], console: Console) -> tuple[str, ...]:
    tree = open_store(path)
    todo = [
        (row, name)
        for row in rows
        for name in sets_for(tree, row)
        if not is_current(tree, row, name)
    ]
    done = []
    with simple_bar(console) as bar:
        task = bar.add_task("measure", total=len(todo), note="", visible=bool(todo))
        for row, name in todo:
            bar.update(task, note=f"{row.name} · {row.convention}")
            result = measure_dataset(tree, row, name)
            if all(result.sizes.values()):
                keep(path, row, result)
                done.append(f"{row.name}/{row.convention}/{name}")
            bar.update(task, advance=1)
        bar.update(task, note="")
    return tuple(done)


def _capture_together(
    plan: Plan,
    workers: int,
    retry: bool,
    shard: Shard | None,
    progress: Callable[[Event], None],
) -> None:
    """Run the claim loop in several processes; what a dead one leaves, the caller finishes."""
    context = multiprocessing.get_context("spawn")
    events: Any = context.Queue()
    threads = max(1, (os.cpu_count() or 1) // workers)
    processes = [
        context.Process(
            target=_work,
            args=(plan.recipe, retry, shard, threads, workers, os.getpid(), events),
            daemon=True,
        )
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    fatal = ""
    while any(p.is_alive() for p in processes) or not events.empty():
        try:
            event: Event = events.get(timeout=0.2)
        except queue.Empty:
            continue
        if event.kind == "fatal":
            fatal = fatal or event.detail
        else:
            progress(event)
    for process in processes:
        process.join()
    if fatal:
        raise InputError(fatal)


def _work(
    recipe: Recipe,
    retry: bool,
    shard: Shard | None,
    threads: int,
    workers: int,
    parent: int,
    events: Any,
) -> None:
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    try:
        plan = make_plan(recipe, ask=False)
        plan = shard.part(plan) if shard else plan
        writer = StoreWriter(recipe.store)
        Worker(plan, writer, events.put, retry, parent, companions=workers).run()
    except PhasescopeError as error:
        events.put(Event("fatal", detail=str(error)))
    except OSError as error:  # such as the store's disk, full
        place = f"{error.filename}: " if error.filename else ""
        events.put(Event("fatal", detail=f"{place}{error.strerror or error}"))
    except KeyboardInterrupt:
        pass
