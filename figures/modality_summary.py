"""Says in plain sentences whom a model that sees and reads believes, and where that turns."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from figures.modality_panels import told
from figures.select import dataset_at, measured_parts
from figures.summary import interval, number

_FOLLOWING = ("text_following", "solved_both")
_BALANCE = "measures/balance_point/logistic"
_TREND = "measures/following_monotone/spearman"


def modality_sentences(tree: xr.DataTree, lines: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What is said of modalities in conflict, by line; nothing of a store without sets of scenes.

    Parameters
    ----------
    tree : an open store.
    lines : branch to what the page calls it.

    Returns
    -------
    Sentences by line, of its last checkpoint: how often the text is followed, how that falls with
    relative uncertainty, and the balance point or why there is none.
    """
    found: dict[str, tuple[str, ...]] = {}
    for one in measured_parts(tree, *_FOLLOWING, lines):
        last = one.part.isel(checkpoint=-1)
        found[one.line] = (*found.get(one.line, ()), *_following(last, one.where))
        for path, say in ((_TREND, _trend), (_BALANCE, _balance)):
            data = dataset_at(tree, f"{path}/{one.set}")
            if data is not None and float(last["cases"]) > 0:
                same = data.sel(checkpoint=last["checkpoint"].values).compute()
                found[one.line] += (say(same),)
    return found


def _following(last: xr.Dataset, where: str) -> tuple[str, ...]:
    cases = float(last["cases"])
    if not cases > 0:
        return (
            f"No conflict{where} is solved from each modality alone, so nothing is said of whom the model"
            " believes.",
        )
    share = interval(*(last[name].values for name in ("value", "lower", "upper")))
    return (
        f"Of {number(cases)} conflicts{where} solved from each modality alone, the share that follows the"
        f" text is {share} at the last checkpoint.",
    )


def _trend(last: xr.Dataset) -> str:
    value = interval(*(last[name].values for name in ("value", "lower", "upper")))
    return f"Rank correlation of following the text with relative uncertainty ΔH: {value}."


def _balance(last: xr.Dataset) -> str:
    return f"Balance point of ΔH, logistic fit: {told(last)}."
