"""The demo: a real training run, captured, measured, drawn and reported."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.text import Text

from figures.save import write_atomic
from runs.damage import named_errors
from runs.drawing import draw_figures, write_report
from runs.jobs import Outcome, execute
from runs.models.corpus import write_documents
from runs.models.neox import TrainConfig
from runs.models.pretrain import train
from runs.progress import simple_bar
from runs.recipe import load_recipe

RECIPE = "demo.toml"


def make_demo(out: Path, *, workers: int, console: Console, seed: int = 0) -> Outcome:
    """Do everything once; a second call repeats only what is missing.

    Parameters
    ----------
    out
        Folder for checkpoints, recipe, store, figures and report.
    workers
        Processes that capture.
    console
        Where progress is drawn.
    seed
        Of the training run.

    Returns
    -------
    Outcome
        Of the run; the report's path is printed.
    """
    with named_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with simple_bar(console) as bar:
            task = bar.add_task("train", total=None, note="a GPT-NeoX on two centuries of speeches")

            def show(step: int, total: int, loss: float) -> None:
                bar.update(task, completed=step, total=total, note=f"loss {loss:.2f}")

            train(out / "checkpoints", TrainConfig(seed=seed), progress=show)
            bar.update(task, total=1, completed=1, note="checkpoints are there")
        write_documents(out / "speeches.jsonl", part="held_out")
        recipe = out / RECIPE
        text = files("runs.models").joinpath(RECIPE).read_text(encoding="utf-8")
        if seed:
            text = text.replace('speeches"\nstore', f'speeches, seed {seed}"\nstore', 1)
        write_atomic(recipe, text.encode())
    outcome = execute(load_recipe(recipe), workers=workers, console=console)
    draw_figures(outcome.store, out / "figures", None, console)
    page = write_report(outcome.store, out / "report.html", console)
    console.print(Text.assemble("\nThe report: ", (str(page), "bold")), soft_wrap=True)
    return outcome
