"""Finds in a store's tree what a figure draws."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import xarray as xr

_Array = TypeVar("_Array", xr.DataArray, xr.Dataset)


class MissingMeasure(LookupError):
    """A figure needs a measure that the tree does not hold; the message says how to get it."""


class NothingToCompare(MissingMeasure):
    """A figure sets sets, branches or stages beside each other, and the tree has one of them."""


class TooFewCheckpoints(ValueError):
    """A figure shows change over training, and the tree has too few checkpoints for that."""


class TooFewSets(NothingToCompare):
    """A figure compares sets of inputs, and the tree has too few."""


@dataclass(frozen=True)
class Material:
    """What one figure draws.

    Attributes
    ----------
    set : name of the set of inputs the measures were made on.
    measures : measure name to its Dataset (`value`, often `lower` and `upper`); one made from
        another by `rankme/CONVENTION+how` is called `rankme+how`; of a measure that is drawn in
        several conventions, those after the first are called `MEASURE/CONVENTION`.
    phases : branch name to its Dataset of boundaries and segments; empty if none were sought.
    revisions : checkpoint label to what its series calls it, where the tree says.
    sets : where a figure shows every set: its name to the `measures` shown of it.
    """

    set: str
    measures: Mapping[str, xr.Dataset]
    phases: Mapping[str, xr.Dataset] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, Mapping[str, xr.Dataset]] = field(default_factory=dict)


def child_names(tree: xr.DataTree, path: str) -> list[str]:
    """Names of the nodes under `path`, sorted, as a folder's order means nothing; or none."""
    try:
        node = tree[path]
    except KeyError:
        return []
    return sorted(map(str, node.children)) if isinstance(node, xr.DataTree) else []


def dataset_at(tree: xr.DataTree, path: str) -> xr.Dataset | None:
    """Return the Dataset at `path`; None if there is none or it is empty."""
    try:
        node = tree[path]
    except KeyError:
        return None
    if not isinstance(node, xr.DataTree):
        return None
    data = node.to_dataset()
    return data if data.data_vars else None


def measure_sets(tree: xr.DataTree, measure: str, convention: str) -> list[str]:
    """Names of the sets for which the tree holds this measure."""
    path = f"measures/{measure}/{convention}"
    return [s for s in child_names(tree, path) if dataset_at(tree, f"{path}/{s}") is not None]


@dataclass(frozen=True)
class MeasuredPart:
    """One measure of one line on one set of inputs.

    Attributes
    ----------
    set : name of the set.
    line : what the page calls the branch.
    where : what a sentence says of the set; nothing where there is one.
    part : the measure at the line's checkpoints.
    """

    set: str
    line: str
    where: str
    part: xr.Dataset


def measured_parts(
    tree: xr.DataTree, measure: str, convention: str, lines: Mapping[str, str]
) -> Iterator[MeasuredPart]:
    """Every set and every line that a measure was made on, computed.

    Parameters
    ----------
    lines : branch to what the page calls it.
    """
    sets = measure_sets(tree, measure, convention)
    for name in sets:
        where = f" (set {name})" if len(sets) > 1 else ""
        data = tree[f"measures/{measure}/{convention}/{name}"].to_dataset().compute()
        for branch, part in by_branch(data):
            yield MeasuredPart(name, lines.get(branch, branch), where, part)


def choose_set(tree: xr.DataTree, needs: Sequence[tuple[str, str]], wanted: str | None) -> str:
    """Return the set on which every needed measure was made, the first if several.

    Of a study, the set that most of its models have.

    Raises
    ------
    MissingMeasure
        Names the measure that is missing and the command that makes it.
    """
    common: list[str] | None = None
    for measure, convention in needs:
        sets = measure_sets(tree, measure, convention)
        found = sets if wanted is None else [s for s in sets if s == wanted]
        common = found if common is None else [s for s in common if s in found]
        if not common:
            where = (
                f" for the set {wanted!r}" if wanted else " together with the others" * bool(sets)
            )
            raise MissingMeasure(
                f"the store holds no {measure}/{convention}{where}: run `phasescope measure STORE`"
            )
    if not common:
        raise MissingMeasure("the figure names no measure: give its row `needs`")
    return max(common, key=lambda name: _models(tree, needs, name))


def _models(tree: xr.DataTree, needs: Sequence[tuple[str, str]], chosen: str) -> int:
    """How many models of a study have every needed measure of a set; of one store, none."""
    found: list[Any] = []
    for measure, convention in needs:
        data = dataset_at(tree, f"measures/{measure}/{convention}/{chosen}")
        if data is not None and is_study(data):
            found.append({*data["model"].values.tolist()})
    return len(set.intersection(*found)) if found else 0


