"""What a run over a published series would take, before anything of it is on this disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runs.architectures import ModelShape
from runs.checkpoints import Series
from runs.errors import InputError
from runs.fetching import here
from runs.inputs import FOLDS, InputSet
from runs.memory import sample_bytes
from runs.plan import layout_bytes, layouts_of
from runs.points import choose_points
from runs.products.base import Spec
from runs.published import Published, published
from runs.recipe import Recipe


@dataclass(frozen=True)
class Outline:
    """Counts and bytes of a run, from published sizes.

    Attributes
    ----------
    series : Series
    shape : ModelShape
    fetched : int
        Checkpoints that are on this disk already.
    download : int
        Bytes of the weights that are still to come.
    checkpoint_bytes : int
        Of one checkpoint's weight files.
    disk : int
        Bytes of weights on the disk at a time, as `keep` and `prefetch` say.
    store : dict of str to int
        Bytes of one checkpoint's arrays by `SET/PRODUCT`.
    memory : dict of str to int
        Bytes of one process: weights, activations of one sample, moments.
    """

    series: Series
    shape: ModelShape
    fetched: int
    download: int
    checkpoint_bytes: int
    disk: int
    store: dict[str, int]
    memory: dict[str, int]


def outline(recipe: Recipe, series: Series) -> Outline:
    """Estimate a run without opening a file of the series.

    Raises
    ------
    InputError
        If the model's sizes are not known, or a set has no `limit` to count with.
    """
    repository = series.checkpoints[0].repository
    model = published(repository)
    if model is None:
        raise InputError(
            f"{repository}: its sizes are not published in a table; run `phasescope fetch RECIPE` "
            "first, then plan from its files"
        )
    specs = {name: _spec(name, recipe, model.shape) for name in recipe.inputs}
    fetched = sum(here(c) is not None for c in series.checkpoints)
    missing = len(series) - fetched
    store = layout_bytes(layouts_of(specs))
    table = recipe.series
    held = len(series) if table.keep == "all" else min(len(series), 1 + table.prefetch)
    disk = held * model.bytes
    if table.disk_budget is not None:
        disk = int(min(disk, table.disk_budget * 1e9))
    return Outline(
        series,
        model.shape,
        fetched,
        missing * model.bytes,
        model.bytes,
        disk,
        store,
        _memory(recipe, model),
    )


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


def _memory(recipe: Recipe, model: Published) -> dict[str, int]:
    capture, shape = recipe.capture, model.shape
    each = 4 if capture.dtype == "float32" else 2
    longest = max(table.length for table in recipe.inputs.values())
    found = {
        "weights": model.parameters * each,
        "one sample": sample_bytes(longest, shape.width),
    }
    if any("moments" in recipe.capture_of(name).products for name in recipe.inputs):
        # Running fold and total, in float64, a layer and pool.
        pools = len(capture.moments.pools)
        found["moments"] = 2 * pools * shape.layers * shape.width**2 * 8
    return found
