"""The sets of a recipe: taken from its store, or tokenised from a file or from a hub's texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from runs.architectures import ModelShape
from runs.errors import InputError
from runs.hub.cache import cache_root
from runs.hub.client import Notice
from runs.hub.texts import Sample, TextSource, about, text_source
from runs.inputs import InputSet, Tokenizer, build_set, columns_of, load_tokenizer
from runs.recipe import InputTable, Recipe
from runs.remembered import DATASET, Remembered, remembered, source_of_set
from runs.series import Series


def make_set(
    recipe: Recipe,
    known: Remembered,
    name: str,
    tokenizer: Tokenizer,
    digest: str,
    notice: Notice,
) -> InputSet:
    """One set: as the store has it, if it was made from the same text, else tokenised now.

    Parameters
    ----------
    recipe
        From `load_recipe`.
    known
        What its store remembers.
    name
        Of the set.
    tokenizer, digest
        The series' tokenizer, and its digest.
    notice
        Told of waits for a hub.

    Raises
    ------
    InputError
        If the text cannot be had, or is too short.
    """
    table = recipe.inputs[name]
    found = stored_set(known, name, table, digest)
    if found is not None:
        return found
    if table.dataset is None:
        return replace(build_set(name, table, tokenizer), source=source_of_set(table, digest))
    folder = texts_folder(recipe)
    with about(f"inputs.{name}"):
        texts = texts_of(table, folder, commit=kept_commit(known, name, table), notice=notice)
    sample = Sample(texts, folder, notice, f"inputs.{name}")
    inputs = build_set(name, table, tokenizer, documents=sample)
    sample.keep()
    return replace(
        inputs,
        source=source_of_set(table, digest, texts.commit),
        texts=f"{table.dataset}@{table.revision} {texts.commit}",
        description=f"{inputs.description}, of {texts}",
    )


def stored_set(known: Remembered, name: str, table: InputTable, tokenizer: str) -> InputSet | None:
    """A set as the store has it; None if it was made from other text, or with another tokenizer."""
    source = source_of_set(table, tokenizer, kept_commit(known, name, table))
    return known.set_of(name, table, source) if source else None


def kept_commit(known: Remembered, name: str, table: InputTable) -> str:
    """The commit of a hub's texts that a set in the store was read at, if it is of the same data set."""
    found = known.inputs(name) if table.dataset else None
    if found is None:
        return ""
    what, _, commit = str(found.attrs.get(DATASET, "")).partition(" ")
    return commit if what == f"{table.dataset}@{table.revision}" else ""


def texts_of(
    table: InputTable, folder: Path, *, commit: str = "", notice: Notice = lambda _: None
) -> TextSource:
    """The texts of a hub that a table names, pinned to a commit."""
    assert table.dataset is not None
    return text_source(
        table.dataset,
        folder,
        config=table.config,
        split=table.split,
        revision=table.revision,
        text=table.text,
        columns=columns_of(table),
        seed=table.shuffle_seed,
        commit=commit,
        notice=notice,
    )


def fetch_texts(recipe: Recipe, series: Series, *, notice: Notice = lambda _: None) -> list[str]:
    """Bring the samples of a hub's texts that a recipe reads to this disk; a line for each."""
    told: list[str] = []
    for name, table in recipe.inputs.items():
        if table.dataset is not None and series.tokenizer is not None:
            tokenizer = load_tokenizer(series.tokenizer)
            found = make_set(recipe, remembered(recipe.store), name, tokenizer, "", notice)
            told.append(f"set {name}: {found.description}")
    return told


def texts_folder(recipe: Recipe) -> Path:
    """Where samples of a hub's texts are kept: beside the hub's cache."""
    return cache_root(recipe.series.cache) / "phasescope-texts"


def check_vocabulary(inputs: InputSet, shape: ModelShape, series: Series) -> None:
    """Refuse a tokenizer that knows more tokens than the model.

    Raises
    ------
    InputError
        If a token of the set is beyond the model's vocabulary.
    """
    largest = int(inputs.tokens.max())
    if largest >= shape.vocabulary:
        raise InputError(
            f"{series.tokenizer}: tokenizer and model do not match: token {largest} of "
            f"`inputs.{inputs.name}` and a vocabulary of {shape.vocabulary}; set `series.tokenizer`"
        )
