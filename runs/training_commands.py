"""Commands that train many small models and keep what was logged: no checkpoint is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from runs.terminal import open_console

Seeds = Annotated[int, typer.Option(help="Of each cell.")]
Steps = Annotated[int, typer.Option(help="Updates of a run.")]
Warmup = Annotated[int, typer.Option(help="Updates of linear warm-up.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Training processes; default one a core, at most 4.")
]


def collapse(
    out: Annotated[Path, typer.Option(help="Folder for the store collapse.zarr.")] = Path(
        "out/collapse"
    ),
    seeds: Seeds = 3,
    steps: Steps = 300,
    learning_rates: Annotated[
        str, typer.Option(metavar="LIST", help="The highest of each run, with commas between.")
    ] = "0.001,0.003,0.01,0.03,0.1",
    variants: Annotated[
        str, typer.Option(metavar="LIST", help="What is trained, with commas between.")
    ] = "baseline,sigma_code,sigma_paper,sigma_no_norm",
    warmup: Warmup = 0,
    collapsed_below: Annotated[
        float, typer.Option(help="Share of uniform attention's entropy that counts as collapse.")
    ] = 0.1,
    workers: Workers = None,
) -> None:
    """Train at rising learning rates with and without σReparam; log attention entropy."""
    from runs.collapse import Collapse
    from runs.trials import make_store, numbers

    experiment = Collapse(
        seeds,
        steps,
        warmup,
        numbers(learning_rates, "--learning-rates"),
        tuple(variants.split(",")),
        collapsed_below,
    )
    make_store(out, experiment, open_console(), workers=_processes(workers))


def regularisation(
    out: Annotated[Path, typer.Option(help="Folder for the store regularisation.zarr.")] = Path(
        "out/regularisation"
    ),
    seeds: Seeds = 3,
    steps: Steps = 200,
    warmup: Warmup = 30,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 0.003,
    strength: Annotated[float, typer.Option(help="λ, the penalty's weight.")] = 1e-5,
    margin: Annotated[float, typer.Option(help="γ, the tolerance as a share of E_max.")] = 0.2,
    reference: Annotated[str, typer.Option(help="E_max: log_length or causal_uniform.")] = (
        "log_length"
    ),
    temperature: Annotated[float, typer.Option(help="Initial t of every head and position.")] = 0.1,
    threshold: Annotated[float, typer.Option(help="Initial θ of every head.")] = 0.5,
    margins: Annotated[
        str, typer.Option(metavar="LIST", help="γ of the sweep, with commas between.")
    ] = "0,0.05,0.1,0.15,0.2,0.25,0.3",
    workers: Workers = None,
) -> None:
    """Train with fewer nonlinearities, with and without a penalty on attention entropy."""
    from runs.regularisation import Regularisation
    from runs.trials import make_store, numbers

    experiment = Regularisation(
        seeds,
        steps,
        warmup,
        learning_rate,
        strength,
        margin,
        reference,
        temperature,
        threshold,
        numbers(margins, "--margins"),
    )
    make_store(out, experiment, open_console(), workers=_processes(workers))


def _processes(asked: int | None) -> int:
    return asked or min(os.cpu_count() or 1, 4)


def add_training_commands(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.command()(collapse)
    app.command()(regularisation)
