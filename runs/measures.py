"""Measures: from a store to labelled numbers, lazily, and kept by lineage."""

from __future__ import annotations

import difflib
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from runs.catalogue import LEVEL, MEASURES, Pair, Read, Row
from runs.damage import named_errors
from runs.errors import InputError
from runs.joining import describe, join
from runs.nodes import seal
from runs.processor import several
from runs.rows.base import PARTNERS
from runs.writing import DONE, StoreWriter, digest

_COORDINATES = ("step", "tokens", "branch", "layer_name")


def find_row(name: str, convention: str | None = None) -> Row:
    """The catalogue row of a measure; the first convention unless one is named.

    Raises
    ------
    InputError
        If there is none; the line names the nearest.
    """
    names = list(dict.fromkeys(n for n, _ in MEASURES))
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(names)}"
        raise InputError(f"no measure `{name}`; {hint}")
    conventions = [c for n, c in MEASURES if n == name]
    if convention is None:
        convention = conventions[0]
    if convention not in conventions:
        raise InputError(
            f"measure `{name}` has no convention `{convention}`; it has {', '.join(conventions)}"
        )
    return MEASURES[name, convention]


def extrapolated(row: Row, how: str) -> Row:
    """The row that extrapolates another one's value to infinitely many samples.

    Raises
    ------
    InputError
        If there is none; the line names those there are.
    """
    if (row.name, f"{row.convention}+{how}") in MEASURES:
        return MEASURES[row.name, f"{row.convention}+{how}"]
    there = [f"{n}/{c}".split("+") for n, c in MEASURES if "+" in c]
    if how not in {word for _, word in there}:
        ways = ", ".join(f'"{word}"' for word in dict.fromkeys(word for _, word in there))
        raise InputError(f'extrapolate = "{how}" is unknown; give {ways}')
    known = ", ".join(known for known, word in there if word == how)
    raise InputError(f"`{row.name}/{row.convention}` is not extrapolated by {how}; {known} is")


def models_of(tree: xr.DataTree) -> dict[str, xr.DataTree]:
    """The models of a study, by name; none if the tree is of one store."""
    if "models" not in tree.children:
        return {}
    return {name: tree.children["models"].children[name] for name in tree.attrs["models"]}


def sets_for(tree: xr.DataTree, row: Row) -> list[str]:
    """Sets of a store that have everything a row reads; of a study, those of most models first."""
    models = models_of(tree)
    if models:
        found = Counter(name for model in models.values() for name in sets_for(model, row))
        return [name for name, _ in found.most_common()]
    if "sets" not in tree.children:
        return []
    return [
        name
        for name, node in tree["sets"].children.items()
        if all(_has(node, read) for read in row.reads)
    ]


def measure(
    tree: xr.DataTree,
    name: str,
    *,
    convention: str | None = None,
    set: str | None = None,
    persist: bool = False,
    extrapolate: str | None = None,
) -> xr.DataArray:
    """One measure over a whole series.

    Parameters
    ----------
    tree
        From `open_store` or `open_study`.
    name, convention
        A row of the catalogue (`phasescope list measures`); by default its first convention.
    set
        Which set of inputs; by default the first that has what the measure reads; in a study, the one
        of most models.
    persist
        Compute now and keep the result in the store's `/measures`; in a study, in each model's store.
    extrapolate
        `half_sample`: the value at infinitely many samples instead, 2 ln R(N) − mean ln R(N/2), for the
        rows that `phasescope list measures` shows with it. It is a convention of its own, kept beside the
        raw one; the coordinate `trusted` says where nothing speaks against it, others what does.

    Returns
    -------
    xarray.DataArray
        The value over (checkpoint, …) with `standard_error`, `lower` and `upper` as coordinates where the
        measure has an interval; its attributes name convention, unit, source and interval. Lazy, unless
        it was kept by an earlier run and nothing it depends on has changed. Of a study, the models'
        values below one another along `checkpoint`, as `runs.joining.join` says.

    Raises
    ------
    InputError
        If the measure, convention or set is unknown, the product it reads was not captured, or the
        measure is not extrapolated that way.
    """
    row = find_row(name, convention)
    if extrapolate is not None:
        row = extrapolated(row, extrapolate)
    chosen = _choose_set(tree, row, set)
    if persist:
        for store in models_of(tree).values() or [tree]:
            if chosen in sets_for(store, row):
                keep(Path(store.attrs["path"]), row, measure_dataset(store, row, chosen))
    result = measure_dataset(tree, row, chosen)
    if "trusted" in result:
        result = result.assign(trusted=result["trusted"] == 1.0)
    others = [n for n in result.data_vars if n != "value"]
    return result.set_coords(others)["value"].rename(name).assign_attrs(result.attrs)


