"""Layouts: what a plan says of the disk is what a store takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runs.architectures import ModelShape
from runs.inputs import FOLDS, InputSet
from runs.points import choose_points
from runs.products.base import Spec
from runs.products.hidden import Hidden
from runs.series import Checkpoint
from runs.tables import CaptureTable, HiddenTable
from runs.writing import StoreWriter


def spec_of(samples: int, kept: int, width: int = 8) -> Spec:
    rows = np.arange(samples, dtype=np.int32)
    inputs = InputSet(
        "probe",
        np.zeros((samples, 4), np.int32),
        np.full(samples, 4, np.int32),
        (rows % FOLDS + 1).astype(np.uint8),
        rows,
    )
    capture = CaptureTable(hidden=HiddenTable(other_points=kept))
    shape = ModelShape("GPTNeoXForCausalLM", 2, width, 2, 64)
    return Spec(inputs, choose_points(inputs), shape, capture, 64)


@pytest.mark.parametrize(("samples", "kept"), [(40, 2048), (1000, 300), (600, 1), (600, 600)])
def test_hidden_states_take_the_bytes_the_plan_says(
    tmp_path: Path, samples: int, kept: int
) -> None:
    spec = spec_of(samples, kept)
    layout = Hidden().layout(spec)
    array = layout["hidden"]
    values = np.ones(array.shape, array.dtype)
    values[:-1, kept:] = np.nan
    writer = StoreWriter(tmp_path / "store.zarr")
    writer.add_checkpoints([Checkpoint(Path("x"), 1, 1)])
    writer.add_product("probe/hidden", layout, {})
    writer.write("probe/hidden", "main/step1", {"hidden": values})
    folder = tmp_path / "store.zarr/sets/probe/hidden/hidden/c"
    chunks = [p for p in folder.rglob("*") if p.is_file()]
    checksums = 4 * len(chunks)
    assert sum(p.stat().st_size for p in chunks) == array.bytes + checksums


def test_layers_of_few_points_do_not_fill_the_disk() -> None:
    """15,000 documents through a model of width 5120: a layer that keeps 2048 takes their bytes."""
    array = Hidden().layout(spec_of(15_000, 2048, width=5120))["hidden"]
    row, others = 5120 * 4, array.shape[0] - 1
    assert array.bytes <= (others * 2048 + 15_000 + 2048) * row
    assert array.chunks[1] * row <= 64 << 20
