"""The recipe: one TOML file that says what to capture, from where and how."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from probes.repetition import SHORTEST, Repetition
from runs.errors import InputError, shown
from runs.scene_table import SceneKeys
from runs.tables import (
    CaptureTable,
    MemorisationTable,
    Name,
    PackageName,
    ProductName,
    Seed,
    Table,
    Whole,
    in_mode,
)
from runs.word_table import WordKeys

_DEEPEST = 16
_SERIES_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # kind: (required, allowed besides what every kind takes)
    "local": (("path",), ("tokens_per_step",)),
    "gguf": (("path",), ("package",)),
    "pythia": (("size",), ("deduped", "seed", "data_seed", "weight_seed")),
    "olmo": (("size",), ()),
    "olmo2": (("size",), ("early",)),
    "olmo3": (("size",), ()),
    "hub": (("repository",), ("pattern", "tokens_per_step")),
    "stages": (("stages",), ()),
    "trained": (("model", "path"), ("seeds", "training")),
}
_ON_A_HUB = ("cache", "prefetch", "keep", "disk_budget")
_EVERY_KIND = ("kind", "tokenizer", "branches", "steps", "step_range", "log_spaced", "accept")
_Count = Annotated[Whole, Field(ge=1)]
_Stage = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+(@[\w.-]+)?$")]


class SeriesTable(Table):
    """`[series]`: which checkpoints, in which order, and how many are on the disk at a time."""

    kind: Literal[
        "local", "gguf", "pythia", "olmo", "olmo2", "olmo3", "hub", "stages", "trained"
    ] = "local"
    path: Path | None = None
    package: PackageName | None = None
    size: str | None = None
    deduped: bool = False
    seed: _Count | None = None
    data_seed: _Count | None = None
    weight_seed: _Count | None = None
    early: bool = True
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    stages: Annotated[dict[Name, _Stage], Field(min_length=1)] | None = None
    model: Literal["neox", "lstm", "feedforward", "tiny-vlm"] | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    training: dict[Name, Any] = Field(default_factory=dict)
    pattern: str | None = None
    cache: Path | None = None
    tokens_per_step: Annotated[Whole, Field(gt=0)] | None = None
    tokenizer: Path | None = None
    branches: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    steps: Annotated[tuple[Whole, ...], Field(min_length=1)] | None = None
    step_range: tuple[Whole, Whole] | None = None
    log_spaced: Annotated[Whole, Field(ge=2)] | None = None
    accept: tuple[str, ...] = ()
    prefetch: Annotated[Whole, Field(ge=0)] = 1
    keep: Literal["all", "none"] = "all"
    disk_budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SeriesTable:
        required, more = _SERIES_KEYS[self.kind]
        for key in required:
            if getattr(self, key) is None:
                raise ValueError(f'`{key}` is required with kind = "{self.kind}"')
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("`seeds` names a seed twice")
        hub = () if self.kind in ("local", "gguf", "trained") else _ON_A_HUB
        allowed = {*_EVERY_KIND, *required, *more, *hub}
        for key in sorted(self.model_fields_set - allowed):
            raise ValueError(
                f'`{key}` does not go with kind = "{self.kind}", which takes '
                f"{', '.join(sorted(allowed - {'kind'}))}"
            )
        return self

    @property
    def folder(self) -> Path:
        """`path`, which kinds without a hub require."""
        assert self.path is not None
        return self.path


_FROM_A_HUB = ("config", "split", "revision", "column")
_TEXT_KEYS = (
    "path",
    "dataset",
    *_FROM_A_HUB,
    "length",
    "text",
    "answer",
    "min_length",
    "labels",
    "group",
)
_REPEATED_KEYS = ("period", "repeats", "id_range")


class InputTable(WordKeys, SceneKeys):
    """`[inputs.NAME]`: one named set of inputs; `mode` and `length` decide results, so are required.

    With mode `repeated` there is no text: `period`, `repeats`, `limit` and `shuffle_seed` are required,
    and `length` follows from them. With mode `words` a sample is a window of words: see `WordKeys`; with
    mode `scenes` it is an image with a text and a question: see `SceneKeys`.

    Text is in a file (`path`) or in a data set of a hub (`dataset`, with `config`, `split`, `revision`
    and `column`), of which a sample of `limit` is read.
    """

    path: Path
    dataset: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    config: Annotated[str, Field(min_length=1)] | None = None
    split: Annotated[str, Field(min_length=1)] = "train"
    revision: Annotated[str, Field(min_length=1, max_length=200)] = "main"
    column: str | None = Field(default=None, exclude=True)  # of a data set: `text` by another name
    mode: Literal["document", "packed", "repeated", "words", "scenes"]
    length: Annotated[Whole, Field(ge=2)]
    text: str = "text"
    answer: str | None = None
    min_length: Annotated[Whole, Field(ge=2)] = 2
    add_bos: bool = False
    shuffle_seed: Seed | None = None
    limit: Annotated[Whole, Field(ge=8)] | None = None
    labels: tuple[Name, ...] = ()
    group: str | None = None
    period: Annotated[Whole, Field(ge=SHORTEST)] | None = None
    repeats: Annotated[Whole, Field(ge=2, le=64)] | None = None
    id_range: tuple[Seed, Seed] | None = None
    products: tuple[ProductName, ...] | None = None
    visits: tuple[Name, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_text(cls, table: Any) -> Any:
        """Refuse keys of text in mode `repeated`, and fill in those that follow from the others."""
        if not in_mode(table, "repeated", own=_REPEATED_KEYS, foreign=_TEXT_KEYS):
            return table
        for key in ("period", "repeats", "limit", "shuffle_seed"):
            if table.get(key) is None:
                raise ValueError(f'`{key}` is required with mode = "repeated"')
        sizes = (table["period"], table["repeats"])
        # Values of another kind are refused by name further on.
        known = all(type(size) is int and 0 < size < 2**31 for size in sizes)
        length = sizes[0] * sizes[1] + (table.get("add_bos") is True) if known else 2
        return {**table, "path": Path(), "length": max(length, 2)}

    @model_validator(mode="before")
    @classmethod
    def _from_a_hub(cls, table: Any) -> Any:
        """Refuse keys of a data set without one, and a file beside one; fill in what follows."""
        if not isinstance(table, Mapping):
            return table
        given = [key for key in _FROM_A_HUB if key in table]
        if "dataset" not in table:
            if given:
                raise ValueError(f"`{given[0]}` goes with `dataset` only")
            return table
        if "path" in table:
            raise ValueError("`path` does not go with `dataset`: give one of them")
        if table.get("mode") not in ("document", "packed"):
            raise ValueError('`dataset` goes with mode = "document" or "packed"')
        if table.get("limit") is None:
            raise ValueError("`limit` is required with `dataset`: how many samples are read of it")
        if "column" in table and "text" in table:
            raise ValueError("`column` and `text` mean the same: give one of them")
        column = table.get("column")
        return {**table, "path": Path(), **({"text": column} if isinstance(column, str) else {})}

    @model_validator(mode="after")
    def _consistent(self) -> InputTable:
        if self.id_range is not None and self.id_range[0] >= self.id_range[1]:
            raise ValueError(
                f"id_range {list(self.id_range)}: give the first id, then one beyond it"
            )
        if self.min_length > self.length:
            raise ValueError(f"min_length {self.min_length} is longer than length {self.length}")
        if self.mode == "packed" and self.labels:
            raise ValueError('labels need mode = "document": a packed sample has many documents')
        if self.mode == "packed" and self.answer:
            raise ValueError('answer needs mode = "document": a packed sample has many documents')
        return self

    @property
    def repetition(self) -> Repetition | None:
        """How samples are laid out, in mode `repeated`."""
        if self.period is None or self.repeats is None:
            return None
        return Repetition(self.period, self.repeats, int(self.add_bos))


class MeasuresTable(Table):
    """`[measures]`: which measures `run` computes; all that the products allow unless named."""

    names: tuple[str, ...] | None = None


class PhasesTable(Table):
    """`[phases]`: how change points are looked for."""

    max_breaks: Annotated[Whole, Field(ge=0, le=8)] = 4
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    seed: Seed = 0


class Recipe(Table):
    """A whole recipe; relative paths are relative to the recipe's own folder.

    Attributes
    ----------
    name : str
        Title of figures and report.
    store : Path
        The Zarr store to write.
    series, inputs, capture, measures, phases, memorisation
        One table each; see the classes of this module.
    source : Path
        The file this recipe was read from.
    text : str
        The file's text, kept in the store.
    """

    name: str
    store: Path
    series: SeriesTable
    inputs: Annotated[dict[Name, InputTable], Field(min_length=1)]
    capture: CaptureTable = CaptureTable()
    measures: MeasuresTable = MeasuresTable()
    phases: PhasesTable = PhasesTable()
    memorisation: MemorisationTable = MemorisationTable()
    source: Path = Field(default=Path("recipe.toml"), exclude=True)
    text: str = Field(default="", exclude=True)

    def capture_of(self, name: str) -> CaptureTable:
        """`[capture]` as it is for one set: with its own products and visits, if it names any."""
        entry = self.inputs[name]
        own = {"products": entry.products, "visits": entry.visits}
        return self.capture.model_copy(update={k: v for k, v in own.items() if v is not None})


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path
        A TOML file.

    Returns
    -------
    Recipe
        With every path made absolute.

    Raises
    ------
    InputError
        If the file is missing or not TOML, or a key is unknown or has a wrong value; the line names
        the file, the key and the nearest known key or the value wanted.
    """
    source = Path(path)
    text, raw = _read(source)
    _check_values(source, raw)
    for reserved in ("source", "text"):
        if reserved in raw:
            raise InputError(_unknown(source, (reserved,), Recipe))
    try:
        recipe = Recipe.model_validate({**raw, "source": source, "text": text})
    except ValidationError as error:
        raise InputError(_first_line(source, error)) from None
    return _absolute(recipe, source.resolve().parent)


