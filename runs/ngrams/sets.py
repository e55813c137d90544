"""What the training text says of a set: the ∞-gram's answer at every token, kept in the store once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from rich.console import Console

from runs.inputs import InputSet
from runs.measures import write_node
from runs.ngrams.engine import NgramIndex
from runs.ngrams.source import NgramSource
from runs.products.base import Spec
from runs.progress import simple_bar
from runs.writing import StoreWriter

NODE = "infinigram"
SUFFIXES = (3, 4, 5, 6, 7, 8, np.iinfo(np.int32).max)  # Table 7 of arXiv 2509.23024


def read_set(
    index: NgramIndex,
    inputs: InputSet,
    *,
    vocabulary: int,
    advance: Callable[[int], None] = lambda _: None,
) -> xr.Dataset:
    """Ask an index about every token of a set.

    Parameters
    ----------
    index
        An open index.
    inputs
        The set.
    vocabulary
        Number of tokens there are; kept for the measures.
    advance
        Called with the number of samples done.

    Returns
    -------
    xarray.Dataset
        `probability`, `suffix_length`, `prompt_count` and `continuation_count` (sample,
        ngram_position). As in `tokens`, position i speaks of token i + 1, given tokens 0…i of the
        sample and nothing before it; NaN and −1 where there is none, and outside the answers of a set
        that has answers. `suffix_bin`: the longest suffix of each column of the paper's table.

    Notes
    -----
    Some 10,000 tokens a second from memory; nothing is cut, the prompt is the whole sample so far.
    """
    shape = inputs.tokens.shape
    probability = np.full(shape, np.nan)
    numbers = np.full((3, *shape), -1, np.int64)
    for row in range(inputs.samples):
        tokens = inputs.tokens[row, : inputs.length[row]].tolist()
        # Of a set with answers only the answers are scored, and not the end of text behind them.
        first = 1 if inputs.answer is None else int(inputs.answer[row])
        last = len(tokens) - (inputs.answer is not None)
        for i, answer in enumerate(index.sequence(tokens)):
            if not first <= i + 1 < last:
                continue
            probability[row, i] = answer.probability
            numbers[:, row, i] = (
                answer.suffix_length,
                answer.prompt_count,
                answer.continuation_count,
            )
        advance(1)
    dims = ("sample", "ngram_position")
    names = ("suffix_length", "prompt_count", "continuation_count")
    return xr.Dataset(
        {
            "probability": (dims, probability),
            **{name: (dims, values) for name, values in zip(names, numbers, strict=True)},
            "vocabulary": ((), np.int64(vocabulary)),
        },
        {"suffix_bin": np.array(SUFFIXES, np.int64)},
    )


def write_sets(
    specs: Mapping[str, Spec], source: NgramSource | None, writer: StoreWriter, console: Console
) -> None:
    """Keep the ∞-gram's answers for every set that lacks them; by one process at a time."""
    if source is None or all(_is_there(writer, name) for name in specs):
        return
    with writer.claim("ngrams").wait(poll=0.5):
        todo = {name: spec for name, spec in specs.items() if not _is_there(writer, name)}
        total = sum(spec.inputs.samples for spec in todo.values())
        with simple_bar(console) as bar:
            task = bar.add_task("∞-grams", total=total, note="index", visible=bool(todo))
            for name, spec in todo.items():
                index = source.open()
                bar.update(task, note=name)
                found = read_set(
                    index,
                    spec.inputs,
                    vocabulary=spec.vocabulary,
                    advance=lambda n: bar.update(task, advance=n),
                )
                told: dict[str, Any] = {"corpus": source.digest, "units": "1"}
                write_node(writer.path, f"sets/{name}/{NODE}", found.assign_attrs(told))
            bar.update(task, note="")


def _is_there(writer: StoreWriter, name: str) -> bool:
    group = zarr.open_group(writer.path, mode="r")
    node = group.get(f"sets/{name}/{NODE}")
    return isinstance(node, zarr.Group) and "complete" in node.attrs
