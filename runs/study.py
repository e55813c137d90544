"""A study: several stores opened together, their measures below one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from runs.errors import InputError
from runs.joining import Member, describe, join
from runs.opening import open_store

_SAME = 1.02  # N/d that differ by less are the same for RankMe
_HOW = "give names, one a store: open_study(paths, names=[…]), or --name NAME for each"


def open_study(paths: Iterable[str | Path], *, names: Sequence[str] | None = None) -> xr.DataTree:
    """Open several stores together.

    Parameters
    ----------
    paths
        Two or more stores that have a set of inputs of the same name.
    names
        What the models are called, in the order of the stores; by default as their recipes call them.

    Returns
    -------
    xarray.DataTree
        `/models/NAME` is each store's own tree, lazy. `/measures/NAME/CONVENTION/SET` holds what the
        stores keep, joined along `checkpoint` with the coordinates `model`, `line` and `depth`
        (`runs.joining.join` says how); `/phases/SET/LINE` the phases; `/checkpoints` step, tokens,
        branch and revision of all. `warnings` says what cannot be compared.

    Raises
    ------
    InputError
        If a store cannot be opened, two models have one name, or no two stores have a set in common.
    """
    places = [Path(path) for path in paths]
    if len(places) < 2:
        raise InputError(
            f"a study is two stores or more, {len(places)} given; open_store opens one"
        )
    opened = [open_store(place) for place in places]
    called = _names(places, opened) if names is None else list(names)
    if len(called) != len(places):
        raise InputError(f"{len(called)} names for {len(places)} stores; {_HOW}")
    _check_names(called, places)
    trees = dict(zip(called, opened, strict=True))
    _check_sets(trees)
    return assemble(trees)


def assemble(trees: Mapping[str, xr.DataTree]) -> xr.DataTree:
    """A study of trees that are open already, also of those of `capture`; as `open_study`.

    Parameters
    ----------
    trees
        What each model is called, and its tree.

    Raises
    ------
    InputError
        If two lines of the study would have one name.
    """
    members = [describe(name, tree) for name, tree in trees.items()]
    lines = Counter(member.line(branch) for member in members for branch in member.branches)
    twice = [line for line, count in lines.items() if count > 1]
    if twice:
        raise InputError(f"two lines of the study are called `{twice[0]}`; {_HOW}")
    return _joined(trees, members)


def _names(places: Sequence[Path], trees: Sequence[xr.DataTree]) -> list[str]:
    own = [str(tree.attrs.get("name", "")).strip().replace("/", "-") for tree in trees]
    return [name or place.stem for name, place in zip(own, places, strict=True)]


def _check_names(names: Sequence[str], places: Sequence[Path]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            same = [str(p) for n, p in zip(names, places, strict=True) if n == name]
            raise InputError(f"{' and '.join(same)} are both called `{name}`; {_HOW}")
        if not name.strip() or "/" in name:
            raise InputError(f"a model cannot be called `{name}`: it needs a name without a slash")


def _check_sets(trees: Mapping[str, xr.DataTree]) -> None:
    """Refuse models of which no two read a set of the same name: nothing could be compared."""
    sets = {name: _sets(tree) for name, tree in trees.items()}
    if max(Counter(s for found in sets.values() for s in found).values(), default=0) < 2:
        told = "; ".join(f"{name} has {', '.join(found) or 'none'}" for name, found in sets.items())
        raise InputError(
            f"no two stores have a set of inputs of the same name ({told}); call the sets alike in "
            "their recipes"
        )


def _sets(tree: xr.DataTree) -> list[str]:
    return list(tree.children["sets"].children) if "sets" in tree.children else []


def _joined(trees: Mapping[str, xr.DataTree], members: Sequence[Member]) -> xr.DataTree:
    nodes: dict[str, xr.Dataset] = {}
    kept: dict[str, dict[str, xr.Dataset]] = {}
    described = {}
    for member in members:
        for path, data in trees[member.name].to_dict(relative=True).items():
            nodes[f"/models/{member.name}/{path}".removesuffix("/.")] = data
            if path.startswith("measures/") and "checkpoint" in data.dims:
                kept.setdefault(path, {})[member.name] = data
            elif path.startswith("phases/") and data.data_vars:
                _, name, branch = path.split("/")
                nodes[f"/phases/{name}/{member.line(branch)}"] = data
            elif path == "checkpoints":
                described[member.name] = _described(data)
    nodes |= {f"/{path}": join(members, found) for path, found in kept.items()}
    nodes["/checkpoints"] = join(members, described).drop_attrs()
    names = [member.name for member in members]
    together = ", ".join(names)
    attrs = {
        "name": together if len(together) < 70 else f"{len(names)} models",
        "models": names,
        "warnings": [*_own(trees), *_between(trees), *_not_kept(names, kept)],
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **nodes})


def _described(checkpoints: xr.Dataset) -> xr.Dataset:
    """What names a model's checkpoints, without what is known of each product."""
    found = checkpoints.set_coords(["step", "tokens", "branch"])
    if "revision" not in found:
        nothing = np.full(found.sizes["checkpoint"], "")
        found = found.assign(revision=("checkpoint", nothing))
    return found[["revision"]].drop_vars("row", errors="ignore")


