"""The command line: exit 0 done, 1 some checkpoints failed, 2 bad input."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from runs.errors import InputError, PhasescopeError
from runs.packages import check_packages, named_imports
from runs.scene_commands import add_scene_commands
from runs.terminal import forgive_encoding, open_console
from runs.training_commands import add_training_commands

if TYPE_CHECKING:
    from runs.jobs import Outcome

app = typer.Typer(
    name="phasescope",
    help="See how the inside of a language model changes while it trains.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Recipe = Annotated[Path, typer.Argument(help="The recipe, a TOML file.")]
Store = Annotated[Path, typer.Argument(help="The store, a Zarr folder.")]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--name", help="What a model is called, one for each of several stores, in order."
    ),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that capture, one model each.")]
Retry = Annotated[bool, typer.Option("--retry", help="Try checkpoints that failed before again.")]


def main() -> None:
    """Run the command line; one clear line for what a user can mend, never a traceback."""
    forgive_encoding()
    try:
        check_packages()
        with named_imports():
            app()
    except PhasescopeError as error:
        _complain(str(error), 2)
    except KeyboardInterrupt:
        _complain("stopped; what is captured is kept, the same command goes on from there", 130)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _complain(f"{place}{error.strerror or error}", 2)
    except Exception as error:
        if os.environ.get("PHASESCOPE_DEBUG"):
            raise
        _complain(
            f"a fault of phasescope's own: {error!r:.300}; "
            "PHASESCOPE_DEBUG=1 shows where. Please report it",
            70,
        )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("out/demo"),
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that capture; default one a core, at most 4."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of weights and order of the text; give another --out too.")
    ] = 0,
) -> None:
    """Train a small model, capture its checkpoints, draw its phases, write the report."""
    from runs.demo import make_demo

    console = open_console()
    count = workers or min(os.cpu_count() or 1, 4)
    _finish(make_demo(out, workers=count, seed=seed, console=console), console)


@app.command()
def corpus(
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
    part: Annotated[
        str, typer.Option(help="held_out (the demo's model never saw it) or train.")
    ] = "held_out",
    task: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write a cloze task of them too, for `[capture.lm_eval]`."
        ),
    ] = None,
    years: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Only speeches of these years.")
    ] = None,
    shuffle_words: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="Put each passage's words into random order: a control."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Whole speeches, as an index of training text needs.")
    ] = False,
) -> None:
    """Write the speeches that the demo reads, as inputs for recipes of your own."""
    from runs.damage import named_errors
    from runs.models.corpus import write_documents, write_speeches

    if part not in ("held_out", "train"):
        raise InputError(f"--part is {part}; give held_out or train")
    first, dash, last = (years or "0-9999").partition("-")
    if not (dash and first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise InputError(f"--years is {years}; give first and last, such as 1790-1899")
    if whole and (years or shuffle_words is not None):
        raise InputError("--whole is of all speeches; leave --years and --shuffle-words out")
    with named_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        chosen: Literal["train", "held_out"] = "train" if part == "train" else "held_out"
        span = (int(first), int(last)) if years else None
        if whole:
            written = write_speeches(out, chosen)
        else:
            written = write_documents(out, chosen, years=span, shuffle_words=shuffle_words)
    console = open_console()
    console.print(str(written), soft_wrap=True)
    if task is not None:
        from runs.models.cloze_task import write_task

        with named_errors(task):
            made = write_task(task, part=chosen)
        console.print(str(made), soft_wrap=True)


@app.command()
def plan(recipe: Recipe) -> None:
    """Say what a run would do, before anything is downloaded or loaded."""
    from runs.planning import show_recipe
    from runs.recipe import load_recipe

    show_recipe(load_recipe(recipe), open_console())


@app.command()
def fetch(recipe: Recipe) -> None:
    """Bring a hub's checkpoints into its cache, for machines without a network."""
    from runs.fetch_jobs import fetch_all
    from runs.recipe import load_recipe

    console = open_console()
    if fetch_all(load_recipe(recipe), console):
        raise typer.Exit(1)


@app.command()
def verify(
    what: Annotated[
        Path,
        typer.Argument(help="A recipe, a store, or a folder of checkpoints or of a hub's cache."),
    ],
) -> None:
    """Check that every checkpoint is the one its label says, against all others."""
    from runs.fetch_jobs import verify_any
    from runs.screens import show_verdicts

    console = open_console()
    found = verify_any(what, console)
    for line in found.told:
        console.print(line, style="yellow", soft_wrap=True)
    show_verdicts(found.verdicts, console)
    if found.unreachable is not None:
        raise found.unreachable
    if not all(verdict.good for verdict in found.verdicts):
        raise typer.Exit(1)


@app.command()
def run(
    recipe: Recipe,
    workers: Workers = 1,
    retry: Retry = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Capture only the I-th of N parts of the series, for job arrays."
        ),
    ] = None,
    again: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECKPOINT", help="Capture this one anew; may be repeated."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write report.html beside the store, with its figures.")
    ] = False,
) -> None:
    """Fetch and capture what is missing, compute what is not current, find phases."""
    from runs.jobs import execute
    from runs.recipe import load_recipe
    from runs.shards import parse_shard

    console = open_console()
    part = None if shard is None else parse_shard(shard)
    if part is not None and report:
        raise InputError("--report is of the whole series; leave it out with --shard")
    outcome = execute(
        load_recipe(recipe),
        workers=workers,
        retry=retry,
        shard=part,
        again=again or (),
        console=console,
    )
    if part is not None:
        console.print(f"shard {part} captures only; run without --shard for measures and phases")
    if report:
        from runs.drawing import write_report

        page = write_report([outcome.store], None, console)
        console.print(str(page), soft_wrap=True)
    _finish(outcome, console)


