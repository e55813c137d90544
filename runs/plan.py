"""The plan: everything a run needs to know before it loads a weight."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from runs.architectures import ModelShape
from runs.backends import check_supported
from runs.errors import InputError, concerning
from runs.hub import located
from runs.inputs import InputSet, build_set, load_tokenizer, tokenizer_digest
from runs.loading import quiet_transformers, read_shape
from runs.ngrams.source import NgramSource, ngram_source
from runs.packages import require_extra
from runs.points import choose_points
from runs.products import PRODUCTS
from runs.products.base import ArraySpec, Spec
from runs.recipe import Recipe, SeriesTable
from runs.series import Series, gguf, hub, local, olmo, olmo2, olmo3, pythia, stages
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
    """

    recipe: Recipe
    series: Series
    shape: ModelShape
    specs: dict[str, Spec]
    identity: dict[str, str]
    whole: Series
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


def make_plan(recipe: Recipe) -> Plan:
    """Check a recipe against the series and the text it names.

    Parameters
    ----------
    recipe
        From `load_recipe`.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        If a file is missing, text is too short, a visit is unknown, or tokenizer and model differ.
    """
    with concerning(recipe.source):
        check_recipe(recipe)
        return _make_plan(recipe)


def _make_plan(recipe: Recipe) -> Plan:
    capture = recipe.capture
    series = make_series(recipe.series)
    with quiet_transformers():
        shape = _first_shape(series)
        if series.tokenizer is None:
            raise InputError(
                f"{series.name}: no tokenizer is on this disk; run `phasescope fetch RECIPE` where "
                "there is a network, or set `series.tokenizer`"
            )
        tokenizer = load_tokenizer(series.tokenizer)
        sets = {name: build_set(name, entry, tokenizer) for name, entry in recipe.inputs.items()}
    for inputs in sets.values():
        _check_vocabulary(inputs, shape, series)
    # Rows of the unembedding beyond the tokenizer pad it to a round size and are no tokens.
    vocabulary = min(shape.vocabulary, len(tokenizer))
    known = tokenizer_digest(tokenizer)
    ngrams = ngram_source(recipe, tokenizer, series.tokenizer, known)
    specs = {
        name: Spec(
            inputs,
            choose_points(inputs, extra_positions=capture.hidden.extra_positions),
            shape,
            recipe.capture_of(name),
            vocabulary,
            ngrams,
            series.tokenizer,
        )
        for name, inputs in sets.items()
    }
    _check_heads(layouts_of(specs), shape)  # what a visit cannot do with a set is refused here too
    identity = _identity(specs, known, shape)
    if ngrams is not None:
        identity["memorisation"] = ngrams.digest
    return Plan(recipe, series, shape, specs, identity, series, ngrams)


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


def series_of(recipe: Recipe) -> Series:
    """The series of a recipe; what is wrong with it is said of the recipe's file."""
    with concerning(recipe.source):
        return make_series(recipe.series)


def make_series(table: SeriesTable) -> Series:
    """The series that a recipe names, with its selection."""
    series = _whole_series(table)
    if table.tokenizer is not None:
        series = replace(series, tokenizer=table.tokenizer)
    return series.select(
        steps=table.steps,
        branches=table.branches,
        step_range=table.step_range,
        log_spaced=table.log_spaced,
    )


def _whole_series(table: SeriesTable) -> Series:
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
            return olmo(size, cache=cache)
        case "olmo2":
            return olmo2(size, early=table.early, cache=cache)
        case "olmo3":
            return olmo3(size, cache=cache)
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


def _check_vocabulary(inputs: InputSet, shape: ModelShape, series: Series) -> None:
    largest = int(inputs.tokens.max())
    if largest >= shape.vocabulary:
        raise InputError(
            f"{series.tokenizer}: tokenizer and model do not match: token {largest} of "
            f"`inputs.{inputs.name}` and a vocabulary of {shape.vocabulary}; set `series.tokenizer`"
        )


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
