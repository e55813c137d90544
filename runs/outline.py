"""What a run over a published series would take, before its weights are on this disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runs.architectures import ModelShape
from runs.checkpoints import Series
from runs.errors import InputError
from runs.hub.cache import here, located
from runs.hub.client import Notice, is_offline
from runs.hub.listing import commit_at, files_at, needed
from runs.hub.texts import about, parquet_files
from runs.inputs import FOLDS, InputSet
from runs.integrity import weight_files
from runs.loading import read_shape
from runs.memory import sample_bytes
from runs.plan import layout_bytes, layouts_of
from runs.points import choose_points
from runs.products.base import Spec
from runs.published import Published, published
from runs.recipe import Recipe
from runs.remembered import Remembered
from runs.sets import kept_commit, texts_folder, texts_of
from runs.starting import Pinned


@dataclass(frozen=True)
class Outline:
    """Counts and bytes of a run over a published series.

    Attributes
    ----------
    series : Series
    shape : ModelShape
    sizes_from : str
        Where the model's sizes are from: its configuration, or a published table.
    fetched, captured : int
        Checkpoints whose weights are on this disk, and those that the store has already.
    download : int
        Bytes of the weights that are still to come.
    checkpoint_bytes : int
        Of one checkpoint's weight files.
    disk : int
        Bytes of weights on the disk at a time, as `keep`, `prefetch` and `disk_budget` say.
    store : dict of str to int
        Bytes of one checkpoint's arrays by `SET/PRODUCT`.
    memory : dict of str to int
        Bytes of one process: weights, activations of one sample, moments.
    texts : dict of str to str
        By set: the hub's data set that its text is read from, and how many files it has.
    """

    series: Series
    shape: ModelShape
    sizes_from: str
    fetched: int
    captured: int
    download: int
    checkpoint_bytes: int
    disk: int
    store: dict[str, int]
    memory: dict[str, int]
    texts: dict[str, str]


def outline(
    recipe: Recipe, pinned: Pinned, known: Remembered, notice: Notice = lambda _: None
) -> Outline:
    """Estimate a run without reading a weight.

    Parameters
    ----------
    recipe
        From `load_recipe`.
    pinned
        Its series; what is asked of the hub is added to it.
    known
        What the store remembers.
    notice
        Told of waits for the hub.

    Raises
    ------
    InputError
        If the model's sizes cannot be known, or a set has no `limit` to count with.
    """
    series = pinned.series
    repository = series.checkpoints[-1].repository
    model = published(repository)
    place = next((p for c in reversed(series.checkpoints) if (p := located(c))), None)
    if place is not None:
        shape = read_shape(place)
    elif known.shape is not None:
        shape = known.shape
    elif model is not None:
        shape = model.shape
    else:
        raise _unknown(repository)
    specs = {name: _spec(name, recipe, shape) for name in recipe.inputs}
    cells = list(layouts_of(specs))
    captured = {c.label for c in series.checkpoints if known.settled(c.label, cells)}
    fetched = {c.label for c in series.checkpoints if here(c) is not None}
    missing = len(series) - len(captured | fetched)
    size = _checkpoint_bytes(pinned, model, bool(missing), notice)
    # Where no table tells how many parameters, as much as the files.
    weights = size
    if model is not None and model.shape == shape:
        weights = model.parameters * _each(recipe)
    table = recipe.series
    held = missing if table.keep == "all" else min(missing, 1 + table.prefetch)
    disk = held * size
    if table.disk_budget is not None:
        disk = int(min(disk, table.disk_budget * 1e9))
    return Outline(
        series,
        shape,
        _origin(place is not None, known.shape is not None),
        len(fetched),
        len(captured),
        missing * size,
        size,
        disk,
        layout_bytes(layouts_of(specs)),
        _memory(recipe, shape, weights),
        _texts(recipe, pinned, known, notice),
    )


def _origin(configured: bool, known: bool) -> str:
    if configured:
        return "from its config.json"
    return "as its store has it" if known else "published sizes"


def _unknown(repository: str) -> InputError:
    return InputError(
        f"{repository}: the hub cannot be reached (HF_HUB_OFFLINE is set), and no table has its "
        "sizes; unset it, or run `phasescope fetch RECIPE` where there is a network"
    )


def _checkpoint_bytes(
    pinned: Pinned, model: Published | None, missing: bool, notice: Notice
) -> int:
    """Of one checkpoint: as the hub lists the last one, a table has it, or one that is here; else 0."""
    if pinned.checkpoint_bytes:
        return pinned.checkpoint_bytes
    if model is not None:
        return model.bytes
    last = pinned.series.checkpoints[-1]
    places = (place for c in reversed(pinned.series.checkpoints) if (place := here(c)))
    if (place := next(places, None)) is not None:
        return sum(file.stat().st_size for file in weight_files(place))
    if not missing:
        return 0
    if is_offline():
        raise _unknown(last.repository)
    commit = last.commit or commit_at(last.repository, last.revision, notice=notice)
    pinned.asked.append(f"the sizes of {last.repository} at {last.revision}")
    files = needed(files_at(last.repository, commit, notice=notice))
    return sum(file.size for file in files if file.is_weights)


def _texts(recipe: Recipe, pinned: Pinned, known: Remembered, notice: Notice) -> dict[str, str]:
    """What the sets are read from on a hub; asked, unless it is known or may not be asked."""
    found = {}
    for name, table in recipe.inputs.items():
        if table.dataset is None:
            continue
        found[name] = f"{table.dataset}, {table.config or 'default'}, {table.split}"
        if is_offline() or kept_commit(known, name, table):
            continue
        with about(f"inputs.{name}"):
            source = texts_of(table, texts_folder(recipe), notice=notice)
            files = parquet_files(source, notice)
        pinned.asked.append(f"the files of {source}")
        found[name] += f" ({len(files)} Parquet files at {source.commit[:12]})"
    return found


def _each(recipe: Recipe) -> int:
    """Bytes of a number in the forward pass."""
    return 4 if recipe.capture.dtype == "float32" else 2


def _spec(name: str, recipe: Recipe, shape: ModelShape) -> Spec:
    table = recipe.inputs[name]
    if table.limit is None:
        raise InputError(
            f"{recipe.source}: key `inputs.{name}.limit`: needed to plan before the tokenizer is there"
        )
    count = table.limit
    inputs = InputSet(
        name,
        np.broadcast_to(np.int32(0), (count, table.length)),
        np.full(count, table.length, np.int32),
        (np.arange(count) % FOLDS + 1).astype(np.uint8),
        np.arange(count, dtype=np.int32),
        digest="0" * 64,
        answer=None if table.answer is None else np.ones(count, np.int32),
        repetition=table.repetition,
    )
    points = choose_points(inputs, extra_positions=recipe.capture.hidden.extra_positions)
    return Spec(inputs, points, shape, recipe.capture_of(name), shape.vocabulary)


def _memory(recipe: Recipe, shape: ModelShape, weights: int) -> dict[str, int]:
    longest = max(table.length for table in recipe.inputs.values())
    found = {"weights": weights, "one sample": sample_bytes(longest, shape.width)}
    if any("moments" in recipe.capture_of(name).products for name in recipe.inputs):
        # Running fold and total, in float64, a layer and pool.
        pools = len(recipe.capture.moments.pools)
        found["moments"] = 2 * pools * shape.layers * shape.width**2 * 8
    return found
