"""Many processes writing one store at once lose nothing, also while its checkpoint axis grows."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from runs.products.base import Arrays, ArraySpec
from runs.series import Checkpoint
from runs.writing import DONE, MISSING, StoreWriter

WRITERS, EACH, REPETITIONS = 8, 2, 50
LABEL = "probe/hidden"
# Several chunks a cell, and several arrays; no value equals a fill value.
LAYOUT = {
    "hidden": ArraySpec(
        ("layer", "point", "feature"), (3, 8, 4), "float32", float("nan"), (1, 4, 4)
    ),
    "n": ArraySpec(("pool",), (2,), "int64", 0, (2,)),
}


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(Path(f"step{step}"), step, step)


def values(step: int) -> Arrays:
    return {
        name: (1 + 1000 * step + np.arange(np.prod(a.shape)).reshape(a.shape)).astype(a.dtype)
        for name, a in LAYOUT.items()
    }


def fresh(path: Path) -> StoreWriter:
    writer = StoreWriter(path)
    writer.add_checkpoints([checkpoint(step) for step in range(WRITERS * EACH)])
    writer.add_product(LABEL, LAYOUT, {})
    return writer


def write_mine(index: int, folder: Path, barrier: Any) -> None:
    """Each repetition: wait for the others, write one's own cells; the last process grows the axis."""
    for repetition in range(REPETITIONS):
        barrier.wait()
        writer = StoreWriter(folder / f"{repetition}.zarr")
        for step in range(index, WRITERS * EACH, WRITERS):
            if index == WRITERS - 1:
                writer.add_checkpoints([checkpoint(1000 + step)])
            with writer.claim(f"{step}").wait():
                writer.write(LABEL, checkpoint(step).label, values(step))
                writer.set_cell(LABEL, checkpoint(step).label, error="", digest="d", status=DONE)
        barrier.wait()


def verify(path: Path) -> None:
    """Every value of every cell, and nothing in the rows that came meanwhile."""
    writer, root = StoreWriter(path), zarr.open_group(path, mode="r")
    labels, status = writer.labels(), writer.cells("status")
    assert len(labels) == WRITERS * EACH + EACH
    written = dict(zip(labels, status[:, 0], strict=True))
    for step in range(WRITERS * EACH):
        assert written.pop(checkpoint(step).label) == DONE
        row = labels.index(checkpoint(step).label)
        for name, expected in values(step).items():
            np.testing.assert_array_equal(root[f"sets/{LABEL}/{name}"][row], expected)
    assert set(written.values()) == {MISSING}
    assert not list(path.rglob("*.partial"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_parallel_writers_lose_no_chunk(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    barrier = context.Barrier(WRITERS + 1, timeout=300)
    fresh(tmp_path / "0.zarr")
    processes = [
        context.Process(target=write_mine, args=(i, tmp_path, barrier)) for i in range(WRITERS)
    ]
    for process in processes:
        process.start()
    for repetition in range(REPETITIONS):
        barrier.wait()
        if repetition + 1 < REPETITIONS:
            fresh(tmp_path / f"{repetition + 1}.zarr")
        barrier.wait()
        verify(tmp_path / f"{repetition}.zarr")
    for process in processes:
        process.join()
        assert process.exitcode == 0