def measure_dataset(tree: xr.DataTree, row: Row, name: str) -> xr.Dataset:
    """A row's outputs for one set: from the store if they are current, else lazy; joined in a study."""
    models = models_of(tree)
    if models:
        parts = {
            model: measure_dataset(own, row, name)
            for model, own in models.items()
            if name in sets_for(own, row)
        }
        if any("checkpoint" not in part.dims for part in parts.values()):
            raise InputError(
                f"measure `{row.name}` is of the inputs and not of a checkpoint: ask each store for it"
            )
        return join([describe(model, own) for model, own in models.items()], parts)
    lineage = lineage_of(tree, row, name)
    path = f"measures/{row.name}/{row.convention}/{name}"
    if _at(tree, path) and tree[path].attrs.get("lineage") == lineage:
        kept = tree[path].to_dataset().drop_attrs(deep=False).assign_attrs(tree[path].attrs)
        return kept.assign_attrs(_processors(tree, row, name))
    found = _apply_pair(tree, row, name) if isinstance(row, Pair) else _apply(tree, row, name)
    inputs = tree[f"sets/{name}/inputs"].to_dataset()
    length = inputs["length"].values
    if (length == length[0]).all():
        found = found.assign_attrs(length=int(length[0]))
    return found.assign_attrs(
        measure=row.name,
        convention=row.convention,
        unit=row.unit,
        source=row.source,
        set=name,
        level=LEVEL,
        interval=row.interval,
        inputs=_described(tree, row, name, str(inputs.attrs.get("description", ""))),
        lineage=lineage,
        **_processors(tree, row, name),
    )


def _processors(tree: xr.DataTree, row: Row, name: str) -> dict[str, str]:
    """What to say if the cells that a row reads were not all captured alike."""
    checkpoints = tree["checkpoints"].to_dataset()
    read = {f"{name}/{part.variable.split('/')[0]}" for part in row.reads}
    if "processor" not in checkpoints:
        return {}
    mine = checkpoints.isel(product=np.isin(checkpoints["product"].values, sorted(read)))
    told = several(mine["processor"].values[mine["status"].values == DONE])
    return {"processors": told} if told else {}


def lineage_of(tree: xr.DataTree, row: Row, name: str) -> str:
    """Digest of everything a result depends on: row, version and every captured cell it reads."""
    checkpoints = tree["checkpoints"].to_dataset()
    products = sorted({f"{name}/{read.variable.split('/')[0]}" for read in row.reads})
    cells = []
    for product in products:
        if product in checkpoints["product"].values:
            column = checkpoints.sel(product=product)
            done = column["status"].values == DONE
            cells += [product, *column["checkpoint"].values[done], *column["attempt"].values[done]]
    return digest([row.name, row.convention, row.version, name, [str(c) for c in cells]])


def is_current(tree: xr.DataTree, row: Row, name: str) -> bool:
    """Whether the store already keeps a row's result for the cells it has now."""
    path = f"measures/{row.name}/{row.convention}/{name}"
    return _at(tree, path) and tree[path].attrs.get("lineage") == lineage_of(tree, row, name)


