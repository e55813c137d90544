"""Series trained here: `kind = "trained"`, one branch a seed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from runs.checkpoints import Series, in_order
from runs.errors import InputError, shown
from runs.folders import local
from runs.models.training_run import Trainer, TrainingRun, finished
from runs.recipe import SeriesTable

# The module of each model; its `TRAINER` says how it is configured and trained.
_MODULES = {
    "neox": "runs.models.pretrain",
    "tiny-vlm": "runs.models.vlm_training",
    "lstm": "runs.models.recurrent",
    "feedforward": "runs.models.feedforward",
}
_NOT_HERE = {"seed": "set `series.seeds`"}


def trainer_of(model: str) -> Trainer:
    """The trainer of a `series.model`."""
    found: Trainer = import_module(_MODULES[model]).TRAINER
    return found


def trained(table: SeriesTable) -> Series:
    """The series in the folders of a recipe's runs, a branch `seed-N` each.

    Raises
    ------
    InputError
        If a run is not trained to its end yet, or its tokenizer is not that of the others.
    """
    runs = runs_of(table)
    missing = [folder for folder, run in runs if not is_finished(folder, run)]
    if missing:
        raise InputError(f"{missing[0]}: not trained yet; `phasescope run RECIPE` trains it first")
    parts = []
    for (folder, _), seed in zip(runs, table.seeds, strict=True):
        found = local(folder)
        branch = f"seed-{seed}"
        checkpoints = [replace(c, branch=branch) for c in found.checkpoints]
        parts.append(replace(found, checkpoints=tuple(checkpoints)))
    _same_tokenizers(parts)
    whole = in_order(c for part in parts for c in part.checkpoints)
    return Series(parts[0].name, whole, parts[0].tokenizer)


def untrained(table: SeriesTable) -> int:
    """How many runs of a recipe's series are still to be trained."""
    if table.kind != "trained":
        return 0
    return sum(not is_finished(folder, run) for folder, run in runs_of(table))


def is_finished(folder: Path, run: TrainingRun) -> bool:
    """Whether a folder holds the whole run."""
    try:
        return finished(folder, run)
    except (OSError, ValueError, KeyError, TypeError):  # a damaged manifest is told by training
        return False


def runs_of(table: SeriesTable) -> list[tuple[Path, TrainingRun]]:
    """The folder of each seed and what is trained in it.

    Raises
    ------
    InputError
        If a setting is unknown or wrong.
    """
    assert table.model is not None
    configs = [_config(table.model, table.training, seed) for seed in table.seeds]
    runs = [_run(table.model, config) for config in configs]
    return [(table.folder / f"seed-{s}", run) for s, run in zip(table.seeds, runs, strict=True)]


@cache
def _run(model: str, config: Any) -> TrainingRun:
    """Material is read and digested once a process."""
    return trainer_of(model).run(config)


def _config(model: str, settings: Mapping[str, Any], seed: int) -> Any:
    kind = trainer_of(model).config
    known = [f.name for f in fields(kind) if f.name not in _NOT_HERE]
    for name in settings:
        key = f"key `series.training.{name}`"
        if name in _NOT_HERE:
            raise InputError(f"{key}: {_NOT_HERE[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
            raise InputError(f"unknown key `series.training.{name}`; {hint}")
    try:
        return TypeAdapter(kind).validate_python({**settings, "seed": seed})
    except ValidationError as error:
        raise InputError(_line(error)) from None


def _line(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(("series", "training", *(str(part) for part in first["loc"])))
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    found = "" if isinstance(given, Mapping) or not first["loc"] else f" (found {shown(given)})"
    return f"key `{key}`: {message}{found}"


def _same_tokenizers(parts: Sequence[Series]) -> None:
    contents = [(Path(str(part.tokenizer)) / "tokenizer.json").read_bytes() for part in parts]
    for part, content in zip(parts, contents, strict=True):
        if content != contents[0]:
            raise InputError(
                f"{part.tokenizer}: its tokenizer is not that of {parts[0].tokenizer}; remove the "
                "folder to train it again"
            )
