"""Phases of measures that are not all of one age."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from runs.phases import find_phases
from runs.recipe import PhasesTable


def curve(steps: list[int], values: list[float], tokens: list[int] | None = None) -> xr.Dataset:
    shape = ("checkpoint", "layer")
    return xr.Dataset(
        {
            "value": (shape, np.array(values, float)[:, None]),
            "standard_error": (shape, np.full((len(steps), 1), 0.01)),
        },
        coords={
            "checkpoint": [f"main/step{s}" for s in steps],
            "step": ("checkpoint", steps),
            "tokens": ("checkpoint", tokens or [10 * s for s in steps]),
            "branch": ("checkpoint", ["main"] * len(steps)),
        },
    )


@pytest.mark.parametrize("order", [1, -1])
def test_phases_are_of_the_checkpoints_both_measures_have(order: int) -> None:
    steps = [2**i for i in range(12)]
    rank = [8.0 * 2 ** abs(i - 6) for i in range(12)]
    alpha = [1.0 + 0.1 * abs(i - 6) for i in range(12)]
    whole = {"log_rankme": curve(steps, rank), "alpha": curve(steps, alpha)}
    longer = {**whole, "log_rankme": curve([*steps, 9000], [*rank, 700.0])}
    longer["log_rankme"] = longer["log_rankme"].isel(checkpoint=slice(None, None, order))
    expected = find_phases(whole, "main", PhasesTable())
    xr.testing.assert_identical(find_phases(longer, "main", PhasesTable()), expected)


def test_checkpoints_of_the_same_tokens_count_once() -> None:
    both = curve([0, 1, 2], [4.0, 5.0, 6.0], tokens=[0, 0, 0])
    found = find_phases({"log_rankme": both, "alpha": both}, "main", PhasesTable())
    assert found.attrs["note"].endswith("at least 8 are needed")
