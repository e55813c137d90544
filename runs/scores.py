"""Scores beside measures: published ones, a store's own, and how they go together over training."""

from __future__ import annotations

import gzip
import io
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from geometry.correlation import METHODS, Correlation, correlation
from runs.errors import InputError
from runs.measures import measure
from runs.published import tokens_per_step

SOURCE = "EleutherAI/pythia, evals/pythia-v1/*/zero-shot, commit a19eecb, Apache-2.0"
_TABLE = "pythia_zero_shot.csv.gz"
_AS_PUBLISHED = {"pythia-1b": "pythia-1b-bf16"}
_STEP_DIM = "step"


@cache
def _table() -> pd.DataFrame:
    packed = files("runs").joinpath(_TABLE).read_bytes()
    return pd.read_csv(io.BytesIO(gzip.decompress(packed)), dtype={"step": "int64"})


def published_models() -> list[str]:
    """Names of the Pythia models with published scores, as their repositories call them."""
    back = {v: k for k, v in _AS_PUBLISHED.items()}
    return sorted(back.get(name, name) for name in _table()["model"].unique())


def published_tasks() -> dict[str, list[str]]:
    """Tasks with published scores and the metrics of each."""
    rows = _table()[["task", "metric"]].drop_duplicates()
    rows = rows[~rows["metric"].str.endswith("_stderr")]
    return {str(task): sorted(part["metric"]) for task, part in rows.groupby("task")}


def published_scores(model: str, task: str = "sciq", metric: str = "acc") -> xr.DataArray:
    """Zero-shot scores of a Pythia model over its training, as its authors published them.

    Parameters
    ----------
    model
        `pythia-1b`, `1b`, `pythia-1b-bf16` or `EleutherAI/pythia-1b`; with `-deduped` where meant.
    task, metric
        As `published_tasks()` lists them.

    Returns
    -------
    xarray.DataArray
        Over `step` (27 of them, 0 … 143000), in the metric's unit, with the coordinates `tokens` and
        `standard_error`; attributes name model, task, metric and source.

    Raises
    ------
    InputError
        If there are no such scores; the line lists what there is.

    Notes
    -----
    Run in 2023 on the weights of that time, some of whose public copies were later found replaced: an
    independent check on weights loaded now. The final SciQ accuracies agree with arXiv 2509.23024,
    Table 8.
    """
    name = published_name(model)
    if name is None:
        raise InputError(
            f"no published scores of `{model}`; there are {', '.join(published_models())}"
        )
    tasks = published_tasks()
    if metric not in tasks.get(task, []):
        told = "; ".join(f"{t}: {', '.join(m)}" for t, m in tasks.items())
        raise InputError(f"no published scores of task `{task}` in `{metric}`; there are {told}")
    rows = _table()
    rows = rows[(rows["model"] == _AS_PUBLISHED.get(name, name)) & (rows["task"] == task)]
    wide = rows.pivot(index="step", columns="metric", values="value").sort_index()
    steps = wide.index.to_numpy()
    rate = tokens_per_step(f"EleutherAI/{name}") or 0
    return xr.DataArray(
        wide[metric].to_numpy(np.float64),
        dims=_STEP_DIM,
        coords={
            _STEP_DIM: steps,
            "tokens": (_STEP_DIM, steps * rate),
            "standard_error": (_STEP_DIM, wide[f"{metric}_stderr"].to_numpy(np.float64)),
        },
        name=f"{task}_{metric}",
        attrs={"model": name, "task": task, "metric": metric, "source": SOURCE},
    )


def published_name(model: str) -> str | None:
    """The name under which a model has published scores; None if it has none."""
    name = model.rsplit("/", 1)[-1].lower()
    name = name if name.startswith("pythia-") else f"pythia-{name}"
    name = name.removesuffix("-bf16") if name == "pythia-1b-bf16" else name
    return name if name in published_models() else None


def published_model_of(tree: xr.DataTree) -> str | None:
    """Which published model a store's recipe walks; None if there are no scores of it.

    PolyPythias, and runs of one's own in the same shape, are other models.
    """
    try:
        series = tomllib.loads(str(tree.attrs.get("recipe", ""))).get("series", {})
    except tomllib.TOMLDecodeError:
        return None
    kind = series.get("kind", "local")
    if kind == "pythia":
        if {"seed", "data_seed", "weight_seed"} & set(series):
            return None
        suffix = "-deduped" if series.get("deduped") else ""
        return published_name(f"pythia-{series.get('size', '')}{suffix}")
    repository = series.get("repository", "") if kind == "hub" else ""
    if kind == "local":
        match = re.fullmatch(r"models--(.+?)--(.+)", Path(str(series.get("path", ""))).name)
        repository = "/".join(match.groups()) if match else ""
    return published_name(repository) if repository.startswith("EleutherAI/pythia-") else None


