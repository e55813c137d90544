"""Commands over a series and no store: bringing it to this disk, and verifying it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from pydantic import ValidationError
from rich.console import Console

from runs.checkpoints import Checkpoint, Series
from runs.errors import CheckpointError, HubError, InputError, concerning
from runs.families import Known
from runs.fetching import Fetcher
from runs.folders import read_folder
from runs.jobs import say
from runs.loading import quiet_transformers
from runs.plan import make_series, pinned_series
from runs.progress import CaptureProgress, Event, simple_bar
from runs.recipe import Recipe, SeriesTable, load_recipe
from runs.remembered import Remembered, remembered
from runs.sets import fetch_texts
from runs.starting import pin, start
from runs.store import open_store
from runs.verify import Verdict, verify_series


def fetch_all(recipe: Recipe, console: Console) -> dict[str, str]:
    """Bring all that a run of a recipe needs to this disk; labels and reasons of what cannot be had.

    Raises
    ------
    InputError
        If nothing of it is on a hub, the hub cannot be used, or the disk budget is too small.
    """
    notice = say(console)
    pinned = pinned_series(recipe, remembered(recipe.store), notice=notice)
    for line in pinned.moved:
        notice(line)
    on_a_hub = bool(pinned.series.checkpoints[0].repository)
    if not on_a_hub and not any(table.dataset for table in recipe.inputs.values()):
        raise InputError(f"{recipe.source}: key `series.kind`: its files are on this disk already")
    table = recipe.series
    with concerning(recipe.source), quiet_transformers():
        if on_a_hub and pinned.unreachable is not None:
            raise pinned.unreachable
        series = start(pinned, cache=table.cache, tokenizer=table.tokenizer is None, notice=notice)
        for line in fetch_texts(recipe, series, notice=notice):
            console.print(line, soft_wrap=True)
    return _fetch_weights(table, series, console) if on_a_hub else {}


def _fetch_weights(table: SeriesTable, series: Series, console: Console) -> dict[str, str]:
    """Every checkpoint's weights, as many side by side as `prefetch` says."""
    failed: dict[str, str] = {}
    kept = table.model_copy(update={"keep": "all"})
    with CaptureProgress(len(series), 0, console) as progress:
        fetcher = Fetcher(kept, series.checkpoints, progress)

        def one(checkpoint: Checkpoint) -> None:
            try:
                fetcher.bring(checkpoint)
                fetcher.finished(checkpoint)
            except CheckpointError as error:
                failed[checkpoint.label] = str(error)
                progress(Event("failed", checkpoint.label, detail=str(error)))
            else:
                progress(Event("done", checkpoint.label))

        pool = ThreadPoolExecutor(1 + table.prefetch, thread_name_prefix="fetch")
        try:
            for done in [pool.submit(one, c) for c in series.checkpoints]:
                done.result()
        finally:
            fetcher.close()
            pool.shutdown(wait=True, cancel_futures=True)
    return failed


@dataclass(frozen=True)
class Verification:
    """Verdicts of a series.

    Attributes
    ----------
    verdicts : list of Verdict
    told : tuple of str
        Branches that have moved.
    unreachable : HubError or None
        Why the hub could not be asked about what is not on this disk.
    """

    verdicts: list[Verdict]
    told: tuple[str, ...] = ()
    unreachable: HubError | None = None


def verify_any(what: Path, console: Console) -> Verification:
    """Verify the series of a recipe, of the recipe in a store, or in a folder.

    Raises
    ------
    InputError
        If it is none of these.
    """
    accept: tuple[str, ...] = ()

    notice = say(console)
    if what.is_file():
        recipe = load_recipe(what)
        accept = recipe.series.accept
        pinned = pinned_series(recipe, remembered(recipe.store), notice=notice)
    elif (what / "zarr.json").is_file():
        table = series_table_of(open_store(what))
        accept = table.accept
        known = remembered(what)
        revisions = Known(tuple(known.revisions.values()), notice=notice)
        pinned = pin(make_series(table, known=revisions), known, notice=notice)
    else:
        pinned = pin(read_folder(what, tokens_per_step=1), Remembered(what))
    with simple_bar(console) as bar:
        task = bar.add_task("verify", total=len(pinned.series), note="")

        def advance(label: str) -> None:
            bar.update(task, advance=1, note=label)

        found, unreachable = verify_series(
            pinned.series, accept=accept, advance=advance, notice=notice
        )
        bar.update(task, completed=len(pinned.series), note="")
    if any(verdict.source != "tensors" for verdict in found):
        unreachable = unreachable or pinned.unreachable
    return Verification(found, pinned.moved, unreachable)


def series_table_of(tree: xr.DataTree) -> SeriesTable:
    """The series table a store was made with, as its run kept it.

    Raises
    ------
    InputError
        If the store does not have it.
    """
    try:
        return SeriesTable.model_validate_json(str(tree.attrs.get("series", "")))
    except ValidationError:
        raise InputError(
            f"{tree.attrs['path']}: does not say its series; verify its recipe instead"
        ) from None
