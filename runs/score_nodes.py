"""What a run keeps of scores: those published for its model, and their correlation with its measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from runs.measures import write_node
from runs.scores import (
    SOURCE,
    at_layer,
    correlate_curves,
    published_model_of,
    published_scores,
    published_tasks,
)
from runs.store import open_store
from runs.writing import digest

VERSION = 2
PUBLISHED = ("published_score", "pythia_v1")
CORRELATED = ("score_correlation", "li2025")
_MEASURES = (("rankme", "li2025"), ("alpha_req", "li2025"))
_REACH = 1.959963984540054


def write_scores(path: Path) -> tuple[str, ...]:
    """Keep published scores of a store's model, and correlations of RankMe and α with every score.

    Parameters
    ----------
    path
        The store; nothing is written where it has no scores, or where what is kept is current.

    Returns
    -------
    tuple of str
        What was written, as `NAME/CONVENTION/SET`.
    """
    tree = open_store(path)
    written = []
    model = published_model_of(tree)
    for name in _sets(tree):
        for (measure, convention), made in (
            (PUBLISHED, None if model is None else _published(model, name)),
            (CORRELATED, _correlated(tree, name, model)),
        ):
            node = f"measures/{measure}/{convention}/{name}"
            if made is None or _lineage(tree, node) == made.attrs["lineage"]:
                continue
            write_node(path, node, made)
            written.append(f"{measure}/{convention}/{name}")
    return tuple(written)


def _sets(tree: xr.DataTree) -> list[str]:
    """Sets of which RankMe or α is kept."""
    found: dict[str, None] = {}
    for measure, convention in _MEASURES:
        node = _at(tree, f"measures/{measure}/{convention}")
        found |= dict.fromkeys([] if node is None else node.children)
    return list(found)


def _at(tree: xr.DataTree, path: str) -> xr.DataTree | None:
    node = tree
    for part in path.split("/"):
        if part not in node.children:
            return None
        node = node.children[part]
    return node


def _lineage(tree: xr.DataTree, path: str) -> str:
    node = _at(tree, path)
    return "" if node is None else str(node.attrs.get("lineage", ""))


def _described(name: tuple[str, str], chosen: str, **more: object) -> dict[str, object]:
    return {"measure": name[0], "convention": name[1], "unit": "1", "set": chosen, **more}


def _published(model: str, chosen: str) -> xr.Dataset:
    """Published accuracies at every published step (checkpoint, task)."""
    tasks = [task for task, metrics in published_tasks().items() if "acc" in metrics]
    scores = xr.concat([published_scores(model, t) for t in tasks], "task", join="exact")
    scores = scores.transpose("step", "task")
    steps = scores["step"].values
    value, error = scores.values, scores["standard_error"].transpose("step", "task").values
    dims = ("checkpoint", "task")
    return xr.Dataset(
        {
            "value": (dims, value),
            "standard_error": (dims, error),
            "lower": (dims, value - _REACH * error),
            "upper": (dims, value + _REACH * error),
        },
        {
            "checkpoint": np.array([f"main/step{step}" for step in steps]),
            "step": ("checkpoint", steps),
            "tokens": ("checkpoint", scores["tokens"].values),
            "branch": ("checkpoint", np.full(steps.size, "main")),
            "task": np.array(tasks),
        },
        _described(
            PUBLISHED,
            chosen,
            source=SOURCE,
            model=model,
            level=0.95,
            interval="the harness's standard error over questions, normal, 95 %",
            inputs="the tasks' own questions, zero-shot",
            lineage=digest([VERSION, model, chosen]),
        ),
    )


def _correlated(tree: xr.DataTree, chosen: str, model: str | None) -> xr.Dataset | None:
    """Correlations (measure, score, branch, coefficient) of what is kept; None without scores."""
    curves, lineage, inputs = {}, [str(VERSION), str(model)], ""
    for measure, convention in _MEASURES:
        node = _at(tree, f"measures/{measure}/{convention}/{chosen}")
        if node is not None:
            curves[measure] = at_layer(node.to_dataset()["value"], "final").load()
            lineage.append(str(node.attrs.get("lineage", "")))
            inputs = str(node.attrs.get("inputs", ""))
    scores: dict[str, xr.DataArray] = {}
    own = _at(tree, f"measures/task_score/acc/{chosen}")
    if own is not None:
        lineage.append(str(own.attrs.get("lineage", "")))
        values = own.to_dataset()["value"].load()
        scores |= {str(t): values.sel(task=t, drop=True) for t in values["task"].values}
    if model is not None:
        for task, metrics in published_tasks().items():
            if "acc" in metrics:
                scores[f"{task} (published)"] = published_scores(model, task)
    if not scores or not curves:
        return None
    parts = [
        xr.concat([correlate_curves(curve, score) for score in scores.values()], "score")
        for curve in curves.values()
    ]
    found = xr.concat(parts, "measure").assign_coords(
        measure=np.array(list(curves)), score=np.array(list(scores))
    )
    if not bool(np.isfinite(found["value"]).any()):
        return None  # too few checkpoints, or none that both have
    return found.assign_attrs(
        _described(
            CORRELATED,
            chosen,
            source="Pearson and Spearman over checkpoints, arXiv 2509.23024 Table 9",
            level=0.95,
            interval="Fisher's z, checkpoints taken as independent",
            layer="final",
            first_step=1,
            inputs=inputs,
            lineage=digest([*lineage, chosen]),
        )
    )