def correlate(
    tree: xr.DataTree,
    name: str,
    scores: xr.DataArray,
    *,
    convention: str | None = None,
    set: str | None = None,
    layer: str | int = "final",
    methods: Sequence[str] = METHODS,
    first_step: int = 1,
    surrogates: int = 2000,
    seed: int = 0,
) -> xr.Dataset:
    """Correlate a measure with a score over the checkpoints of each branch.

    Parameters
    ----------
    tree
        From `open_store`.
    name, convention, set
        A measure, as `runs.measure` takes it.
    scores
        `published_scores(…)`, over `step`: the same for every branch. Or a score of the store itself,
        over `checkpoint` (`measure(tree, "task_score").sel(task="sciq")`).
    layer
        By number or name, of a measure that has layers.
    methods
        `pearson`, `spearman`.
    first_step
        Earlier checkpoints are left out: step 0 has no place on a path, and the paper's n of 20 for
        Pythia is that of the published steps from 64 on.
    surrogates, seed
        As `geometry.correlation.correlation`.

    Returns
    -------
    xarray.Dataset
        Over (branch, coefficient): `value`, `lower`, `upper`, `n`, `p` and the p-values that know of
        serial dependence; see `geometry.correlation.Correlation`. Steps where either is missing or NaN
        are left out, so that `n` counts what is there.

    Raises
    ------
    InputError
        If the layer or a step's score is not of one value, or a method is unknown.

    Notes
    -----
    arXiv 2509.23024, Table 9.
    """
    curve = at_layer(measure(tree, name, convention=convention, set=set), layer)
    found = correlate_curves(
        curve,
        scores,
        methods=methods,
        first_step=first_step,
        surrogates=surrogates,
        seed=seed,
    )
    return found.assign_attrs(
        measure=name,
        convention=curve.attrs.get("convention", ""),
        score=str(scores.name),
        first_step=first_step,
        source="arXiv 2509.23024 Table 9",
    )


def at_layer(curve: xr.DataArray, layer: str | int) -> xr.DataArray:
    """One layer of a measure, by number or name; the measure itself if it has none."""
    if "layer" not in curve.dims:
        return curve
    names = [str(n) for n in curve["layer_name"].values]
    numbers = [int(n) for n in curve["layer"].values]
    if layer in names:
        return curve.isel(layer=names.index(str(layer)))
    if layer in numbers:
        return curve.isel(layer=numbers.index(int(layer)))
    raise InputError(f"no layer `{layer}`; there are {', '.join(names)}")


def correlate_curves(
    curve: xr.DataArray,
    scores: xr.DataArray,
    *,
    methods: Sequence[str] = METHODS,
    first_step: int = 1,
    surrogates: int = 2000,
    seed: int = 0,
) -> xr.Dataset:
    """As `correlate`, of a measure over `checkpoint` alone."""
    for unknown in [m for m in methods if m not in METHODS]:
        raise InputError(f"no method `{unknown}`; there are {', '.join(METHODS)}")
    wrong = [d for a in (curve, scores) for d in a.dims if d not in ("checkpoint", "step")]
    if wrong:
        raise InputError(f"choose one {wrong[0]} first: a correlation is of two curves")
    branches = list(dict.fromkeys(map(str, curve["branch"].values)))
    rows = []
    for branch in branches:
        x, y = paired(curve, scores, branch, first_step)
        rows.append(
            [
                correlation(x, y, method=method, surrogates=surrogates, seed=seed)
                for method in methods
            ]
        )
    data = {
        field: (
            ("branch", "coefficient"),
            np.array([[getattr(c, field) for c in row] for row in rows]),
        )
        for field in Correlation._fields
    }
    return xr.Dataset(data, {"branch": np.array(branches), "coefficient": np.array(methods)})


def paired(
    curve: xr.DataArray, scores: xr.DataArray, branch: str, first_step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values of one branch's steps at which both are numbers, in the order of steps."""
    mine, theirs = _by_step(curve, branch), _by_step(scores, branch)
    steps = sorted(
        step
        for step in mine.keys() & theirs.keys()
        if step >= first_step and np.isfinite(mine[step]) and np.isfinite(theirs[step])
    )
    x, y = (np.array([values[step] for step in steps], np.float64) for values in (mine, theirs))
    return x, y


def _by_step(values: xr.DataArray, branch: str) -> Mapping[int, float]:
    if "checkpoint" in values.dims:
        rows = np.flatnonzero(values["branch"].values.astype(str) == branch)
        values = values.isel(checkpoint=rows)
    numbers = np.asarray(values.values, np.float64)
    return {int(s): float(v) for s, v in zip(values["step"].values, numbers, strict=True)}
