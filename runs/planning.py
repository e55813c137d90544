"""What a run would do: from the files of the series where they are here, from published sizes else."""

from __future__ import annotations

from rich.console import Console

from runs.errors import concerning
from runs.fetching import here
from runs.outline import outline
from runs.plan import check_recipe, make_plan, series_of
from runs.recipe import Recipe
from runs.screens import show_faults, show_outline, show_plan
from runs.trained import untrained


def show_recipe(recipe: Recipe, console: Console) -> None:
    """Say what a run of a recipe would take, and which known faults its series has.

    Parameters
    ----------
    recipe
        From `load_recipe`.
    console
        Where it is said.

    Raises
    ------
    InputError
        If the recipe, or what it names, cannot be used.
    """
    with concerning(recipe.source):
        runs = untrained(recipe.series)
    if runs:
        console.print(
            f"{runs} of {len(recipe.series.seeds)} runs are not trained yet; `phasescope run` trains "
            f"them first, in {recipe.series.folder}. Plan again then: the rest is read from their files.",
            soft_wrap=True,
            highlight=False,
        )
        return
    series = series_of(recipe)
    published = bool(series.checkpoints[0].repository)
    ready = series.tokenizer is not None and all(i.path.exists() for i in recipe.inputs.values())
    if published and not (ready and any(here(c) is not None for c in series.checkpoints)):
        with concerning(recipe.source):
            check_recipe(recipe)
            estimate = outline(recipe, series)
        show_outline(estimate, recipe, console)
    else:
        show_plan(make_plan(recipe), console)
    show_faults(series, console)