@app.command()
def status(store: Store) -> None:
    """Show which products of which checkpoints are there, and why others are not."""
    from runs.screens import show_status
    from runs.store import open_store

    show_status(open_store(store), open_console())


@app.command()
def measure(
    store: Store,
    names: Annotated[
        list[str] | None, typer.Argument(help="Measures, NAME or NAME/CONVENTION; default all.")
    ] = None,
) -> None:
    """Compute measures and phases, and keep them in the store."""
    from runs.catalogue import MEASURES
    from runs.jobs import conclude
    from runs.measures import find_row
    from runs.recipe import PhasesTable

    rows = [row for row in MEASURES.values() if row.default]
    if names:
        rows = [find_row(n, c or None) for n, _, c in (entry.partition("/") for entry in names)]
    console = open_console()
    done = conclude(store, rows, PhasesTable(), console)
    console.print(f"{len(done)} measures computed, {store}", soft_wrap=True)


@app.command()
def figures(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="STORE",
            help="One store or several, drawn together; names of figures may follow.",
        ),
    ],
    only: Annotated[
        list[str] | None, typer.Option(metavar="FIGURE", help="Only this figure; may be repeated.")
    ] = None,
    name: Names = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default `figures` or `study` beside the store.")
    ] = None,
) -> None:
    """Draw figures as PNG, SVG and PDF, each with its table and provenance."""
    from runs.drawing import draw_figures, split_words

    console = open_console()
    stores, asked = split_words(words)
    folder = out or stores[0].parent / ("figures" if len(stores) == 1 else "study")
    chosen = [*asked, *(only or [])] or None
    for path in draw_figures(stores, folder, chosen, console, models=name):
        console.print(str(path), soft_wrap=True)


@app.command()
def agreement(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE", help="One store a training run, two or more.")
    ],
    name: Names = None,
    inputs: Annotated[
        str | None, typer.Option("--set", help="Set of inputs; default the first with phases.")
    ] = None,
) -> None:
    """Say which phase boundaries training runs share: training noise apart from probe noise."""
    from runs.agreement import phase_agreement, show_agreement
    from runs.store import open_store
    from runs.study import open_study

    tree = open_store(stores[0]) if len(stores) == 1 else open_study(stores, names=name)
    show_agreement(phase_agreement(tree, name=inputs), open_console())


@app.command()
def segmentation(
    out: Annotated[Path, typer.Option(help="Folder for the figure.")] = Path("segmentation"),
) -> None:
    """Compare change points with the published segmentation of ten Pythia runs; needs no store."""
    from runs.segmentation import draw_segmentation

    console = open_console()
    for path in draw_segmentation(out, console):
        console.print(str(path), soft_wrap=True)


@app.command()
def report(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE", help="One store, or several on one page.")
    ],
    name: Names = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page; default `report.html` or `study.html` beside the store."),
    ] = None,
) -> None:
    """Write one self-contained HTML page with figures, tables, recipe and warnings."""
    from runs.drawing import write_report

    console = open_console()
    console.print(str(write_report(stores, out, console, models=name)), soft_wrap=True)


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="measures, figures, series, backends or architectures.")
    ] = "measures",
) -> None:
    """List what the suite can compute, draw, walk or look through."""
    from runs.screens import show_list

    show_list(what, open_console())


@app.command()
def posttrain(
    base: Annotated[Path, typer.Argument(metavar="SERIES", help="A small model trained here.")],
    out: Annotated[Path, typer.Option(help="Folder of the branches.")] = Path("out/post"),
) -> None:
    """Fine-tune, prefer and reward a small model; the branches are a series of their own."""
    from runs.damage import named_errors
    from runs.models.posttrain import post_train
    from runs.progress import simple_bar

    console = open_console()
    with named_errors(out), simple_bar(console) as bar:
        task = bar.add_task("post-training", total=None, note="")

        def show(branch: str, step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, note=f"{branch} {loss:.2f}")

        written = post_train(base, out, progress=show)
    console.print(str(written), soft_wrap=True)


@app.command()
def toy(
    out: Annotated[Path, typer.Option(help="Folder for the store toy.zarr.")] = Path("out/toy"),
    seeds: Annotated[int, typer.Option(min=1, help="Starts of each kind and task.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Full-batch updates.")] = 600,
    learning_rate: Annotated[float, typer.Option(help="Of features and readout.")] = 0.25,
) -> None:
    """Train the phase paper's theory toy and its controls; count which seeds show what."""
    from runs.toy import Settings, make_toy

    make_toy(out, Settings(seeds, steps, learning_rate), open_console())


add_training_commands(app)
add_scene_commands(app)


def _finish(outcome: Outcome, console: Console) -> None:
    if outcome.failed:
        table = Table(
            "checkpoint", "why it failed", title="Failed checkpoints", title_justify="left"
        )
        for label, reason in outcome.failed.items():
            table.add_row(label, reason)
        console.print(table)
    console.print(
        f"{outcome.captured} checkpoints captured, {len(outcome.measured)} measures computed, "
        f"{len(outcome.failed)} checkpoints failed: {outcome.store}",
        soft_wrap=True,
    )
    if outcome.failed:
        raise typer.Exit(1)


def _complain(line: str, code: int) -> None:
    sys.stderr.write(f"phasescope: {' '.join(line.split())}\n")
    sys.exit(code)


__all__ = ["app", "main"]