def _own(trees: Mapping[str, xr.DataTree]) -> list[str]:
    return [
        f"{name}: {line}" for name, tree in trees.items() for line in tree.attrs.get("warnings", [])
    ]


def _between(trees: Mapping[str, xr.DataTree]) -> list[str]:
    """What makes levels of the models incomparable."""
    identity = {name: dict(tree.attrs.get("identity", {})) for name, tree in trees.items()}
    found = []
    for key, consequence in (
        ("tokenizer", "tokens, and so losses and entropies a token, are not of one kind"),
        ("dtype", "small differences may be rounding"),
    ):
        if len({parts.get(key) for parts in identity.values()}) > 1:
            shown = [f"{parts.get(key, 'not stated')} ({name})" for name, parts in identity.items()]
            told = f": {', '.join(shown)}" if key == "dtype" else ""
            found.append(f"the models have different {key}s{told}; {consequence}")
    for name in dict.fromkeys(s for tree in trees.values() for s in _sets(tree)):
        there = {model: tree for model, tree in trees.items() if name in _sets(tree)}
        absent = [model for model in trees if model not in there]
        if absent:
            found.append(f"set {name} is not in {', '.join(absent)}")
        if len({identity[model].get(f"inputs {name}") for model in there}) > 1:
            found.append(
                f"set {name}: the models read different inputs; compare shapes, not levels"
            )
        ratios = {m: r for m, tree in there.items() if (r := _ratio(tree, name)) is not None}
        if ratios and max(ratios.values()) > _SAME * min(ratios.values()):
            shown = [f"{ratio:.3g} ({model})" for model, ratio in ratios.items()]
            found.append(
                f"set {name}: N/d is {', '.join(shown)}, so levels of RankMe are not comparable between "
                "these models; its shape over training and depth is"
            )
    return found


def _ratio(tree: xr.DataTree, name: str) -> float | None:
    """Samples a feature of one set."""
    node = tree.children["sets"].children[name]
    if "hidden" not in node.children:
        return None
    samples = int(node.children["points"].to_dataset()["last"].values.sum())
    return samples / int(node.children["hidden"].sizes["feature"])


def _not_kept(names: Sequence[str], kept: Mapping[str, Mapping[str, xr.Dataset]]) -> list[str]:
    """Measures that some of the models have and others have not computed."""
    found = []
    for name in names:
        absent = [path.split("/", 1)[1] for path, parts in kept.items() if name not in parts]
        if absent:
            shown = ", ".join(absent[:4]) + (", …" if len(absent) > 4 else "")
            found.append(
                f"{name} keeps {len(absent)} of {len(kept)} measures not ({shown}): run "
                "`phasescope measure` on its store"
            )
    return found
