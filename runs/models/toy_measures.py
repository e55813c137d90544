"""What is read off the toy's paths: RankMe in four forms, singular values, events, counts of seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geometry.spectrum import RANKME_CONVENTIONS, rankme
from runs.models.diverging import DivergedError
from runs.models.toy import STARTS, TASKS, Array, Paths, Task, descend, initialise

HEADLINE = "lambda_uncentered"
FORMS = (HEADLINE, "li2025", "roy2007", "sigma_centered")
MARGIN = 1e-3
PATH_STRIDE = 4
_SOURCE = "arXiv 2509.23024, section 3.3 and appendix B"
_CELLS = ("task", "start", "seed")
_FORKED = 10.0  # classes part if their distance grows at least this much


def measure_toy(
    tasks: Sequence[Task] = tuple(TASKS.values()),
    *,
    seeds: int,
    steps: int,
    learning_rate: float,
) -> dict[str, xr.Dataset]:
    """Train every task from both starts and measure it.

    Parameters
    ----------
    tasks
        Variants; see `runs.models.toy.TASKS`.
    seeds, steps, learning_rate
        As in `runs.models.toy.initialise` and `descend`.

    Returns
    -------
    dict
        "NAME/CONVENTION" to a Dataset over (task, start, seed, step) and labels:
        `toy_rankme/…` and `toy_singular_value/uncentered` (with rank 1 and 2) of the features,
        `toy_loss/mean`, `toy_paths/parameters` (`features` by sample and component, `weights` by
        component and class, float32, every fourth step; what a task does not have is NaN) and
        `toy_events/…` of `events_of`, with `fork_step` and each task's `counts` and `about`.

    Raises
    ------
    ValueError
        If there is no seed or no step.
    DivergedError
        If a loss or a parameter stops being a number.

    Notes
    -----
    Memory: 20 seeds and 600 steps of six tasks about 60 MB; a few seconds.
    """
    if min(seeds, steps) < 1:
        raise ValueError(f"seeds is {seeds} and steps is {steps}; give at least 1 of each")
    rows = []
    for task in tasks:
        row = []
        for start in STARTS:
            begin = initialise(task, start, seeds=seeds)
            try:
                paths = descend(*begin, task, learning_rate=learning_rate, steps=steps)
            except DivergedError as error:
                raise DivergedError(f"task `{task.name}`, {start} start: {error}") from None
            row.append(_cell(task, paths).assign_coords(start=start))
        rows.append(xr.concat(row, "start").assign_coords(task=task.name))
    # Tasks of fewer samples or components are filled up with NaN.
    whole = xr.concat(rows, "task", join="outer").transpose(*_CELLS, "step", ...)
    told = f"{seeds} seeds, {steps} full-batch steps at learning rate {learning_rate:g}"
    return {name: data.assign_attrs(inputs=told) for name, data in _split(whole).items()}


def _cell(task: Task, paths: Paths) -> xr.Dataset:
    """Everything measured of one task from one start."""
    steps = np.arange(paths.loss.shape[1])
    kept = slice(None, None, PATH_STRIDE)
    found: dict[str, tuple[tuple[str, ...], NDArray[np.floating]]] = {
        "loss": (("seed", "step"), paths.loss),
        "features": (
            ("seed", "path_step", "sample", "component"),
            paths.features[:, kept].astype(np.float32),
        ),
        "weights": (
            ("seed", "path_step", "component", "class"),
            paths.weights[:, kept].astype(np.float32),
        ),
        "fork_step": (("seed",), fork_step(paths.features, task)),
    }
    sigma = {centered: singular_values(paths.features, centered=centered) for centered in (0, 1)}
    found["sigma"] = (("seed", "step", "rank"), sigma[0][..., :2])
    for form in FORMS:
        spectrum = sigma[int(RANKME_CONVENTIONS[form].centered)] ** 2 / sum(task.counts)
        found[form] = (("seed", "step"), rankme(spectrum, convention=form))
    coords = {
        "seed": np.arange(len(paths.loss)),
        "step": steps,
        "path_step": steps[kept],
        "sample": np.arange(sum(task.counts)),
        "component": np.arange(1, task.width + 1),
        "class": np.arange(len(task.counts)),
        "rank": np.array([1, 2]),
    }
    told = {"counts": ("class", np.array(task.counts)), "about": ((), task.about)}
    return xr.Dataset({**found, **told}, coords)


def singular_values(features: Array, *, centered: bool | int) -> Array:
    """Singular values of clouds, all at once: `geometry.spectrum.eigenvalues` takes one at a time.

    Parameters
    ----------
    features
        (…, sample, component).
    centered
        Subtract the mean over samples first.

    Returns
    -------
    numpy.ndarray
        (…, min(sample, component)), descending, in units of the features; their squares divided by the
        number of samples are the eigenvalues.
    """
    if centered:
        features = features - features.mean(axis=-2, keepdims=True)
    return np.asarray(np.linalg.svd(features, compute_uv=False))


def fork_step(features: Array, task: Task) -> Array:
    """Step at which the last two classes part: the distance of their mean features grows fastest.

    Parameters
    ----------
    features
        (seed, step, sample, component).
    task
        Gives the classes.

    Returns
    -------
    numpy.ndarray
        (seed,); NaN where that distance never becomes ten times what it was at step 0.
    """
    labels = task.labels
    last = len(task.counts) - 1
    means = [features[:, :, labels == c].mean(axis=2) for c in (last - 1, last)]
    apart = np.linalg.norm(means[0] - means[1], axis=-1)
    fastest = np.argmax(np.diff(apart, axis=1), axis=1).astype(float) + 1
    return np.where(apart.max(axis=1) >= _FORKED * apart[:, 0], fastest, np.nan)


def events_of(values: xr.DataArray, *, margin: float = MARGIN) -> xr.Dataset:
    """First value, dip, peak and what comes after, of a curve over `step`.

    Parameters
    ----------
    values
        RankMe (…, step).
    margin
        How large a change counts, in units of the values.

    Returns
    -------
    xarray.Dataset
        `first` and `last`; `peak`, the largest value, at `peak_step`; `dip`, the smallest up to the peak,
        at `dip_step`; `low`, the smallest from the peak on, at `low_step`. `fell`: first − dip > margin.
        `rose`: peak − dip > margin. `declined`: rose, and then peak − low > margin. A curve that only
        falls has its peak at step 0 and so neither rose nor declined.

        The peak depends on how long the run is, `drop` less: after the dip, the largest fall from a value
        more than margin above the dip to any later one, also if it is made good; from `drop_step` to
        `drop_end`; 0, and no steps, where there is none. `dropped`: drop > margin.
    """
    step = values["step"]
    at_peak = values.argmax("step")
    peak = values.isel(step=at_peak)
    before, after = values.where(step <= peak["step"]), values.where(step >= peak["step"])
    dip, low = (part.isel(step=part.argmin("step")) for part in (before, after))
    found = {"first": values.isel(step=0), "peak": peak, "dip": dip, "low": low}
    plain = {name: part.drop_vars("step") for name, part in found.items()}
    plain["last"] = values.isel(step=-1).drop_vars("step")
    steps = {f"{n}_step": found[n]["step"].drop_vars("step") for n in ("peak", "dip", "low")}
    rose = plain["peak"] - plain["dip"] > margin
    plain |= _largest_drop(values, found["dip"], margin)
    flags = {
        "dropped": plain["drop"] > margin,
        "fell": plain["first"] - plain["dip"] > margin,
        "rose": rose,
        "declined": rose & (plain["peak"] - plain["low"] > margin),
    }
    return xr.Dataset({**plain, **steps, **flags})


def _largest_drop(
    values: xr.DataArray, dip: xr.DataArray, margin: float
) -> dict[str, xr.DataArray]:
    """The largest fall after the dip, from a value above it by more than the margin."""
    step = values["step"]
    # The lowest value from each step on: a running minimum from the end.
    ahead = xr.apply_ufunc(
        lambda v: np.minimum.accumulate(v[..., ::-1], axis=-1)[..., ::-1],
        values,
        input_core_dims=[["step"]],
        output_core_dims=[["step"]],
    )
    risen = (step >= dip["step"]) & (values - dip.drop_vars("step") > margin)
    falls = (values - ahead).where(risen, 0.0)
    top = falls.isel(step=falls.argmax("step"))
    rest = values.where(step >= top["step"])
    end = rest.isel(step=rest.argmin("step"))
    drop = top.drop_vars("step")
    ends = {"drop_step": top["step"], "drop_end": end["step"]}
    return {"drop": drop, **{n: s.drop_vars("step").where(drop > 0) for n, s in ends.items()}}


def count_seeds(events: xr.Dataset) -> xr.Dataset:
    """How many seeds show what, and medians over all seeds.

    Parameters
    ----------
    events
        From `events_of`, with `fork_step`, over (…, seed).

    Returns
    -------
    xarray.Dataset
        `fell`, `rose`, `declined`, `all_three` and `dropped`, numbers of seeds; `seeds`; `decline`, the
        median of peak − low; medians of `drop`, `peak_step` and, over the `forked` seeds, `fork_step`.
    """
    flags = {name: events[name].astype(bool) for name in ("fell", "rose", "declined", "dropped")}
    flags["all_three"] = flags["fell"] & flags["declined"]
    counted = {name: flag.sum("seed") for name, flag in flags.items()}
    forked = events["fork_step"]
    return xr.Dataset(
        {
            **counted,
            "seeds": xr.DataArray(events.sizes["seed"]),
            "decline": (events["peak"] - events["low"]).median("seed"),
            "drop": events["drop"].median("seed"),
            "peak_step": events["peak_step"].median("seed"),
            "forked": forked.notnull().sum("seed"),
            # By hand: a median over no seed at all warns.
            "fork_step": xr.apply_ufunc(
                _median, forked, input_core_dims=[["seed"]], vectorize=True
            ),
        }
    )


def _median(values: Array) -> float:
    there = values[np.isfinite(values)]
    return float(np.median(there)) if there.size else float("nan")


def _split(whole: xr.Dataset) -> dict[str, xr.Dataset]:
    """One dataset a measure, each with what the report says of it."""
    nodes = {}
    for form in FORMS:
        rule = RANKME_CONVENTIONS[form]
        nodes[f"toy_rankme/{form}"] = _alone(whole, form, "1", f"{rule.source}; {_SOURCE}")
    nodes["toy_singular_value/uncentered"] = _alone(whole, "sigma", "feature", _SOURCE)
    nodes["toy_loss/mean"] = _alone(
        whole, "loss", "nats; half squared distance where the error is squared", _SOURCE
    )
    paths = whole[["features", "weights"]].rename(path_step="step")
    nodes["toy_paths/parameters"] = _kept(paths).assign_attrs(unit="feature", source=_SOURCE)
    told = whole[["counts", "about"]].isel(start=0, drop=True)
    events = events_of(whole[HEADLINE]).assign(fork_step=whole["fork_step"]).assign(told.data_vars)
    nodes[f"toy_events/{HEADLINE}"] = _kept(events).assign_attrs(
        unit="1 and steps", source=_SOURCE, margin=MARGIN
    )
    return {
        key: data.assign_attrs(measure=key.split("/")[0], convention=key.split("/")[1])
        for key, data in nodes.items()
    }


def _alone(whole: xr.Dataset, name: str, unit: str, source: str) -> xr.Dataset:
    data = _kept(whole[[name]].rename({name: "value"}))
    return data.assign_attrs(unit=unit, source=source, interval="none: every seed is kept")


def _kept(data: xr.Dataset) -> xr.Dataset:
    """Only the coordinates of the dimensions that are left."""
    return data.drop_vars([name for name in data.coords if name not in data.dims])