def gather(
    tree: xr.DataTree,
    needs: Sequence[tuple[str, str]],
    *,
    optional: Sequence[tuple[str, str]] = (),
    phases: bool = False,
    wanted: str | None = None,
    every_set: Sequence[str] = (),
    all_sets: bool = False,
) -> Material:
    """Collect the measures (still lazy) and phases of one figure.

    Raises
    ------
    MissingMeasure
        If a needed measure is not in the tree.
    """
    shown = [(measure, convention) for measure, convention in needs if measure in every_set]
    if 0 < len(shown) < len(needs) and wanted is None:
        wanted = _of_most_lengths(sets_with(tree, needs), sets_with(tree, shown))
    chosen = choose_set(tree, needs, wanted)
    found = phases_of(tree, chosen) if phases else {}
    pairs = [*needs, *optional]
    sets = {name: _measures(tree, shown, name) for name in sets_with(tree, shown)}
    if all_sets:
        sets = {name: _measures(tree, pairs, name) for name in sets_with_any(tree, pairs)}
    return Material(chosen, _measures(tree, pairs, chosen), found, _revisions(tree), sets)


def stem(name: str) -> str:
    """Return a set's name without the number at its end."""
    return re.sub(r"[-_]?\d+$", "", name) or name


def _of_most_lengths(candidates: Sequence[str], sets: Sequence[str]) -> str | None:
    """Return the candidate whose text is there at the most lengths, and of those the longest."""

    def rank(name: str) -> tuple[int, int]:
        length = name.removeprefix(stem(name)).strip("-_")
        return sum(stem(other) == stem(name) for other in sets), int(length or 0)

    return max(candidates, key=rank, default=None)


def sets_with(tree: xr.DataTree, needs: Sequence[tuple[str, str]]) -> list[str]:
    """Names of the sets on which every needed measure was made, sorted."""
    each = [measure_sets(tree, measure, convention) for measure, convention in needs]
    return [name for name in each[0] if all(name in found for found in each[1:])] if each else []


