"""How many samples are taken at a time, from what is free."""

from __future__ import annotations

import numpy as np
import pytest

import runs.memory
from runs.architectures import ModelShape
from runs.inputs import InputSet
from runs.memory import fitting_micro_batch
from runs.points import choose_points
from runs.products import Spec
from runs.tables import CaptureTable


def spec(length: int, products: tuple[str, ...] = ("attention",)) -> Spec:
    samples = 8
    inputs = InputSet(
        "x",
        np.zeros((samples, length), np.int32),
        np.full(samples, length, np.int32),
        np.arange(1, 9, dtype=np.uint8),
        np.arange(samples, dtype=np.int32),
        digest="0" * 64,
    )
    shape = ModelShape("X", 4, 128, 4, 100)
    table = CaptureTable.model_validate({"products": products, "block": 16})
    return Spec(inputs, choose_points(inputs), shape, table, 100)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_less_memory_gives_smaller_parts_down_to_one(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    sizes = []
    for free in (10**12, 10**9, 10**8, 10**7, 1):
        monkeypatch.setattr(runs.memory, "free_bytes", lambda _, free=free: free)
        sizes.append(fitting_micro_batch(spec(1024)))
    assert sizes[0] == 16
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)


def test_longer_samples_more_processes_and_kept_states_leave_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs.memory, "free_bytes", lambda _: 3 * 10**8)
    base = fitting_micro_batch(spec(1024))
    assert 1 < base < 16
    assert fitting_micro_batch(spec(4096)) < base
    assert fitting_micro_batch(spec(1024), companions=2) < base
    assert fitting_micro_batch(spec(1024, ("moments",))) < base


def test_what_is_free_is_asked_of_the_machine() -> None:
    assert 10**6 < runs.memory.free_bytes("cpu") < 10**15
