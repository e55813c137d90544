"""The step at which each word class stands apart, by line of training, and how far lines differ."""

from __future__ import annotations

import numpy as np
import xarray as xr

from figures.select import by_branch, is_study
from probes.class_emergence import class_emergence
from probes.emergence import together


def class_steps(part: xr.Dataset, *, threshold: float | None = None) -> xr.Dataset:
    """When each class of one line of training came to stand apart, with its interval.

    Parameters
    ----------
    part : `value` and `standard_error` (checkpoint, word_class) of one branch at one layer, in the order
        of training, with `step`.
    threshold : the same for every class; by default each is to come halfway up its own rise.

    Returns
    -------
    Over (word_class): `first`, `lower`, `upper` in steps (NaN for a class that has not emerged, and an
    upper end of NaN for one whose interval reaches beyond the last checkpoint), `first_row`,
    `lower_row`, `upper_row`, the same as rows of `part`; `rise`, `rise_lower`, `rise_upper`;
    `threshold`; `separated` 1 or 0, NaN for a class that was not measured; `group`, classes whose
    intervals share a checkpoint, −1 for none.

    Notes
    -----
    probes.class_emergence has the definition. The interval is probe noise of this one line.
    """
    part = part.transpose("checkpoint", "word_class")
    values, errors = part["value"].values, part["standard_error"].values
    found = [
        class_emergence(v, e, threshold=threshold) for v, e in zip(values.T, errors.T, strict=True)
    ]
    count = part.sizes["checkpoint"]
    measured = (~np.isnan(values)).sum(axis=0) > 1
    up = np.array([one.separated for one in found])
    rows = {
        end: np.array([getattr(one, end) for one in found]) for end in ("first", "lower", "upper")
    }
    steps = np.append(part["step"].values.astype(float), np.nan)
    data = {end: np.where(up, steps[place], np.nan) for end, place in rows.items()}
    data |= {f"{end}_row": np.where(up, place, np.nan) for end, place in rows.items()}
    for name in ("rise", "rise_lower", "rise_upper", "threshold"):
        data[name] = np.array([getattr(one, name) for one in found])
    data["separated"] = np.where(measured, up, np.nan)
    low = np.where(up, rows["lower"], count)
    data["group"] = together(low, rows["upper"], never=count).astype(float)
    return xr.Dataset(
        {name: ("word_class", value) for name, value in data.items()},
        {"word_class": part["word_class"].values},
    )


def steps_by_line(data: xr.Dataset, *, threshold: float | None = None) -> xr.Dataset:
    """`class_steps` of every line of a measure: (training_line, word_class).

    Parameters
    ----------
    data : `value` and `standard_error` (checkpoint, word_class) at one layer, with `branch`, `step` and
        `tokens`; of a study with `line` and `model`.
    """
    parts = dict(by_branch(data))
    found = xr.concat(
        [class_steps(part, threshold=threshold) for part in parts.values()],
        xr.DataArray(np.array(list(parts)), dims="training_line", name="training_line"),
    )
    models = [str(part["model"].values[0]) if is_study(data) else "" for part in parts.values()]
    return found.assign_coords(line_model=("training_line", np.array(models)))


def spread(steps: xr.Dataset) -> xr.Dataset:
    """How the steps differ between lines of one model, which is noise of training and not of the probe.

    Parameters
    ----------
    steps : of `steps_by_line`.

    Returns
    -------
    Over (line_model, word_class): `median`, `lowest`, `highest` of `first` over the lines where the
    class emerged, `emerged` and `lines`, how many those are and how many there are. NaN where none did.
    """
    models = list(dict.fromkeys(steps["line_model"].values.astype(str)))
    shape = (len(models), steps.sizes["word_class"])
    data = {name: np.full(shape, np.nan) for name in ("median", "lowest", "highest")}
    data |= {name: np.zeros(shape) for name in ("emerged", "lines")}
    for row, model in enumerate(models):
        first = steps["first"].values[steps["line_model"].values.astype(str) == model]
        for column, own in enumerate(first.T):
            there = own[~np.isnan(own)]
            data["emerged"][row, column], data["lines"][row, column] = there.size, own.size
            if there.size:
                ends = (np.median(there), there.min(), there.max())
                for name, value in zip(("median", "lowest", "highest"), ends, strict=True):
                    data[name][row, column] = value
    return xr.Dataset(
        {name: (("line_model", "word_class"), value) for name, value in data.items()},
        {"line_model": models, "word_class": steps["word_class"].values},
    )


def told_steps(steps: xr.Dataset) -> str:
    """Say in words since when each class stands apart, earliest first."""
    between = spread(steps)
    said = []
    for model in between["line_model"].values.astype(str):
        lines = steps["training_line"].values[steps["line_model"].values.astype(str) == model]
        one = told_one(steps.sel(training_line=lines[0])) if lines.size == 1 else None
        words = one if one is not None else _several(between.sel(line_model=model))
        name = str(lines[0]) if lines.size == 1 else model
        several = between.sizes["line_model"] > 1
        said.append(f"{f'{name}: ' * several}{words}")
    return "; ".join(said)


def told_one(found: xr.Dataset) -> str:
    """Say since when each class of one line stands apart, earliest first; of `class_steps`."""
    order = np.argsort(found["first"].values, kind="stable")
    up, flat = [], []
    for i in order:
        one = found.isel(word_class=int(i))
        name = str(one["word_class"].item())
        if one["separated"] == 1:
            ends = [_step(float(one[end])) for end in ("lower", "upper")]
            up.append(f"{name} from step {_step(float(one['first']))} [{', '.join(ends)}]")
        elif one["separated"] == 0:
            flat.append(name)
    return _joined(up, flat)


def _several(between: xr.Dataset) -> str:
    order = np.argsort(between["median"].values, kind="stable")
    up, flat = [], []
    for i in order:
        one = between.isel(word_class=int(i))
        name = str(one["word_class"].item())
        emerged, lines = int(one["emerged"]), int(one["lines"])
        if not emerged:
            flat.append(name)
            continue
        ends = f"{_step(float(one['lowest']))}–{_step(float(one['highest']))}"
        share = f" in {emerged} of {lines} lines" if emerged < lines else ""
        up.append(f"{name} from step {_step(float(one['median']))} ({ends}){share}")
    return _joined(up, flat)


def _joined(up: list[str], flat: list[str]) -> str:
    none = f"no rise: {', '.join(flat)}" if flat else ""
    return ", ".join((*up, none) if none else up)


def _step(step: float) -> str:
    return f"{step:,.0f}" if np.isfinite(step) else "after the last"