def sets_with_any(tree: xr.DataTree, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Names of the sets on which at least one of some measures was made, sorted."""
    return sorted({name for pair in pairs for name in measure_sets(tree, *pair)})


def _measures(
    tree: xr.DataTree, pairs: Sequence[tuple[str, str]], chosen: str
) -> dict[str, xr.Dataset]:
    found = {}
    named: dict[str, str] = {}
    for measure, convention in pairs:
        _, plus, how = convention.partition("+")
        short = f"{measure}{plus}{how}"
        if named.setdefault(short, convention) != convention:
            short = f"{measure}/{convention}"
        data = dataset_at(tree, f"measures/{measure}/{convention}/{chosen}")
        if data is not None:
            found[short] = data
    return found


def _revisions(tree: xr.DataTree) -> dict[str, str]:
    checkpoints = dataset_at(tree, "checkpoints")
    if checkpoints is None or "revision" not in checkpoints:
        return {}
    labels, names = (checkpoints[name].values.astype(str) for name in ("checkpoint", "revision"))
    return {str(label): str(name) for label, name in zip(labels, names, strict=True) if name}


def phases_of(tree: xr.DataTree, chosen: str) -> dict[str, xr.Dataset]:
    """Branch to phases for one set; empty if none were sought."""
    nodes = {
        branch: dataset_at(tree, f"phases/{chosen}/{branch}")
        for branch in child_names(tree, f"phases/{chosen}")
    }
    return {branch: data for branch, data in nodes.items() if data is not None}


def was_fitted(phases: xr.Dataset) -> bool:
    """Whether the search for phases had enough checkpoints to fit anything."""
    return bool(np.isfinite(phases["fitted"].values).any())


def is_study(data: xr.Dataset | xr.DataArray) -> bool:
    """Whether this holds the rows of several models."""
    return "model" in data.coords


def branches(data: xr.Dataset) -> list[str]:
    """Names of the branches, of a study those of every model, in the order they first occur."""
    return list(dict.fromkeys(str(name) for name in line_names(data)))


def by_branch(data: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Each branch with its checkpoints in the order of tokens seen; no model's part is padded."""
    names = line_names(data).astype(str)
    for branch in branches(data):
        part = data.isel(checkpoint=np.flatnonzero(names == branch))
        part = part.isel(checkpoint=np.argsort(part["tokens"].values, kind="stable"))
        yield branch, own_part(part) if is_study(data) else part


def line_names(data: xr.Dataset | xr.DataArray) -> Any:
    """Return the name of the branch, of a study that of the line, at each checkpoint."""
    return data["line" if "line" in data.coords else "branch"].values


def own_part(part: _Array) -> _Array:
    """Leave out the layers, blocks, heads and ranks that only larger models of the study have.

    Parameters
    ----------
    part : rows of one model of a study.
    """
    blocks, heads, width = (int(part[n].values.max()) for n in ("blocks", "heads", "width"))
    kept: dict[str, Any] = {}
    if "layer" in part.dims:
        names = layer_names(part)
        kept["layer"] = (part["layer"].values <= blocks) | (np.array(names) == "final")
        if "other_layer" in part.dims:
            kept["other_layer"] = kept["layer"]
    for dim, last in (("block", blocks), ("head", heads - 1), ("rank", width)):
        if dim in part.dims:
            kept[dim] = part[dim].values <= last
    return part.isel({dim: np.flatnonzero(there) for dim, there in kept.items()})


def head_mean(values: xr.DataArray) -> xr.DataArray:
    """Mean over the heads a model has; NaN if one of them is NaN."""
    if not is_study(values):
        return values.mean("head", skipna=False)
    there = values["head"] < values["heads"]
    return values.where(there, 0.0).sum("head", skipna=False) / values["heads"]


def tokens_unknown(part: xr.Dataset) -> bool:
    """Whether a branch is a released model: one checkpoint, at step 0 and 0 tokens."""
    return bool(part["step"].values.tolist() == [0] and part["tokens"].values[0] == 0)


def require_series(data: xr.Dataset) -> None:
    """Refuse a measure that no branch has at two checkpoints, one of them with tokens seen.

    Raises
    ------
    TooFewCheckpoints
        Says what there is instead.
    """
    parts = [part["tokens"].values for _, part in by_branch(data)]
    if any(tokens.size > 1 and (tokens > 0).any() for tokens in parts):
        return
    lines = f"{len(parts)} {'lines' if is_study(data) else 'branches'}"
    count = sum(tokens.size for tokens in parts)
    if count == 1:
        there = "there is 1"
    elif any(tokens.size > 1 for tokens in parts):
        there = f"the tokens of all {count} are 0"
    else:
        there = f"there is 1 in each of {lines}"
    raise TooFewCheckpoints(
        f"a figure over training needs two or more checkpoints with their tokens; {there}"
    )


def with_course(data: _Array) -> tuple[_Array, list[str]]:
    """Leave out the lines without two checkpoints that saw tokens, unless all are such; name them.

    Parameters
    ----------
    data : a measure (checkpoint, …) with `tokens` and the names of its lines.
    """
    names = line_names(data).astype(str)
    seen = data["tokens"].values > 0
    lines = dict.fromkeys(names.tolist())
    short = [line for line in lines if int((seen & (names == line)).sum()) < 2]
    if not is_study(data) or len(short) == len(lines):
        return data, []
    return data.isel(checkpoint=np.flatnonzero(~np.isin(names, short))), short


def checkpoint_names(data: xr.Dataset, revisions: Mapping[str, str]) -> list[str]:
    """Name the checkpoints of one branch: by step, or as its series does where that says nothing.

    A released model is one checkpoint at step 0 and 0 tokens, which are then unknown.
    """
    steps = data["step"].values.astype(int)
    if tokens_unknown(data):
        return [revisions.get(str(data["checkpoint"].values[0])) or "step 0"]
    return [f"step {step}" for step in steps]


def has_numbers(values: xr.DataArray) -> bool:
    """Whether any value is finite."""
    return bool(np.isfinite(values.values).any())


def at_layer(data: xr.Dataset, layer: str | int) -> xr.Dataset:
    """Return the values of one layer, by its number or its name ("final", "embedding", "3").

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    if "layer" not in data.dims:
        return data
    numbers = [int(number) for number in data["layer"].values]
    names = layer_names(data)
    if isinstance(layer, str) and layer in names:
        return data.isel(layer=names.index(layer))
    if not isinstance(layer, str) and layer in numbers:
        return data.isel(layer=numbers.index(layer))
    raise ValueError(f"layer is {layer!r}; give one of {', '.join(names)}")


def layer_names(data: xr.Dataset | xr.DataArray) -> list[str]:
    """Names of the layers; their numbers where the tree gives no names."""
    source = data["layer_name"] if "layer_name" in data.coords else data["layer"]
    return [str(name) for name in source.values]


def merge_tables(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join tables whose checkpoints may differ: a number that was not measured is NaN.

    Rows keep their branch's order of tokens; `step` and `tokens` stay whole numbers.
    """
    table = xr.merge(parts, join="outer", compat="no_conflicts", combine_attrs="drop_conflicts")
    for name in ("step", "tokens"):
        table[name] = table[name].astype(np.int64)
    known = list(dict.fromkeys(name for part in parts for name in branches(part)))
    rank = [known.index(str(name)) for name in line_names(table)]
    return table.isel(checkpoint=np.lexsort((table["tokens"].values, np.array(rank))))
