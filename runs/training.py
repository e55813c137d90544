"""Training what a recipe's series lacks, before anything is captured."""

from __future__ import annotations

from rich.console import Console

from runs.damage import named_errors
from runs.models.training_run import train_run
from runs.progress import simple_bar
from runs.recipe import Recipe
from runs.trained import is_finished, runs_of, trainer_of


def train_missing(recipe: Recipe, console: Console) -> None:
    """Train what a recipe's series lacks, one run after the other; nothing for series of other kinds.

    A run that was stopped goes on where it was. Runs are pure functions of their settings and seeds.

    Raises
    ------
    InputError
        If a setting is wrong, or a folder holds something else.
    """
    table = recipe.series
    if table.kind != "trained":
        return
    runs = runs_of(table)
    with named_errors(table.folder):
        table.folder.mkdir(parents=True, exist_ok=True)
        if all(is_finished(folder, run) for folder, run in runs):
            for folder, run in runs:  # refuses another run's folder
                train_run(folder, run)
            return
        with simple_bar(console) as bar:
            task = bar.add_task("train", total=None, note=trainer_of(str(table.model)).described)
            for done, (folder, run) in enumerate(runs):

                def show(step: int, steps: int, loss: float, *, done: int = done) -> None:
                    note = f"seed {table.seeds[done]}, loss {loss:.2f}"
                    whole = steps * len(runs)
                    bar.update(task, completed=done * steps + step, total=whole, note=note)

                train_run(folder, run, progress=show)
            bar.update(task, total=1, completed=1, note="checkpoints are there")
