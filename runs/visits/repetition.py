"""What visits to sets of repeated tokens share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from probes.repetition import Repetition
from runs.errors import InputError
from runs.loaded import LoadedModel
from runs.products.base import Spec

Heads = frozenset[tuple[int, int]]


def layout_of(spec: Spec, visit: str) -> Repetition:
    """How the set repeats its tokens.

    Raises
    ------
    InputError
        If it is no set of repeated tokens.
    """
    if spec.inputs.repetition is None:
        raise InputError(
            f'key `inputs.{spec.inputs.name}`: visit `{visit}` needs mode = "repeated"; name it in that '
            "set's own `visits`"
        )
    return spec.inputs.repetition


def parts(spec: Spec, count: int | None = None) -> Iterator[slice]:
    """Rows of samples that go through the model together."""
    samples = spec.inputs.samples if count is None else min(count, spec.inputs.samples)
    size = spec.capture.micro_batch or spec.capture.block
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))


def copy_means(surprisals: NDArray[np.float64], layout: Repetition) -> NDArray[np.float64]:
    """Mean surprisal of each copy (copy, sample) from (sample, position − 1)."""
    found: NDArray[np.float64] = surprisals[:, layout.copies - 1].mean(-1).T
    return found


def copy_losses(
    loaded: LoadedModel, spec: Spec, layout: Repetition, *, zero_heads: Heads, samples: int
) -> NDArray[np.float64]:
    """Mean surprisal in nats of each copy (copy, sample), with some heads silenced together."""
    found = [
        loaded.surprisals(
            spec.inputs.tokens[rows],
            spec.inputs.length[rows],
            zero_heads=zero_heads,
            vocabulary=spec.vocabulary,
        )
        for rows in parts(spec, samples)
    ]
    return copy_means(np.concatenate(found), layout)
