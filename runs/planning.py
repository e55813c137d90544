"""What a run would do: from the files of the series where they are here, from published sizes else."""

from __future__ import annotations

from rich.console import Console

from runs.errors import concerning
from runs.hub.cache import here
from runs.hub.client import is_offline
from runs.jobs import say
from runs.loading import quiet_transformers
from runs.outline import outline
from runs.plan import cells_of, check_recipe, make_plan, pinned_series
from runs.recipe import Recipe
from runs.remembered import Remembered, remembered
from runs.screens import show_faults, show_outline, show_plan
from runs.starting import Pinned, start
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
    notice = say(console)
    known = remembered(recipe.store)
    pinned = pinned_series(recipe, known, notice=notice)
    for line in pinned.moved:
        notice(line)
    if pinned.series.checkpoints[0].repository:
        _show_published(recipe, pinned, known, console)
    else:
        show_plan(make_plan(recipe, notice=notice), console)
    show_faults(pinned.series, console)


def _show_published(recipe: Recipe, pinned: Pinned, known: Remembered, console: Console) -> None:
    """A published series: whole sets if text and weights are here, else estimates."""
    notice = say(console)
    table = recipe.series
    with concerning(recipe.source), quiet_transformers():
        check_recipe(recipe)
        cells = cells_of(recipe)
        if any(
            here(c) is None and not known.settled(c.label, cells) for c in pinned.series.checkpoints
        ):
            if pinned.unreachable is not None:
                raise pinned.unreachable
            own = table.tokenizer is not None
            # HF_HUB_OFFLINE plans from published tables; a hub that is to be asked must answer.
            ask = not is_offline()
            pinned.series = start(
                pinned, cache=table.cache, tokenizer=not own, ask=ask, notice=notice
            )
        texts = all(i.dataset is None and i.path.exists() for i in recipe.inputs.values())
        ready = pinned.series.tokenizer is not None and texts
        if not (ready and any(here(c) is not None for c in pinned.series.checkpoints)):
            show_outline(outline(recipe, pinned, known, notice), pinned, recipe, console)
            return
    show_plan(make_plan(recipe, notice=notice), console)
