"""The plan: everything a run needs to know before it loads a weight."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from runs.architectures import ModelShape
from runs.backends import check_supported
from runs.errors import InputError, concerning
from runs.families import NOTHING, Known
from runs.hub.cache import located
from runs.hub.client import Notice
from runs.inputs import (
    InputSet,
    load_tokenizer,
    tokenizer_digest,
)
from runs.loading import quiet_transformers, read_shape
from runs.ngrams.source import NgramSource, ngram_source
from runs.packages import require_extra
from runs.points import choose_points
from runs.products import PRODUCTS
from runs.products.base import ArraySpec, Spec
from runs.recipe import Recipe, SeriesTable
from runs.remembered import Remembered, remembered
from runs.series import Series, gguf, hub, local, olmo, olmo2, olmo3, pythia, stages
from runs.sets import check_vocabulary, make_set, stored_set
from runs.starting import Pinned, pin, start
from runs.trained import trained
from runs.visits import VISITS
from runs.writing import SCHEMA


@dataclass(frozen=True)
class Plan:
    """A checked recipe with its series, sets and layouts.

    Attributes
    ----------
    recipe : Recipe
    series : Series
    shape : ModelShape
    specs : dict of str to Spec
        By set.
    identity : dict of str to str
        What must agree with a store for its cells to be of one kind.
    whole : Series
        All checkpoints that belong together, where `series` is a shard of them.
    ngrams : NgramSource or None
        The text the model was trained on, if the recipe names it.
    pinned : Pinned
        What the hub was asked of the series, and which of its branches have moved.
    """

    recipe: Recipe
    series: Series
    shape: ModelShape
    specs: dict[str, Spec]
    identity: dict[str, str]
    whole: Series
    pinned: Pinned
    ngrams: NgramSource | None = None

    @cached_property
    def layouts(self) -> dict[str, dict[str, ArraySpec]]:
        """Array specs by `SET/PRODUCT`, visits included, in capture order."""
        return layouts_of(self.specs)

    @property
    def bytes_per_checkpoint(self) -> dict[str, int]:
        """Bytes of one checkpoint by `SET/PRODUCT`, before compression."""
        return layout_bytes(self.layouts)

    def require_disk(self, cells: int) -> None:
        """Refuse to start what cannot end.

        Raises
        ------
        InputError
            If the cells still to be captured need more than is free.
        """
        per_cell = sum(self.bytes_per_checkpoint.values()) / max(len(self.layouts), 1)
        needed = per_cell * cells
        free = free_disk(self.recipe.store)
        if needed > free:
            raise InputError(
                f"{self.recipe.store}: needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
                "free; free space, choose another `store`, or keep fewer points "
                "(capture.hidden.other_points)"
            )


def layouts_of(specs: Mapping[str, Spec]) -> dict[str, dict[str, ArraySpec]]:
    """Array specs by `SET/PRODUCT`, visits included, in capture order."""
    found = {}
    for name, spec in specs.items():
        for product in spec.capture.products:
            found[f"{name}/{product}"] = PRODUCTS[product].layout(spec)
        for visit in spec.capture.visits:
            found[f"{name}/{visit}"] = VISITS[visit].layout(spec)
    return found


def layout_bytes(layouts: Mapping[str, Mapping[str, ArraySpec]]) -> dict[str, int]:
    """Bytes of one checkpoint by `SET/PRODUCT`, before compression."""
    return {k: sum(a.bytes for a in layout.values()) for k, layout in layouts.items()}


def make_plan(
    recipe: Recipe,
    *,
    ask: bool = True,
    retry: bool = False,
    again: Sequence[str] = (),
    notice: Notice = lambda _: None,
) -> Plan:
    """Check a recipe against the series and the text it names.

    What is missing of a published series to begin with (commits, one configuration, the tokenizer, a
    sample of a hub's texts) is fetched. A store that has everything needs none of it.

    Parameters
    ----------
    recipe
        From `load_recipe`.
    ask
        Whether a hub may be asked; False takes what another process has fetched.
    retry, again
        Whether what failed is to be captured, and what is to be captured anew.
    notice
        Told of waits for a hub.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        If a file is missing, text is too short, a visit is unknown, or tokenizer and model differ; a
        `HubError` if something is missing and the hub cannot be used.
    """
    with concerning(recipe.source):
        check_recipe(recipe)
        known = remembered(recipe.store)
        pinned = pinned_series(recipe, known, ask=ask, notice=notice)
        with quiet_transformers():
            found = None if again else _of_store(recipe, known, pinned, retry)
            return found or _make_plan(recipe, known, pinned, ask, notice)


def pinned_series(
    recipe: Recipe, known: Remembered, *, ask: bool = True, notice: Notice = lambda _: None
) -> Pinned:
    """The series of a recipe with the commits that its store remembers, or that a hub tells."""
    with concerning(recipe.source):
        revisions = Known(tuple(known.revisions.values()), ask, notice)
        series = make_series(recipe.series, known=revisions)
        return pin(series, known, ask=ask, notice=notice)


def _of_store(recipe: Recipe, known: Remembered, pinned: Pinned, retry: bool) -> Plan | None:
    """The plan of what is captured already, from the store alone; None if anything is missing in it.

    Of published series only, whose commits say that configuration and tokenizer are those of before.
    """
    cells, series = cells_of(recipe), pinned.series
    if (
        known.shape is None
        or recipe.series.tokenizer is not None
        or recipe.memorisation.named
        or not all(c.repository for c in series.checkpoints)
        or not all(known.settled(c.label, cells, retry=retry) for c in series.checkpoints)
    ):
        return None
    sets = {}
    for name, table in recipe.inputs.items():
        found = stored_set(known, name, table, known.tokenizer)
        if found is None:
            return None
        sets[name] = found
    return _plan(recipe, series, known.shape, sets, known.vocabulary, known.tokenizer, pinned)


def cells_of(recipe: Recipe) -> list[str]:
    """What is captured of each checkpoint, as `SET/PRODUCT`, visits included."""
    return [
        f"{name}/{product}"
        for name in recipe.inputs
        for product in (*recipe.capture_of(name).products, *recipe.capture_of(name).visits)
    ]


def _make_plan(
    recipe: Recipe, known: Remembered, pinned: Pinned, ask: bool, notice: Notice
) -> Plan:
    table = recipe.series
    own = table.tokenizer is not None
    series = start(pinned, cache=table.cache, tokenizer=not own, ask=ask, notice=notice)
    shape = _first_shape(series)
    if series.tokenizer is None:
        raise InputError(
            f"{series.name}: no tokenizer is on this disk; run `phasescope fetch RECIPE` where "
            "there is a network, or set `series.tokenizer`"
        )
    tokenizer = load_tokenizer(series.tokenizer)
    digest = tokenizer_digest(tokenizer)
    sets = {
        name: make_set(recipe, known, name, tokenizer, digest, notice) for name in recipe.inputs
    }
    for inputs in sets.values():
        check_vocabulary(inputs, shape, series)
    # Rows of the unembedding beyond the tokenizer pad it to a round size and are no tokens.
    vocabulary = min(shape.vocabulary, len(tokenizer))
    ngrams = ngram_source(recipe, tokenizer, series.tokenizer, digest)
    return _plan(recipe, series, shape, sets, vocabulary, digest, pinned, ngrams)


def _plan(
    recipe: Recipe,
    series: Series,
    shape: ModelShape,
    sets: Mapping[str, InputSet],
    vocabulary: int,
    tokenizer: str,
    pinned: Pinned,
    ngrams: NgramSource | None = None,
) -> Plan:
    extra = recipe.capture.hidden.extra_positions
    specs = {
        name: Spec(
            inputs,
            choose_points(inputs, extra_positions=extra),
            shape,
            recipe.capture_of(name),
            vocabulary,
            ngrams,
            series.tokenizer,
        )
        for name, inputs in sets.items()
    }
    _check_heads(layouts_of(specs), shape)  # what a visit cannot do with a set is refused here too
    identity = _identity(specs, tokenizer, shape)
    if ngrams is not None:
        identity["memorisation"] = ngrams.digest
    return Plan(recipe, series, shape, specs, identity, series, pinned, ngrams)


def check_recipe(recipe: Recipe) -> None:
    """Refuse what no series could make right: visits, backends, a store without a place."""
    capture = recipe.capture
    free_disk(recipe.store)  # a name that no file system takes is refused here
    tables = {"capture.visits": capture}
    tables |= {f"inputs.{name}.visits": recipe.capture_of(name) for name in recipe.inputs}
    for key, table in tables.items():
        for visit in table.visits:
            if visit not in VISITS:
                raise InputError(
                    f"{recipe.source}: key `{key}`: no visit `{visit}`; known: {', '.join(VISITS)}"
                )
        check_supported(table, where=str(recipe.source))
        if "ngrams" in table.visits and not recipe.memorisation.named:
            raise InputError(
                f"{recipe.source}: key `{key}`: `ngrams` reads the text the model was trained on; add a "
                "table [memorisation] with `documents` or `index`"
            )
    if capture.device_map is not None:
        require_extra("large", "accelerate", where=f"{recipe.source}: key `capture.device_map`")


def make_series(table: SeriesTable, *, known: Known = NOTHING) -> Series:
    """The series that a recipe names, with its selection.

    Parameters
    ----------
    table
        `[series]`.
    known
        Revisions that a store remembers, should neither table nor hub tell them.
    """
    series = _whole_series(table, known)
    if table.tokenizer is not None:
        series = replace(series, tokenizer=table.tokenizer)
    return series.select(
        steps=table.steps,
        branches=table.branches,
        step_range=table.step_range,
        log_spaced=table.log_spaced,
    )


def _whole_series(table: SeriesTable, known: Known) -> Series:
    size, cache = table.size or "", table.cache
    match table.kind:
        case "gguf":
            return gguf(table.folder, package=table.package)
        case "pythia":
            return pythia(
                size,
                deduped=table.deduped,
                seed=table.seed,
                data_seed=table.data_seed,
                weight_seed=table.weight_seed,
                cache=cache,
            )
        case "olmo":
            return olmo(size, cache=cache, known=known)
        case "olmo2":
            return olmo2(size, early=table.early, cache=cache, known=known)
        case "olmo3":
            return olmo3(size, cache=cache, known=known)
        case "trained":
            return trained(table)
        case "stages":
            return stages(table.stages or {}, cache=cache)
        case "hub":
            return hub(
                table.repository or "",
                pattern=table.pattern,
                rate=table.tokens_per_step,
                cache=cache,
                known=known,
            )
    return local(table.folder, tokens_per_step=table.tokens_per_step, tokenizer=table.tokenizer)


def _first_shape(series: Series) -> ModelShape:
    """Sizes from the first checkpoint that can tell them; a damaged one fails alone, later."""
    failure = InputError(
        f"{series.name}: no checkpoint with a readable config.json is on this disk; run "
        "`phasescope fetch RECIPE` where there is a network"
    )
    for index, checkpoint in enumerate(series.checkpoints):
        path = located(checkpoint)
        if path is None:
            continue
        try:
            return read_shape(path)
        except InputError as error:
            failure = error if index == 0 else failure
    raise failure


def _identity(specs: dict[str, Spec], tokenizer: str, shape: ModelShape) -> dict[str, str]:
    found = {
        "schema": str(SCHEMA),
        "architecture": f"{shape.architecture} {shape.blocks}×{shape.width}×{shape.heads} "
        f"vocabulary {shape.vocabulary}",
        "tokenizer": tokenizer,
    }
    for name, spec in specs.items():
        capture = spec.capture
        found |= {
            "dtype": capture.dtype,
            "backend": capture.backend,
            "vocabulary": str(spec.vocabulary),
            "block": str(capture.block),
            f"inputs {name}": spec.inputs.digest,
        }
        for product in capture.products:
            options = json.dumps(dict(PRODUCTS[product].options(capture)), sort_keys=True)
            found[f"product {name}/{product}"] = options
        for visit in capture.visits:
            row = VISITS[visit]
            options = json.dumps(row.options(capture) | {"version": row.version}, sort_keys=True)
            found[f"product {name}/{visit}"] = options
    return found


def _check_heads(layouts: Mapping[str, Mapping[str, ArraySpec]], shape: ModelShape) -> None:
    """Refuse products of heads of a model that has none."""
    for label, layout in layouts.items():
        if shape.heads == 0 and any("head" in array.dims for array in layout.values()):
            name, product = label.split("/")
            key = "products" if product in PRODUCTS else "visits"
            raise InputError(
                f"key `capture.{key}`: {shape.architecture} has no attention, so `{product}` of the set "
                f"`{name}` cannot be captured; leave it out of capture.{key} or inputs.{name}.{key}"
            )


def free_disk(path: Path) -> int:
    """Bytes free where a file or folder is, or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