def keep(path: Path, row: Row, result: xr.Dataset) -> xr.Dataset:
    """Compute a result and write it into the store's `/measures`; returns it in memory."""
    # One BLAS thread each: Dask's threads already fill the cores.
    with threadpool_limits(1), dask.config.set(scheduler="threads"):
        loaded = result.compute()
    write_node(path, f"measures/{row.name}/{row.convention}/{loaded.attrs['set']}", loaded)
    return loaded


def write_node(path: Path, node: str, dataset: xr.Dataset) -> None:
    """Write a small dataset as one group; its attribute `complete` comes last."""
    plain = dataset.drop_attrs(deep=False)
    for name in plain.variables:
        if plain[name].dtype.kind == "U":
            plain[name] = plain[name].astype(object)
    plain = plain.drop_encoding()
    for name in plain.variables:
        if plain[name].dtype.kind == "f":
            plain[name].encoding["fill_value"] = np.nan  # a chunk that is lost is no number
    with named_errors(path), StoreWriter(path).claim("store").wait():
        shutil.rmtree(path / node, ignore_errors=True)  # it may be damaged beyond overwriting
        plain.to_zarr(path, group=node, mode="w", zarr_format=3, consolidated=False)
        seal(path, node, **dataset.attrs, complete=True)


def _apply(tree: xr.DataTree, row: Row, name: str) -> xr.Dataset:
    arrays = [_variable(tree, name, read) for read in row.reads]
    return _ufunc(row, arrays, [read.core for read in row.reads])


def _apply_pair(tree: xr.DataTree, row: Pair, name: str) -> xr.Dataset:
    mine = [_variable(tree, name, read) for read in row.reads]
    cores = [read.core for read in row.reads] * 2
    branches = mine[0]["branch"].values
    rows = [np.flatnonzero(branches == branch) for branch in dict.fromkeys(branches)]
    if row.others in PARTNERS:
        partner = np.empty(branches.size, dtype=np.intp)
        for own in rows:
            partner[own] = PARTNERS[row.others](own)
        return _with_partners(row, mine, cores, partner)
    parts = []
    for own in rows:
        ones = [_of(a, own) for a in mine]
        others = [a.drop_vars(["step", "tokens", "branch"], errors="ignore") for a in ones]
        others = [a.rename(checkpoint="other") if "checkpoint" in a.dims else a for a in others]
        parts.append(_ufunc(row, [*ones, *others], cores))
    return xr.concat(parts, "checkpoint", join="outer", coords="minimal", compat="override")


def _with_partners(
    row: Pair, mine: list[xr.DataArray], cores: list[tuple[str, ...]], partner: Any
) -> xr.Dataset:
    """Each checkpoint against one other; `other` names it, and is empty where there is none."""
    labels = mine[0]["checkpoint"].values
    there = xr.DataArray(partner >= 0, dims="checkpoint")
    # Without a partner a checkpoint stands beside itself, and what comes of it is thrown away.
    rows = np.where(there, partner, np.arange(labels.size))
    others = [
        _of(a, rows).assign_coords(checkpoint=labels) if "checkpoint" in a.dims else a for a in mine
    ]
    found = _ufunc(row, [*mine, *others], cores)
    names = np.where(there, labels[rows], "")
    return found.where(there).assign_coords(other=("checkpoint", names))


def _of(array: xr.DataArray, rows: Any) -> xr.DataArray:
    return array.isel(checkpoint=rows) if "checkpoint" in array.dims else array


