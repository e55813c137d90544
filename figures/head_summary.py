"""Says in plain sentences what heads do on repeated tokens, and when they came to do it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from figures.head_lives import MEASURES, emergence_of
from figures.select import dataset_at, measured_parts

_EMERGENCE = ("head_emergence", "above_0.3")
_TITLES = {
    "previous": "previous-token",
    "duplicate": "duplicate-token",
    "induction": "induction",
    "first_key": "first-token (sink)",
}
_NAMED = 6


def head_sentences(tree: xr.DataTree, lines: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What is said of heads, by line; nothing of a store without sets of repeated tokens.

    Parameters
    ----------
    tree : an open store.
    lines : branch to what the page calls it.

    Returns
    -------
    Sentences by line: at one checkpoint which heads do what, strongest first; over several, since when.
    """
    told: dict[str, tuple[str, ...]] = {}
    for one in measured_parts(tree, *_EMERGENCE, lines):
        scores = {k: _scores(tree, k, one.set) for k in MEASURES}
        said = _of_branch(one.part, scores, one.where)
        told[one.line] = (*told.get(one.line, ()), *said)
    return told


def _scores(tree: xr.DataTree, behaviour: str, name: str) -> xr.DataArray | None:
    """Scores (checkpoint, block, head) by which heads are put in order, if they were measured."""
    data = dataset_at(tree, f"measures/{'/'.join(MEASURES[behaviour])}/{name}")
    return None if data is None else data["value"]


def _of_branch(
    part: xr.Dataset, scores: Mapping[str, xr.DataArray | None], where: str
) -> list[str]:
    found = emergence_of(part)
    last, count = part["checkpoint"].values[-1], part.sizes["block"] * part.sizes["head"]
    once = part.sizes["checkpoint"] == 1
    told, none = [], []
    for behaviour, title in _TITLES.items():
        one = found.sel(behaviour=behaviour)
        heads = np.argwhere(one["emergence_state"].values > 0)
        if not len(heads):
            none.append(title)
            continue
        score = scores[behaviour]
        strength = np.zeros(one["emergence"].shape)
        if score is not None:
            strength = score.sel(checkpoint=last).transpose("block", "head").values
        begun = one["emergence"].values
        order = sorted((begun[tuple(p)] * (not once), -strength[tuple(p)], *p) for p in heads)
        named = [_named(one, block, head, once=once) for *_, block, head in order[:_NAMED]]
        more = f" and {len(heads) - _NAMED} more" if len(heads) > _NAMED else ""
        kind = f"{title[0].upper()}{title[1:]} heads{where}"
        told.append(f"{kind}: {len(heads)} of {count}: {', '.join(named)}{more}.")
    if none:
        told.append(f"No {_either(none)} heads were found{where}.")
    rule = "A head counts if it gives at least 0.3 of its attention there on repeated random tokens"
    last_word = "; strongest first." if once else " from a checkpoint on to the last."
    return [*told, rule + last_word]


def _named(one: xr.Dataset, block: int, head: int, *, once: bool) -> str:
    """Block and head, and since when."""
    name = f"{one['block'].values[block]}.{one['head'].values[head]}"
    if once:
        return name
    first, low, high = (
        float(one[f"emergence{end}"].values[block, head]) for end in ("", "_lower", "_upper")
    )
    ends = "" if low == high else f" [{_step(low)}, {_step(high)}]"
    return f"{name} from step {_step(first)}{ends}"


def _either(names: list[str]) -> str:
    return " or ".join((*([", ".join(names[:-1])] if names[1:] else ()), names[-1]))


def _step(step: float) -> str:
    """A step in digits; an interval may reach beyond the last checkpoint."""
    return f"{step:,.0f}" if np.isfinite(step) else "after the last"