def _read(source: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = source.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError:
        raise InputError(
            f"{source}: no such recipe; `phasescope demo` writes one to copy"
        ) from None
    except IsADirectoryError:
        raise InputError(f"{source}: is a folder; give the recipe's .toml file") from None
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{source}: is not UTF-8 text; a recipe is a TOML file") from None
    except RecursionError:
        raise InputError(f"{source}: is not valid TOML: nested too deeply") from None
    except ValueError as error:  # a TOMLDecodeError, or a number of thousands of digits
        raise InputError(f"{source}: is not valid TOML: {error}") from None


def _check_values(source: Path, value: Any, key: tuple[str, ...] = ()) -> None:
    """Refuse what TOML can spell and neither a file name nor a store can hold."""
    if len(key) > _DEEPEST:  # dotted keys nest without end
        raise InputError(f"{source}: key `{'.'.join(key[:3])}…`: nested too deeply")
    if isinstance(value, Mapping):
        for name, part in value.items():
            _check_values(source, part, (*key, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _check_values(source, part, (*key, str(index)))
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InputError(f"{source}: key `{'.'.join(key)}`: a whole number has at most 64 bits")
    elif isinstance(value, str) and "\0" in value:
        raise InputError(f"{source}: key `{'.'.join(key)}`: holds a NUL character; remove it")


def _absolute(recipe: Recipe, folder: Path) -> Recipe:
    def absolute(path: Path) -> Path:
        # Unlike Path.expanduser, this leaves the home of an unknown user as it stands.
        return Path(os.path.normpath(folder / os.path.expanduser(path)))

    table = recipe.series
    series = table.model_copy(
        update={
            "path": table.path if table.package or not table.path else absolute(table.path),
            "cache": table.cache and absolute(table.cache),
            "tokenizer": table.tokenizer and absolute(table.tokenizer),
        }
    )
    inputs = {
        name: entry.model_copy(update={"path": absolute(entry.path)})
        for name, entry in recipe.inputs.items()
    }
    corpus = recipe.memorisation
    memorisation = corpus.model_copy(
        update={
            name: found and absolute(found)
            for name in ("documents", "index", "cache")
            for found in (getattr(corpus, name),)
        }
    )
    tasks = recipe.capture.lm_eval
    own = tasks.include_path and absolute(tasks.include_path)
    capture = recipe.capture.model_copy(
        update={"lm_eval": tasks.model_copy(update={"include_path": own})}
    )
    return recipe.model_copy(
        update={
            "series": series,
            "inputs": inputs,
            "store": absolute(recipe.store),
            "memorisation": memorisation,
            "capture": capture,
        }
    )


def _first_line(source: Path, error: ValidationError) -> str:
    # A misspelt key is also a missing one: the misspelling tells more.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    location = tuple(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown(source, location, _table_at(location[:-1]))
    key = ".".join(part for part in location if part != "[key]") or "recipe"
    if first["type"] == "missing":
        return f"{source}: key `{key}` is required and missing"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    found = "" if isinstance(given, Mapping) else f" (found {shown(given)})"
    return f"{source}: key `{key}`: {message}{found}"


def _unknown(source: Path, location: tuple[str, ...], table: type[BaseModel]) -> str:
    known = [name for name in table.model_fields if name not in ("source", "text")]
    near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"{source}: unknown key `{'.'.join(location)}`; {hint}"


def _table_at(location: tuple[str, ...]) -> type[BaseModel]:
    table: type[BaseModel] = Recipe
    for part in location:
        if table is Recipe and part == "inputs":
            table = InputTable
            continue
        field: Any = table.model_fields.get(part)
        if (
            field is not None
            and isinstance(field.annotation, type)
            and issubclass(field.annotation, BaseModel)
        ):
            table = field.annotation
    return table