def _ufunc(row: Row, arrays: list[xr.DataArray], cores: Iterable[tuple[str, ...]]) -> xr.Dataset:
    sizes = {d: s for array in arrays for d, s in array.sizes.items()}
    if row.core == ("rank",):
        sizes["rank"] = sizes["feature"]
    labels: dict[str, Any] = {dim: list(names) for dim, names in row.labels.items()}
    for dim, variable in row.levels.items():
        which = [read.variable for read in row.reads].index(variable)
        labels[dim] = np.unique(arrays[which].values)
    sizes |= {dim: len(names) for dim, names in labels.items()}
    # Of every two layers: the second dimension is the first again.
    again = {d: d.removeprefix("other_") for d in row.core if d.startswith("other_")}
    sizes |= {dim: sizes[of] for dim, of in again.items()}
    count = len(row.outputs)
    found = xr.apply_ufunc(
        row.function,
        *arrays,
        input_core_dims=[list(core) for core in cores],
        output_core_dims=[list(row.core)] * count,
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64] * count,
        dask_gufunc_kwargs={
            "output_sizes": {d: sizes[d] for d in row.core},
            "allow_rechunk": True,
        },
        keep_attrs="drop",
    )
    outputs = (found,) if count == 1 else found
    result = xr.Dataset(dict(zip(row.outputs, outputs, strict=True)))
    for name in _COORDINATES:
        for array in arrays:
            if name in array.coords and set(array[name].dims) <= set(result.dims):
                result = result.assign_coords({name: array[name].variable})
                break
    if "rank" in row.core:
        result = result.assign_coords(rank=np.arange(1, sizes["rank"] + 1))
    result = result.assign_coords(labels)
    result = result.assign_coords({dim: result[of].values for dim, of in again.items()})
    wanted = {*_COORDINATES, *result.dims, "other"}
    return result.drop_vars([c for c in result.coords if c not in wanted])


def _variable(tree: xr.DataTree, name: str, read: Read) -> xr.DataArray:
    node, variable = read.variable.split("/")
    array = tree[f"sets/{name}/{node}"].to_dataset()[variable]
    if array.dtype.kind in "OT":  # Dask must know how large a text is
        array = array.copy(data=np.array(array.values.tolist(), dtype=str).reshape(array.shape))
    return array.sel(dict(read.select)) if read.select else array


def _has(node: xr.DataTree, read: Read) -> bool:
    product, name = read.variable.split("/")
    if product not in node.children or name not in node[product].to_dataset().variables:
        return False
    coordinates = node[product].to_dataset().coords
    return all(value in coordinates[dim].values for dim, value in read.select.items())


def _at(tree: xr.DataTree, path: str) -> bool:
    node = tree
    for part in path.split("/"):
        if part not in node.children:
            return False
        node = node.children[part]
    return True


def _choose_set(tree: xr.DataTree, row: Row, name: str | None) -> str:
    possible = sets_for(tree, row)
    if name is None and possible:
        return possible[0]
    if name in possible:
        return str(name)
    products = sorted({read.variable.split("/")[0] for read in row.reads} - {"points", "inputs"})
    mend = "add it to `capture.products` or `capture.visits`"
    if "infinigram" in products:
        mend = "add a table [memorisation] to the recipe"
    there = f"set `{name}`" if name else "any set"
    labels = _missing_labels(tree, row, name)
    if labels:
        products = labels
        mend = 'give the set such labels, as `mode = "words"` has them,'
    raise InputError(
        f"measure `{row.name}` reads {', '.join(products)}, which {there} of this store does not have; "
        f"{mend} and run again"
    )


def _missing_labels(tree: xr.DataTree, row: Row, name: str | None) -> list[str]:
    """Labels of samples a row reads that are all that the set, or every set, is without."""
    if "sets" not in tree.children:
        return []
    found: list[str] = []
    for chosen, node in tree["sets"].children.items():
        absent = [read.variable.split("/") for read in row.reads if not _has(node, read)]
        if name in (None, chosen) and absent and all(part == "points" for part, _ in absent):
            found = [label for _, label in absent]
    return found


def _described(tree: xr.DataTree, row: Row, name: str, inputs: str) -> str:
    if row.reads[0].variable != "hidden/hidden":
        return inputs
    hidden = tree[f"sets/{name}/hidden"].to_dataset()
    points = tree[f"sets/{name}/points"].to_dataset()
    samples = int(points["last"].values.sum())
    return f"{inputs}; last tokens, N/d = {samples / hidden.sizes['feature']:.1f}"
