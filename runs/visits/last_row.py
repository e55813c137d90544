"""A visit that measures attention entropy as the code of arXiv 2401.07004 does, and as its text says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from attention.columns import row_probabilities
from attention.entropy import row_entropy
from attention.reach import double_softmax
from runs.attention_tap import AttentionTap, attention_as, register
from runs.errors import InputError
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.visits.base import VisitRow


def _read(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    samples, length = full_samples(spec), spec.inputs.tokens.shape[1]
    shape = (spec.shape.blocks, spec.shape.heads)
    mean, twice = np.zeros((*shape, length)), np.zeros((*shape, length))
    entropy = np.zeros(shape)

    def inspect(
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rule: Mapping[str, Any],
        statistics: Mapping[str, torch.Tensor],
        output: torch.Tensor,
    ) -> None:
        normaliser, last = statistics["log_normaliser"], slice(length - 1, length)
        p = row_probabilities(query, key, normaliser, **rule, rows=last)[:, :, 0]
        rows = p.double().cpu().numpy()
        mean[block - 1] += rows.sum(axis=0)
        twice[block - 1] += double_softmax(rows).sum(axis=0)
        entropy[block - 1] += row_entropy(rows).sum(axis=0)

    size = spec.capture.micro_batch or spec.capture.block
    tap = AttentionTap(inspect=inspect)
    with torch.inference_mode(), attention_as(loaded.model, register()), tap:
        for start in range(0, len(samples), size):
            tokens = spec.inputs.tokens[samples[start : start + size]]
            loaded.forward(torch.as_tensor(tokens, dtype=torch.long, device=loaded.device))
    dims = ("block", "head")
    return xr.Dataset(
        {
            "entropy_of_mean": (dims, row_entropy(mean / len(samples))),
            "double_softmax": (dims, row_entropy(twice / len(samples))),
            "mean_entropy": (dims, entropy / len(samples)),
        }
    )


def full_samples(spec: Spec) -> NDArray[np.intp]:
    """The first samples as long as the set allows: their last rows see as many keys."""
    wanted, length = spec.capture.last_row.samples, spec.inputs.tokens.shape[1]
    there = np.flatnonzero(spec.inputs.length == length)[:wanted]
    if not len(there):
        raise InputError(
            f"key `inputs.{spec.inputs.name}.length`: no sample has all {length} tokens, and the visit "
            "`last_row` compares last rows; give a smaller length"
        )
    return there


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    full_samples(spec)
    shape, nan, units = (spec.shape.blocks, spec.shape.heads), float("nan"), {"units": "nats"}
    return {
        name: ArraySpec(("block", "head"), shape, "float64", nan, shape, units)
        for name in ("entropy_of_mean", "double_softmax", "mean_entropy")
    }


ROW = VisitRow(
    "last_row",
    _read,
    _layout,
    lambda capture: capture.last_row.model_dump(),
    version=1,
    source="entropy of the mean last row of attention, retrieve_attn.py of arXiv 2401.07004",
)
